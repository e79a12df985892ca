"""Netlink: requests to the kernel's netfilter subsystems, and the attributes of what it says.

Owns the frame of messages (linux/netlink.h, linux/netfilter/nfnetlink.h), and their types where
more than one module has to know them; what is in them belongs to who asks.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from paraglider.config.model import Family
from paraglider.errors import ParagliderError, PermissionDenied, UnavailableError
from paraglider.errors import explain as explain_system
from paraglider.kernel.host import grant_mend

NETLINK_NETFILTER = 12
NLA_F_NESTED = 0x8000
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2
NLMSG_DONE = 3

NFPROTO = {Family.IPV4: 2, Family.IPV6: 10}  # linux/netfilter.h

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
# The type of any other message: its subsystem, and its number there.
NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES = 1, 10
# enum nf_tables_msg_types
NFT_NEW_TABLE, NFT_GET_TABLE, NFT_DEL_TABLE = (NFNL_SUBSYS_NFTABLES << 8 | n for n in (0, 1, 2))
NFT_NEW_CHAIN, NFT_DEL_CHAIN = (NFNL_SUBSYS_NFTABLES << 8 | n for n in (3, 5))
NFT_NEW_RULE, NFT_DEL_RULE = (NFNL_SUBSYS_NFTABLES << 8 | n for n in (6, 8))
NFT_NEW_GENERATION = NFNL_SUBSYS_NFTABLES << 8 | 15

# struct nlmsghdr: length, type, flags, sequence, port; struct nfgenmsg: family, version, resource.
HEADER = struct.Struct("=IHHII")
_FRAME = struct.Struct("!BBH")
FRAME_BYTES = HEADER.size + _FRAME.size
CHUNK_BYTES = 1 << 16  # twice the most that the kernel sends at once
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
# What the kernel answers where a subsystem, or netlink for netfilter, is not there:
# nfnetlink_rcv_msg, nfnetlink_rcv_batch, socket(2).
_NOT_THERE = (errno.ENODEV, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
_MODULES = {
    None: "nfnetlink",
    NFNL_SUBSYS_CTNETLINK: "nf_conntrack_netlink",
    NFNL_SUBSYS_NFTABLES: "nf_tables nft_chain_nat nft_ct",
}
_ERRNO = struct.Struct("=i")
_TIMEOUT_S = 10.0

Span = tuple[int, int]
# Data, type, flags, sequence, start, end: `start` is behind the frame.
Message = tuple[bytes, int, int, int, int, int]


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, *inside: bytes) -> bytes:
    """Return an attribute that holds others."""
    return attribute(kind | NLA_F_NESTED, b"".join(inside))


def message(kind: int, flags: int, sequence: int, family: int, attributes: bytes) -> bytes:
    """Return a whole request."""
    return _request(kind, flags, sequence, _FRAME.pack(family, 0, 0) + attributes)


def batch(subsystem: int, requests: Iterable[bytes]) -> bytes:
    """Return whole requests to one subsystem, of which it does all or none."""
    begin, end = (
        _request(kind, 0, 0, _FRAME.pack(0, 0, subsystem)) for kind in (_BATCH_BEGIN, _BATCH_END)
    )
    return b"".join([begin, *requests, end])


def _request(kind: int, flags: int, sequence: int, content: bytes) -> bytes:
    length = HEADER.size + len(content)
    return HEADER.pack(length, kind, NLM_F_REQUEST | flags, sequence, 0) + content


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages that came as one piece."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            break
        yield data, kind, flags, sequence, at + FRAME_BYTES, at + length
        at += (length + 3) & ~3


def spans(data: bytes, start: int, end: int) -> dict[int, Span]:
    """Return where the value of each attribute between `start` and `end` of `data` is, by type."""
    found = {}
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = (start + 4, min(start + length, end))
        start += (length + 3) & ~3
    return found


def find(data: bytes, start: int, end: int, kind: int) -> Span | None:
    """Return where the value of the attribute `kind` between `start` and `end` is; None without."""
    read, last = _ATTRIBUTE.unpack_from, end - 4
    while start <= last:
        length, found = read(data, start)
        if length < 4:
            break
        if found & _TYPE_MASK == kind:
            return start + 4, start + length
        start += length + 3 & ~3
    return None


class Netlink:
    """A socket to the kernel's netfilter subsystems."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
            self._socket.bind((0, 0))
        except OSError as error:
            raise explain("open a netlink socket", error.errno or 0) from error
        self._socket.settimeout(_TIMEOUT_S)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send one or more whole messages."""
        try:
            self._socket.send(data)
        except OSError as error:
            raise explain("send a netlink request", error.errno or 0) from error

    def receive(self, what: str) -> Iterator[Message]:
        """Yield each message that comes, without an end; `what` is said where none comes."""
        while True:
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except TimeoutError as error:
                raise UnavailableError(f"cannot {what}: the kernel does not answer") from error
            except OSError as error:
                raise explain(what, error.errno or 0) from error
            yield from messages(data)


def error_number(data: bytes, start: int) -> int:
    """Return the errno of an NLMSG_ERROR whose value begins where others' frame ends: 0 is an
    acknowledgement."""
    return -int(_ERRNO.unpack_from(data, start - FRAME_BYTES + HEADER.size)[0])


def explain(what: str, number: int, subsystem: int | None = None) -> ParagliderError:
    """Return the error for an errno that came back when we tried to `what`; `subsystem` is the one
    that was asked, None where it is the socket that failed."""
    message = f"cannot {what}: {explain_system(OSError(number, os.strerror(number)))}"
    if number in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{message}\n{grant_mend('NET_ADMIN')}")
    modules = _MODULES[subsystem]
    if number in _NOT_THERE or (subsystem == NFNL_SUBSYS_NFTABLES and number == errno.ENOENT):
        return UnavailableError(f"{message}\nthe kernel lacks a module: try modprobe -a {modules}")
    if number == errno.EINVAL and subsystem is not None:
        # Older kernels answer this, not ENODEV, for a module that is not there.
        return UnavailableError(
            f"{message}\nthe kernel does not take this request, or lacks a module: "
            f"try modprobe -a {modules}"
        )
    return UnavailableError(message)
