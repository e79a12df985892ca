"""Routes: where this host sends packets for an address, as the kernel says (rtnetlink(7)).

Owns the questions about one address, and the news that addresses of this host come and go. It
changes nothing, and needs no right.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from paraglider.config.model import Address
from paraglider.kernel.netlink import (
    CHUNK_BYTES,
    HEADER,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    attribute,
    spans,
)

# linux/rtnetlink.h
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_RTN_LOCAL = 2
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
# struct rtmsg: family, prefix of destination and source, TOS, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=BBBBBBBBI")
# struct ifaddrmsg: family, length of the prefix, flags, scope, index of the interface.
_ADDRESS = struct.Struct("=BBBBI")
_INDEX = struct.Struct("=I")
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Route:
    """The way to an address: to this host itself (`is_local`) or out of `interface` ('' where it
    has no name any more); `source` is what this host would be seen as there."""

    is_local: bool
    interface: str
    source: Address | None


def find_routes(addresses: Iterable[Address]) -> Iterator[tuple[Address, Route]]:
    """Yield each address that there is a route to, with it. Nothing is sent there."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
            asking.settimeout(_TIMEOUT_S)
            for address in dict.fromkeys(addresses):
                if (route := _ask(asking, address)) is not None:
                    yield address, route
    except OSError:
        return  # a kernel that does not answer tells of no route


def find_local(addresses: Iterable[Address]) -> frozenset[Address]:
    """Return those of `addresses` that this host itself has."""
    return frozenset(address for address, route in find_routes(addresses) if route.is_local)


def find_interfaces() -> dict[Address, str]:
    """Return each address of this host with the name of the interface that has it."""
    found: dict[Address, str] = {}
    flags = NLM_F_REQUEST | NLM_F_DUMP
    request = HEADER.pack(HEADER.size + _ADDRESS.size, _RTM_GETADDR, flags, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
            asking.settimeout(_TIMEOUT_S)
            asking.send(request + _ADDRESS.pack(0, 0, 0, 0, 0))
            while True:
                for data, kind, start, end in _each(asking.recv(CHUNK_BYTES)):
                    if kind != _RTM_NEWADDR:
                        return found
                    values = spans(data, start + _ADDRESS.size, end)
                    value = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
                    if value is not None:
                        index = _ADDRESS.unpack_from(data, start)[4]
                        found[ip_address(data[slice(*value)])] = _name_of(index)
    except OSError:
        return found


def _each(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind = HEADER.unpack_from(data, at)[:2]
        yield data, kind, at + HEADER.size, at + length
        at += (length + 3) & ~3


def _ask(asking: socket.socket, address: Address) -> Route | None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    question = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    question += attribute(_RTA_DST, address.packed)
    length = HEADER.size + len(question)
    asking.send(HEADER.pack(length, _RTM_GETROUTE, NLM_F_REQUEST, 0, 0) + question)
    data = asking.recv(CHUNK_BYTES)
    length, kind = HEADER.unpack_from(data)[:2]
    if kind != _RTM_NEWROUTE:
        return None  # an error: no route
    found = spans(data, HEADER.size + _ROUTE.size, length)
    is_local = _ROUTE.unpack_from(data, HEADER.size)[7] == _RTN_LOCAL
    source = data[slice(*found[_RTA_PREFSRC])] if _RTA_PREFSRC in found else None
    return Route(is_local, _interface(data, found), ip_address(source) if source else None)


def _interface(data: bytes, found: dict[int, tuple[int, int]]) -> str:
    return _name_of(_INDEX.unpack_from(data, found[_RTA_OIF][0])[0]) if _RTA_OIF in found else ""


def _name_of(index: int) -> str:
    with contextlib.suppress(OSError):
        return socket.if_indextoname(index)
    return ""


class LocalAddresses:
    """Which addresses are this host's: each is asked for once, and again when the kernel tells that
    addresses have come or gone."""

    def __init__(
        self, find: Callable[[Iterable[Address]], Collection[Address]] = find_local
    ) -> None:
        self._find = find
        self._feed: socket.socket | None = None
        self._known: dict[Address, bool] = {}

    def listen(self) -> int:
        """Begin to hear of changes; return the file that is readable when there is one, -1 where
        the kernel tells nobody."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._feed = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            self._feed.bind((0, _GROUPS))
        except OSError:
            self.close()
            return -1
        self._known.clear()
        return self._feed.fileno()

    def hear(self) -> None:
        """Take in what the kernel has told: all addresses are asked for again."""
        while self._feed is not None:
            try:
                self._feed.recv(CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than it holds: read on
                    break
        self._known.clear()

    def among(self, addresses: Iterable[Address]) -> frozenset[Address]:
        """Return those of `addresses` that this host has."""
        wanted = dict.fromkeys(addresses)
        if self._feed is None:
            return frozenset(self._find(wanted))
        new = [address for address in wanted if address not in self._known]
        if new:
            found = self._find(new)
            self._known |= {address: address in found for address in new}
        return frozenset(address for address in wanted if self._known[address])

    def close(self) -> None:
        """Hear no more."""
        if self._feed is not None:
            self._feed.close()
        self._feed = None
