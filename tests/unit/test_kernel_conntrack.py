"""Counting and cutting connections, against a kernel that is played."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from paraglider.config.model import Endpoint, Family, Protocol
from paraglider.errors import PermissionDenied, UnavailableError
from paraglider.health.service import Member, Service
from paraglider.kernel.conntrack import (
    Count,
    count_by_phase,
    count_connections,
    cut_connections,
)
from paraglider.kernel.conntrack_entries import Cut
from paraglider.kernel.netlink import (
    FRAME_BYTES,
    HEADER,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Netlink,
    attribute,
    message,
    nested,
    spans,
)
from tests.services import bind_at, service_of

BIND = {4: Endpoint(ip_address("10.0.0.1"), 80), 6: Endpoint(ip_address("fd00::1"), 80)}
BACKEND = {4: Endpoint(ip_address("10.1.0.2"), 5555), 6: Endpoint(ip_address("fd01::2"), 5555)}
CLIENT = {4: Endpoint(ip_address("10.2.0.9"), 40000), 6: Endpoint(ip_address("fd02::9"), 40000)}
FAMILIES = pytest.mark.parametrize("version", [4, 6])


def _service(version: int) -> Service:
    return service_of("web", BIND[version], BIND[version].address, [Member(BACKEND[version])], ())


# enum ctattr_type and its like, and enum tcp_conntrack
ORIG, REPLY, STATUS, PROTOINFO, TIMEOUT, ID, ZONE, FILTER = 1, 2, 3, 4, 7, 12, 18, 25
SYN_SENT, SYN_RECV, ESTABLISHED, TIME_WAIT, CLOSE, SYN_SENT2 = 1, 2, 3, 7, 8, 9
# enum ip_conntrack_status
SEEN_REPLY, ASSURED, CONFIRMED, DST_NAT = 0x02, 0x04, 0x08, 0x20
OFFLOAD, HW_OFFLOAD = 0x4000, 0x8000
ANSWERED = DST_NAT | SEEN_REPLY
NEW, DELETE = 1 << 8, 1 << 8 | 2


@dataclass(frozen=True)
class Connection:
    """An entry of the kernel's table."""

    bind: Endpoint
    backend: Endpoint
    client: Endpoint
    state: int | None = ESTABLISHED
    status: int = ANSWERED
    protocol: int = 6
    number: int = 1
    # What the backend sees, if it is not the client.
    seen: Endpoint | None = None
    # Written in another order than usual, in a zone.
    is_odd: bool = False

    def attributes(self) -> bytes:
        """Return it as the kernel writes it."""
        parts = [
            nested(ORIG, *self._tuple(self.client, self.bind)),
            nested(REPLY, *self._tuple(self.backend, self.seen or self.client)),
            attribute(STATUS, struct.pack("!I", self.status)),
            attribute(TIMEOUT, struct.pack("!I", 120)),
            attribute(ID, struct.pack("!I", self.number)),
        ]
        if self.state is not None:
            state = attribute(1, bytes([self.state])), attribute(2, b"\x07")
            parts.insert(4, nested(PROTOINFO, nested(1, *state)))
        if self.is_odd:
            parts = [*reversed(parts), attribute(ZONE, b"\0\x05")]
        return b"".join(parts)

    def name(self) -> bytes:
        """Return what a request to delete it says, where it is not odd."""
        client = nested(ORIG, *self._tuple(self.client, self.bind))
        return client + attribute(ID, struct.pack("!I", self.number))

    def _tuple(self, source: Endpoint, target: Endpoint) -> Sequence[bytes]:
        kinds = (1, 2) if source.family is Family.IPV4 else (3, 4)
        ends = list(zip(kinds, (source.address, target.address), strict=True))
        ports = [(2, source.port), (3, target.port)]
        proto = [attribute(kind, struct.pack("!H", port)) for kind, port in ports]
        ip = [attribute(kind, address.packed) for kind, address in ends]
        if self.is_odd:
            return nested(2, *reversed(proto), attribute(1, bytes([self.protocol]))), nested(1, *ip)
        return nested(1, *ip), nested(2, attribute(1, bytes([self.protocol])), *proto)


def connection(version: int, **changes: object) -> Connection:
    """Return a balanced connection, but for what is said."""
    parts = {"bind": BIND[version], "backend": BACKEND[version], "client": CLIENT[version]}
    return Connection(**{**parts, **changes})  # type: ignore[arg-type]


@dataclass
class Kernel:
    """What answers: a table, which a filter is refused or an interruption reported for."""

    table: list[Connection] = field(default_factory=list)
    interruptions: int = 0
    # How many entries it tells of before it says no more; None: all, and then that it is done.
    breaks_off_after: int | None = None
    filter_error: int = 0
    delete_error: int = 0
    dumps: list[bytes] = field(default_factory=list)
    deleted: list[bytes] = field(default_factory=list)

    def open(self) -> Netlink:
        """Return a socket to it."""
        return FakeNetlink(self)

    def answer(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that come of some."""
        at = 0
        while at < len(data):
            length, kind, _, sequence, _ = HEADER.unpack_from(data, at)
            family, body = data[at + HEADER.size], data[at + FRAME_BYTES : at + length]
            if kind == DELETE:
                is_offloaded = body in {c.name() for c in self.table if c.status & OFFLOAD}
                self.deleted.append(body)
                yield error(sequence, errno.EBUSY if is_offloaded else self.delete_error)
            else:
                yield from self._dump(family, body)
            at += length

    def _dump(self, family: int, body: bytes) -> Iterator[bytes]:
        self.dumps.append(body)
        if body and self.filter_error:
            yield error(1, self.filter_error)
            return
        flags = NLM_F_DUMP_INTR if self.interruptions else 0
        self.interruptions -= bool(self.interruptions)
        for entry in self.table[: self.breaks_off_after]:
            if entry.bind.family is (Family.IPV4 if family == 2 else Family.IPV6):
                yield message(NEW, flags, 1, family, entry.attributes())
        if self.breaks_off_after is None:
            yield message(NLMSG_DONE, flags, 1, 0, b"")


def error(sequence: int, number: int) -> bytes:
    """Return the answer that says how it went."""
    return HEADER.pack(HEADER.size + 4, NLMSG_ERROR, 0, sequence, 0) + struct.pack("=i", -number)


class FakeNetlink(Netlink):
    """A socket to a Kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._answers = list[bytes]()

    def close(self) -> None:
        """Close nothing."""

    def send(self, data: bytes) -> None:
        """Let the kernel answer."""
        self._answers += self._kernel.answer(data)

    def receive(self, what: str) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        """Yield what it answered."""
        while self._answers:
            data = self._answers.pop(0)
            length, kind, flags, sequence, _ = HEADER.unpack_from(data)
            yield data, kind, flags, sequence, FRAME_BYTES, length
        if self._kernel.breaks_off_after is None:
            raise AssertionError(f"nothing more comes: {what}")


@FAMILIES
def test_live_connections_are_counted_by_pair(version: int) -> None:
    """In every state but those behind the end, whether written as usual or not."""
    other = Endpoint(BACKEND[version].address, 5556)
    states = [connection(version, state=state, is_odd=state % 2 == 0) for state in range(1, 10)]
    kernel = Kernel([*states, connection(version, backend=other)])
    counts = count_connections([_service(version)], open_netlink=kernel.open)
    assert counts == {
        (bind_at(BIND[version]), BACKEND[version]): 7,
        (bind_at(BIND[version]), other): 1,
    }


@FAMILIES
@pytest.mark.parametrize("is_odd", [False, True])
@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        (SYN_SENT, DST_NAT, Count(unanswered=1)),
        (SYN_RECV, ANSWERED, Count(syn_recv=1)),
        (SYN_SENT2, ANSWERED, Count(syn_recv=1)),
        (ESTABLISHED, ANSWERED, Count(established=1)),
        (ESTABLISHED, DST_NAT, Count(unanswered=1)),  # met in the middle, and no answer since
        (TIME_WAIT, ANSWERED, Count(ended=1)),
        (CLOSE, DST_NAT, Count(ended=1)),
        # In a flow table: no state, or that of the moment when it got there.
        (None, ANSWERED | ASSURED | OFFLOAD, Count(established=1)),
        (None, ANSWERED | ASSURED | OFFLOAD | HW_OFFLOAD, Count(established=1)),
        (SYN_RECV, ANSWERED | OFFLOAD, Count(established=1)),
        (CLOSE, ANSWERED | HW_OFFLOAD, Count(established=1)),
    ],
)
def test_half_open_connections_are_counted_apart(
    version: int, state: int | None, status: int, expected: Count, is_odd: bool
) -> None:
    """Those that the backend has not answered, and those that the client has not confirmed."""
    kernel = Kernel([connection(version, state=state, status=status, is_odd=is_odd)])
    counts = count_by_phase([_service(version)], open_netlink=kernel.open)
    assert counts == {(bind_at(BIND[version]), BACKEND[version]): expected}


def test_a_flow_of_udp_without_an_answer_is_half_open() -> None:
    """As `conntrack -L` has it: UNREPLIED."""
    flows = [
        connection(4, protocol=17, state=None, status=DST_NAT),
        connection(4, protocol=17, state=None, status=ANSWERED),
        connection(4, protocol=17, state=None, status=ANSWERED | OFFLOAD),
    ]
    service = replace(_service(4), binds=(bind_at(BIND[4], Protocol.UDP),))
    counts = count_by_phase([service], open_netlink=Kernel(flows).open)
    assert counts == {(service.bind, BACKEND[4]): Count(established=2, unanswered=1)}


@FAMILIES
@pytest.mark.parametrize(
    "changes",
    [
        {"status": 0x0E},
        {"protocol": 17},
        {"bind": Endpoint(ip_address("10.0.0.1"), 81)},
        {"bind": Endpoint(ip_address("10.0.0.2"), 80)},
    ],
    ids=["not translated", "UDP", "another port", "another address"],
)
@pytest.mark.parametrize("is_odd", [False, True])
def test_what_is_not_balanced_is_not_counted(
    version: int, changes: dict[str, object], is_odd: bool
) -> None:
    """Though it is in the table, and a kernel that does not sort it out sends it."""
    kernel = Kernel([connection(version, is_odd=is_odd, **changes)])
    assert count_connections([_service(version)], open_netlink=kernel.open) == {}


def test_both_families_are_counted_at_once() -> None:
    """One after another, each by its own request."""
    kernel = Kernel([connection(4), connection(6), connection(6)])
    counts = count_connections([_service(4), _service(6)], open_netlink=kernel.open)
    assert counts == {(bind_at(BIND[4]), BACKEND[4]): 1, (bind_at(BIND[6]), BACKEND[6]): 2}
    assert len(kernel.dumps) == 2


def test_nothing_is_asked_for_nobody() -> None:
    """Without a bind there is nothing to count."""
    kernel = Kernel([connection(4)])
    assert count_connections([], open_netlink=kernel.open) == {}
    assert kernel.dumps == []


def test_a_kernel_that_refuses_to_sort_is_asked_for_all() -> None:
    """It counts the same."""
    kernel = Kernel([connection(4)], filter_error=errno.EOPNOTSUPP)
    counts = count_connections([_service(4)], open_netlink=kernel.open)
    assert counts == {(bind_at(BIND[4]), BACKEND[4]): 1}
    assert [bool(body) for body in kernel.dumps] == [True, False]


def test_a_table_that_changed_under_the_reader_is_read_again() -> None:
    """As often as it takes, within reason."""
    kernel = Kernel([connection(4)], interruptions=3)
    counts = count_connections([_service(4)], open_netlink=kernel.open)
    assert counts == {(bind_at(BIND[4]), BACKEND[4]): 1}
    assert len(kernel.dumps) == 4


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (Kernel([connection(4)] * 2, interruptions=9), "changed while it was read, 4 times"),
        (Kernel([connection(4)] * 2, breaks_off_after=1), "ended too early"),
        (Kernel([connection(4)] * 2, breaks_off_after=0), "ended too early"),
    ],
    ids=["interrupted", "broken off", "silent"],
)
def test_a_part_of_the_table_is_no_number(kernel: Kernel, reason: str) -> None:
    """It would be too small, and end a drain."""
    with pytest.raises(UnavailableError, match=f"cannot read the connections: .*{reason}"):
        count_connections([_service(4)], open_netlink=kernel.open)
    with pytest.raises(UnavailableError, match=reason):
        cut_connections([_service(4)], [(bind_at(BIND[4]), BACKEND[4])], open_netlink=kernel.open)
    assert kernel.deleted == []


@FAMILIES
@pytest.mark.parametrize("is_odd", [False, True])
def test_a_connection_is_cut_by_what_names_it_alone(version: int, is_odd: bool) -> None:
    """The tuple of its client, its number and its zone: no later one has all of these."""
    kernel = Kernel([connection(version, number=7, is_odd=is_odd)])
    pair = (bind_at(BIND[version]), BACKEND[version])
    assert cut_connections([_service(version)], [pair], open_netlink=kernel.open) == {
        pair: Cut(1, 0)
    }
    entry, named = kernel.table[0].attributes(), kernel.deleted[0]
    there, said = spans(entry, 0, len(entry)), spans(named, 0, len(named))
    assert set(said) == {ORIG, ID} | ({ZONE} if is_odd else set())
    assert all(named[slice(*said[kind])] == entry[slice(*there[kind])] for kind in said)


def test_all_of_a_pair_are_cut_and_the_live_ones_are_told() -> None:
    """More than one message holds, those that are over too; not those of another backend."""
    pair = (bind_at(BIND[4]), BACKEND[4])
    other = connection(4, backend=CLIENT[4])
    kernel = Kernel([connection(4)] * 100 + [connection(4, state=TIME_WAIT)] * 50 + [other])
    assert cut_connections([_service(4)], [pair], open_netlink=kernel.open) == {pair: Cut(100, 0)}
    assert len(kernel.deleted) == 150


def test_several_pairs_are_told_apart_in_one_reading() -> None:
    """However many backends there are; of one that has none nothing is told."""
    first, second = BACKEND[4], CLIENT[4]
    kernel = Kernel([connection(4)] * 3 + [connection(4, backend=second)] * 2)
    pairs = [(bind_at(BIND[4]), backend) for backend in (first, second, BIND[4])]
    assert cut_connections([_service(4)], pairs, open_netlink=kernel.open) == {
        pairs[0]: Cut(3, 0),
        pairs[1]: Cut(2, 0),
    }
    assert len(kernel.dumps) == 1


def test_what_has_ended_meanwhile_was_not_cut() -> None:
    """Nothing is wrong with that."""
    kernel = Kernel([connection(4)], delete_error=errno.ENOENT)
    pair = (bind_at(BIND[4]), BACKEND[4])
    assert cut_connections([_service(4)], [pair], open_netlink=kernel.open) == {pair: Cut(0, 0)}


def test_what_the_kernel_does_not_let_go_of_is_told() -> None:
    """All others are cut, and the table is read once: another try is the caller's."""
    table = [connection(4, status=ANSWERED | OFFLOAD, number=2)] * 3 + [connection(4)] * 80
    kernel = Kernel(table)
    pair = (bind_at(BIND[4]), BACKEND[4])
    assert cut_connections([_service(4)], [pair], open_netlink=kernel.open) == {pair: Cut(80, 3)}
    assert (len(kernel.dumps), len(kernel.deleted)) == (1, 83)


def test_who_may_not_is_told_what_is_lacking() -> None:
    """The capability, and how to get it."""
    kernel = Kernel([connection(4)], filter_error=errno.EPERM, delete_error=errno.EPERM)
    with pytest.raises(PermissionDenied, match=r"cannot cut connections: .*\n.*NET_ADMIN"):
        cut_connections([_service(4)], [(bind_at(BIND[4]), BACKEND[4])], open_netlink=kernel.open)
