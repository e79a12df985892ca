"""Changes: whether somebody else may have changed rules since one last asked, and who.

Of nftables the kernel tells who listens, at once, and it costs nothing while nobody does anything.
Of the legacy tables it tells nobody: there somebody looks (legacy_tables.py). To miss a change is
what must never happen; one too many that was none costs a look at the rules.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paraglider.kernel.iptables import Variant
from paraglider.kernel.legacy_tables import BLIND_S, LegacyWatch
from paraglider.kernel.netlink import (
    CHUNK_BYTES,
    NETLINK_NETFILTER,
    NFT_DEL_CHAIN,
    NFT_DEL_RULE,
    NFT_DEL_TABLE,
    NFT_NEW_CHAIN,
    NFT_NEW_GENERATION,
    NFT_NEW_RULE,
    NFT_NEW_TABLE,
    messages,
    spans,
)
from paraglider.rules.ruleset import PREFIX

# linux/netfilter/nfnetlink.h, linux/socket.h
_NFNLGRP_NFTABLES = 7
_SO_RCVBUFFORCE = 33
# A limit, not a reserve: what a change of some thousand rules says.
_QUEUE_BYTES = 1 << 20

# What is new or gone of tables, chains and rules. Elements of sets, which some hosts change all the
# time, move no rule.
_TELLING = frozenset(
    {NFT_NEW_TABLE, NFT_DEL_TABLE, NFT_NEW_CHAIN, NFT_DEL_CHAIN, NFT_NEW_RULE, NFT_DEL_RULE}
)
# Where each of them says which chain it is about: NFTA_CHAIN_NAME, NFTA_RULE_CHAIN.
_CHAIN_OF = {NFT_NEW_CHAIN: 3, NFT_DEL_CHAIN: 3, NFT_NEW_RULE: 2, NFT_DEL_RULE: 2}
# enum nft_gen_attributes of NFT_NEW_GENERATION, which ends each transaction and says who made it.
# Its process has the number that it has in the machine's own process namespace, so that no two
# containers have the same one.
_GEN_PROC_PID, _GEN_PROC_NAME = 2, 3
_PID = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class _Author:
    """Who made a transaction; `pid` 0 is somebody, of whom the kernel does not tell more."""

    pid: int
    name: str


_SOMEBODY = _Author(0, "")


class Changes:
    """Tells of changes of the rules of one variant.

    The first answer of `seen` is yes: nobody knows what was changed before there was somebody to
    listen.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        clock: Callable[[], float] = time.monotonic,
        open_feed: Callable[[], socket.socket | None] | None = None,
        watch: Callable[[], LegacyWatch] = LegacyWatch,
    ) -> None:
        self._clock = clock
        self._feed: _Feed | None = None
        self._watch: LegacyWatch | None = None
        if variant is Variant.LEGACY:
            self._watch = watch()
        elif (listening := (open_feed or open_nftables_feed)()) is not None:
            self._feed = _Feed(listening)
        self._blind_s = clock()
        # What `seen` says next.
        self._seen: frozenset[str] | None = frozenset()
        # Who was heard of while one of ours writes; None while none does.
        self._writing: list[_Author] | None = None

    def fileno(self) -> int:
        """Return the file that is readable when there is something to hear; -1 where there never
        is, and `next_s` says when to ask."""
        return -1 if self._feed is None else self._feed.fileno()

    def next_s(self) -> float | None:
        """Return when to ask next, on the clock (that of `watch`, too); None where `fileno`
        tells."""
        if self._feed is not None:
            return None
        return self._blind_s if self._watch is None else self._watch.next_s()

    def seen(self) -> frozenset[str] | None:
        """Return the names of programs that may have changed rules since the last call, empty where
        the kernel does not say who; None where nobody has."""
        if self._feed is not None:
            self.hear()
        elif self._watch is not None:
            if self._watch.look():
                self._note([_SOMEBODY])
        elif self._clock() >= self._blind_s:
            self._blind_s = self._clock() + BLIND_S
            self._note([_SOMEBODY])
        seen, self._seen = self._seen, None
        return seen

    @property
    def is_writing(self) -> bool:
        """Whether one of ours writes now (`ours`), as far as it can be told from others."""
        return self._writing is not None

    def hear(self) -> None:
        """Read what the kernel has told, for `seen` or `ours` to judge."""
        if self._feed is None:
            return
        authors = self._feed.read()
        if self._writing is None:
            self._note(authors)
        else:
            self._writing += authors

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Leave out of `seen` what one program writes that is started in the `with`, and that has
        rules to write.

        Only if it did, and nobody else did meanwhile: when one process alone has committed rules
        from the beginning to the end, it was that one. Of legacy tables nothing is left out: a
        change of somebody else's in the same milliseconds could not be told from it.
        """
        if self._feed is None:
            yield
            return
        self.hear()
        self._writing = []
        try:
            yield  # what fails in there has perhaps not written: what is heard is another's then
        except BaseException:
            authors, self._writing = self._writing, None
            self._note(authors)
            raise
        self.hear()
        authors, self._writing = self._writing, None
        if len({author.pid for author in authors}) > 1 or _SOMEBODY in authors:
            self._note(authors)

    def _note(self, authors: list[_Author]) -> None:
        if authors:
            names = {author.name for author in authors if author.name}
            self._seen = (self._seen or frozenset()) | names

    def close(self) -> None:
        """Listen no more."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None


class _Feed:
    """What the kernel says of nftables in this network namespace."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        # What was heard of the transaction whose end is still to come.
        self._is_telling = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[_Author]:
        """Return who changed tables, chains or rules since the last call, once a transaction."""
        authors = list[_Author]()
        while True:
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                return authors
            except OSError as error:
                # More than it holds, most likely; whatever it was, something was not heard.
                authors.append(_SOMEBODY)
                if error.errno != errno.ENOBUFS:
                    return authors
            else:
                authors += self._hear(data)

    def _hear(self, data: bytes) -> Iterator[_Author]:
        for _, kind, _, _, start, end in messages(data):
            if kind in _TELLING:
                self._is_telling = True
            elif kind == NFT_NEW_GENERATION and self._is_telling:
                self._is_telling = False
                yield _author(data, start, end)


def _author(data: bytes, start: int, end: int) -> _Author:
    found = spans(data, start, end)
    if _GEN_PROC_PID not in found or _GEN_PROC_NAME not in found:  # an old kernel
        return _SOMEBODY
    name = data[slice(*found[_GEN_PROC_NAME])].rstrip(b"\0").decode("ascii", "replace")
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return _Author(_PID.unpack_from(data, found[_GEN_PROC_PID][0])[0], printable)


def hears_of_others(data: bytes) -> bool:
    """Return whether messages of the feed tell of a table, or of a chain or rule that is not in a
    chain of ours."""
    for _, kind, _, _, start, end in messages(data):
        if kind not in _TELLING:
            continue
        named = _CHAIN_OF.get(kind)
        span = None if named is None else spans(data, start, end).get(named)
        if span is None or not data[slice(*span)].startswith(PREFIX.encode()):
            return True
    return False


def open_nftables_feed() -> socket.socket | None:
    """Return a socket in the group that hears of every change of nftables in this namespace; None
    where the kernel does not let us into it."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    feed = None
    try:
        feed = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        with contextlib.suppress(PermissionError):
            feed.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
        feed.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
    except OSError:
        if feed is not None:
            feed.close()
        return None
    return feed
