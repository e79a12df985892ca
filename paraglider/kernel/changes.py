"""Changes: whether somebody may have changed rules since one last asked.

Of nftables the kernel tells who listens, so that asking costs nothing while nobody does anything.
Of the legacy tables it tells nobody: there the answer is yes every few seconds.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable

from paraglider.kernel.iptables import Variant

LEGACY_POLL_S = 5.0

# linux/netlink.h, linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_CHUNK_BYTES = 1 << 16
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, and three that do not matter
# linux/netfilter/nf_tables.h: what is new or gone of tables, chains and rules. Elements of sets,
# which some hosts change all the time, move no rule.
_NFNL_SUBSYS_NFTABLES = 10
_TELLING = frozenset(_NFNL_SUBSYS_NFTABLES << 8 | number for number in (0, 2, 3, 5, 6, 8))


class Changes:
    """Tells of changes of the rules of one variant, one's own included."""

    def __init__(self, variant: Variant, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s = clock()
        self._feed = _open_feed() if variant is Variant.NFT else None
        self._is_new = self._feed is not None

    def seen(self) -> bool:
        """Return whether there may have been one since the last call.

        The first answer is yes: nobody knows what was changed before there was somebody to listen.
        """
        if self._feed is not None:
            is_new, self._is_new = self._is_new, False
            try:
                return _drain(self._feed) or is_new
            except OSError:  # it says no more: look every few seconds instead
                self.close()
        if self._clock() - self._asked_s < LEGACY_POLL_S:
            return False
        self._asked_s = self._clock()
        return True

    def close(self) -> None:
        """Stop listening."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None


def _open_feed() -> socket.socket | None:
    """Return a socket in the group that hears of every change of nftables in this namespace; None
    where the kernel does not let us into it."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    feed = None
    try:
        feed = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        feed.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
    except OSError:
        if feed is not None:
            feed.close()
        return None
    return feed


def _drain(feed: socket.socket) -> bool:
    """Read all that is there; return whether a change was among it, or may have been."""
    is_any = False
    while True:
        try:
            is_any |= _tells(feed.recv(_CHUNK_BYTES))
        except BlockingIOError:
            return is_any
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            is_any = True  # more than the socket holds


def _tells(messages: bytes) -> bool:
    """Return whether one of some netlink messages tells of a table, a chain or a rule."""
    start = 0
    while start + _HEADER.size <= len(messages):
        length, kind, *_ = _HEADER.unpack_from(messages, start)
        if kind in _TELLING:
            return True
        start += max((length + 3) & ~3, _HEADER.size)  # NLMSG_ALIGN
    return False
