"""A connection as ctnetlink writes it (linux/netfilter/nfnetlink_conntrack.h).

Owns what an entry says, and what to ask for so that the kernel sorts out what it can. Families
differ in the numbers of some attributes and in the size of addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum, auto
from ipaddress import ip_address
from typing import NamedTuple

from paraglider.config.model import Address, Bind, Endpoint, Family, Protocol
from paraglider.kernel.netlink import (
    NFPROTO,
    NLA_F_NESTED,
    Span,
    attribute,
    find,
    nested,
    spans,
)

# The address and port of a bind, then those of a backend, as the kernel writes them.
Ends = tuple[bytes, bytes, bytes, bytes]

# enum ctattr_type and its like
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _ID, _ZONE = 1, 2, 3, 4, 12, 18
_FILTER, _STATUS_MASK = 25, 26
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_PROTOINFO_TCP, _TCP_STATE = 1, 1
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_F_IP_DST, _F_PROTO_NUM, _F_DST_PORT = 1 << 1, 1 << 3, 1 << 5

# enum ip_conntrack_status
_IPS_SEEN_REPLY, _IPS_DST_NAT, _IPS_OFFLOAD, _IPS_HW_OFFLOAD = (1 << n for n in (1, 5, 14, 15))

_PORT = struct.Struct("!H")
_WORD = struct.Struct("!I")


class Entry(NamedTuple):
    """An entry as it came: its attributes are between `start` and `end` of `data`."""

    data: bytes
    start: int
    end: int
    ends: Ends
    status: int


class Phase(Enum):
    """How far a connection has come. UNANSWERED: no packet of the backend was seen (SYN_SENT, or a
    flow of UDP that is UNREPLIED); SYN_RECV: the backend has answered, and the client has not
    confirmed yet; ENDED: closed by both ends, and not forgotten yet."""

    UNANSWERED = auto()
    SYN_RECV = auto()
    ESTABLISHED = auto()
    ENDED = auto()


# enum tcp_conntrack: SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT,
# CLOSE, SYN_SENT2 (both ends have sent a SYN)
_TCP_PHASES = {
    1: Phase.UNANSWERED,
    2: Phase.SYN_RECV,
    **dict.fromkeys((3, 4, 5, 6), Phase.ESTABLISHED),
    **dict.fromkeys((7, 8), Phase.ENDED),
    9: Phase.SYN_RECV,
}


class Form:
    """How entries of one family and protocol are written.

    Each begins with two tuples, as the client sends and as the backend answers. Nearly always these
    look the same but for addresses and ports, and are taken apart in one piece, which is several
    times as fast.
    """

    def __init__(self, family: Family, protocol: Protocol) -> None:
        self._protocol = bytes([protocol.number])
        self._is_tcp = protocol is Protocol.TCP
        self._is_ipv4 = family is Family.IPV4
        self.number = NFPROTO[family]
        self._source, self._target = (1, 2) if self._is_ipv4 else (3, 4)
        size = 4 if self._is_ipv4 else 16
        empty = self._example(b"\0" * size, b"\0\0")
        full = self._example(b"\xff" * size, b"\xff\xff")
        self._length = len(empty)
        self._shape = int.from_bytes(empty, "big")
        self._fixed = ~(self._shape ^ int.from_bytes(full, "big"))
        # Target and its port in the first, source and its port in the second.
        self._ends = struct.Struct(f"={16 + size}x{size}s24x2s14x{size}s{20 + size}x2s")

    def _example(self, address: bytes, port: bytes) -> bytes:
        ip = attribute(self._source, address), attribute(self._target, address)
        ports = attribute(_PROTO_SRC_PORT, port), attribute(_PROTO_DST_PORT, port)
        proto = nested(_TUPLE_PROTO, attribute(_PROTO_NUM, self._protocol), *ports)
        inside = nested(_TUPLE_IP, *ip), proto
        return nested(_TUPLE_ORIG, *inside) + nested(_TUPLE_REPLY, *inside)

    def read_ends(self, data: bytes, start: int, end: int) -> Ends | None:
        """Return the ends of the entry between `start` and `end`; None where it is of another
        protocol."""
        head = int.from_bytes(data[start : start + self._length], "big")
        if head & self._fixed == self._shape and end - start >= self._length:
            ends: Ends = self._ends.unpack_from(data, start)
            return ends
        found = spans(data, start, end)
        if not {_TUPLE_ORIG, _TUPLE_REPLY} <= found.keys():
            return None
        bind = self._read_end(data, found[_TUPLE_ORIG], self._target, _PROTO_DST_PORT)
        backend = self._read_end(data, found[_TUPLE_REPLY], self._source, _PROTO_SRC_PORT)
        return (*bind, *backend) if bind and backend else None

    def read_phase(self, entry: Entry) -> Phase:
        """Return how far the entry's connection has come. One in a flow table is established: the
        kernel writes no state of it, or the one of before (ctnetlink_dump_info)."""
        if entry.status & (_IPS_OFFLOAD | _IPS_HW_OFFLOAD):
            return Phase.ESTABLISHED
        place: Span | None = (entry.start, entry.end)
        for kind in (_PROTOINFO, _PROTOINFO_TCP, _TCP_STATE) if self._is_tcp else ():
            place = find(entry.data, *place, kind) if place else None
        state = entry.data[place[0]] if self._is_tcp and place else 0
        phase = _TCP_PHASES.get(state, Phase.ESTABLISHED)
        # One that conntrack has met in the middle is in state ESTABLISHED without an answer.
        if phase is Phase.ESTABLISHED and not entry.status & _IPS_SEEN_REPLY:
            return Phase.UNANSWERED
        return phase

    def read_clients(self, entry: Entry) -> tuple[Address, Address] | None:
        """Return the address of the client, and the one that the backend answers."""
        found = spans(entry.data, entry.start, entry.end)
        client = self._read_address(entry.data, found[_TUPLE_ORIG], self._source)
        seen = self._read_address(entry.data, found[_TUPLE_REPLY], self._target)
        return (client, seen) if client and seen else None

    def _read_address(self, data: bytes, span: Span, kind: int) -> Address | None:
        place = find(data, *span, _TUPLE_IP)
        place = place and find(data, *place, kind)
        return ip_address(data[slice(*place)]) if place else None

    def filter(self, binds: Sequence[Bind], *, is_translated: bool) -> bytes:
        """Return the attributes of a request for entries to `binds`: the protocol, and the address
        and port where all have the same (Linux 5.8), translated destinations (newer ones). What a
        kernel does not know it sends."""
        flags = _F_PROTO_NUM
        address, proto = [], [attribute(_PROTO_NUM, self._protocol)]
        addresses, ports = {bind.address for bind in binds}, {bind.ports for bind in binds}
        alone = next(iter(addresses)) if len(addresses) == 1 else None
        # Never by an address of IPv6: Linux 6.18, asked for one, sends what has any other.
        if self._is_ipv4 and alone is not None:
            flags |= _F_IP_DST
            address = [attribute(self._target, alone.packed)]
        first, last = next(iter(ports))
        if len(ports) == 1 and first == last:
            flags |= _F_DST_PORT
            proto.append(attribute(_PROTO_DST_PORT, _PORT.pack(first)))
        tuples = nested(_TUPLE_IP, *address), nested(_TUPLE_PROTO, *proto)
        asked = (
            attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", flags)),
            attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0)),
        )
        asks = nested(_TUPLE_ORIG, *tuples) + nested(_FILTER, *asked)
        if not is_translated:
            return asks
        translated = _WORD.pack(_IPS_DST_NAT)
        return asks + attribute(_STATUS, translated) + attribute(_STATUS_MASK, translated)

    def _read_end(
        self, data: bytes, span: Span, ip_kind: int, port_kind: int
    ) -> tuple[bytes, bytes] | None:
        inside = spans(data, *span)
        if not {_TUPLE_IP, _TUPLE_PROTO} <= inside.keys():
            return None
        address = find(data, *inside[_TUPLE_IP], ip_kind)
        proto = spans(data, *inside[_TUPLE_PROTO])
        if address is None or not {_PROTO_NUM, port_kind} <= proto.keys():
            return None
        if data[slice(*proto[_PROTO_NUM])] != self._protocol:
            return None
        return data[slice(*address)], data[slice(*proto[port_kind])]


def read_status(data: bytes, start: int, end: int) -> int:
    """Return the bits of the entry's status."""
    place = find(data, start, end, _STATUS)
    return 0 if place is None else int(_WORD.unpack_from(data, place[0])[0])


def has_translation(status: int) -> bool:
    """Return whether the destination of an entry with that status was translated."""
    return bool(status & _IPS_DST_NAT)


def read_name(entry: Entry) -> bytes:
    """Return the attributes that name the entry to the kernel, as they came: the tuple of the
    client, the number that a later entry with that tuple does not have, and the zone."""
    data, found = entry.data, spans(entry.data, entry.start, entry.end)
    return b"".join(
        attribute(kind | (NLA_F_NESTED if kind == _TUPLE_ORIG else 0), data[slice(*found[kind])])
        for kind in (_TUPLE_ORIG, _ID, _ZONE)
        if kind in found
    )


def endpoint_of(address: bytes, port: bytes) -> Endpoint:
    """Return the endpoint that the kernel writes so."""
    return Endpoint(ip_address(address), _PORT.unpack(port)[0])
