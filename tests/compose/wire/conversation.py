"""Connections made of single packets, and what becomes of each on its way through the appliance.

    talk.establish()
    passage = talk.from_client("PA", b"hello")
    assert passage.arrived[lane.layer].src == lane.privateip

Both ends are crafted, so that nothing but the appliance has a say in what is on the wire.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.compose.engine import Container
from tests.compose.wire.tap import Frame, Tap, Wanted

Endpoint = tuple[str, int]

THREE, ONE, CLOSED, PAPER = 4444, 4445, 4446, 4447
SERVED = 5555
SHOWN_FRAMES = 20


@dataclass(frozen=True, slots=True)
class Lane:
    """The addresses of one family; those of `crowd` and `paper` are nobody's, but routed to the
    client and to the backend red."""

    version: int
    client: str
    bind: str
    privateip: str
    backends: tuple[str, str, str]
    crowd: str
    paper: str
    router: str

    @property
    def layer(self) -> type[Packet]:
        """scapy's header of this family."""
        return IPv6 if self.version == 6 else IP

    def stranger(self, number: int) -> str:
        """Return an address of the crowd; it has more than 16,000."""
        assert number < 2**14, "the crowd is used up: give it a larger prefix"
        return str(ip_address(self.crowd) + number)

    def endpoint(self, address: str, port: int) -> str:
        """Write an endpoint as the configuration has it."""
        return f"[{address}]:{port}" if self.version == 6 else f"{address}:{port}"

    @property
    def inner_addresses(self) -> set[str]:
        """What a client must never see."""
        return {self.privateip, self.paper, self.router, *self.backends}


LANES = (
    Lane(
        version=4,
        client="10.88.0.10",
        bind="10.88.0.2",
        privateip="10.89.0.4",
        backends=("10.89.0.11", "10.89.0.12", "10.89.0.13"),
        crowd="10.88.64.0",
        paper="10.89.16.1",
        router="10.89.16.77",
    ),
    Lane(
        version=6,
        client="fd88::10",
        bind="fd88::2",
        privateip="fd89::4",
        backends=("fd89::11", "fd89::12", "fd89::13"),
        crowd="fd88::16:0:0:0",
        paper="fd89::16:0:0:1",
        router="fd89::16:0:0:77",
    ),
)

# Of the crowd, one for each conversation; every one uses the same source port.
SOURCE_PORT = 40000


@dataclass(frozen=True, slots=True)
class Passage:
    """One packet in four places, in the order of its way: as it was sent, before the appliance,
    behind it, and where it arrived."""

    sent: Packet
    before: Packet
    behind: Packet
    arrived: Packet


@dataclass(slots=True)
class End:
    """One end of a conversation: its own endpoint and the one that it talks to, as it sees them;
    the next sequence number of its own, and the next that it expects."""

    own: Endpoint
    peer: Endpoint
    seq: int
    ack: int = 0

    def segment(self, lane: Lane, flags: str, payload: bytes = b"", **tcp: Any) -> Packet:
        """Return the next segment of this end, headers of IP and TCP; `tcp` changes fields."""
        (source, sport), (destination, dport) = self.own, self.peer
        fields = {"seq": self.seq, "ack": self.ack if "A" in flags else 0, "window": 29200, **tcp}
        head = TCP(sport=sport, dport=dport, flags=flags, **fields)
        packet = lane.layer(src=source, dst=destination) / head
        return packet / Raw(payload) if payload else packet

    def advance(self, segment: Packet) -> None:
        """Go past what `segment` took of our sequence numbers."""
        self.seq = _later(self.seq, _end_of(segment))

    def accept(self, segment: Packet) -> None:
        """Take in what has arrived."""
        self.ack = _later(self.ack, _end_of(segment)) if self.ack else _end_of(segment)


def _end_of(segment: Packet) -> int:
    """Return the sequence number after a segment's."""
    tcp = segment[TCP]
    taken = len(tcp.payload) + ("S" in tcp.flags) + ("F" in tcp.flags)
    return int(tcp.seq + taken) % 2**32


def _later(one: int, other: int) -> int:
    """Return the later of two sequence numbers, which wrap around (RFC 9293, 3.4)."""
    return other if (other - one) % 2**32 < 2**31 else one


@dataclass(slots=True)
class Road:
    """The ways between the client and the backends: a tap in each host, and the addresses of the
    links by (host, network)."""

    taps: dict[str, Tap]
    links: dict[tuple[str, str], str]
    _strangers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def client(self) -> Tap:
        """The tap in the client."""
        return self.taps["client"]

    @property
    def appliance(self) -> Tap:
        """The tap in the appliance, which has a wire in either network."""
        return self.taps["appliance"]

    def next_stranger(self) -> int:
        """Return the number of a client that has not been heard of yet."""
        return next(self._strangers)

    def mark(self) -> dict[str, int]:
        """Return how many frames each tap has seen by now."""
        return {name: len(tap.frames) for name, tap in self.taps.items()}

    def since(self, marks: dict[str, int]) -> Iterator[Frame]:
        """Yield all frames that were seen after that, tap by tap."""
        for name, tap in self.taps.items():
            yield from tap.frames[marks[name] :]

    def evidence(self) -> Iterator[tuple[str, str]]:
        """Yield what was last on the wires of each host, to be shown beside a failure."""
        for name, tap in self.taps.items():
            yield f"last frames at {name}", "\n".join(map(str, tap.frames[-SHOWN_FRAMES:]))

    def send_from_client(self, *packets: Packet) -> None:
        """Send packets, made from the header of IP on, from the client to the appliance."""
        self._send("client", "clients", packets)

    def send_from_backend(self, *packets: Packet, name: str = "red") -> None:
        """Send packets, made from the header of IP on, from a backend to the appliance."""
        self._send(name, "backends", packets)

    def _send(self, host: str, network: str, packets: tuple[Packet, ...]) -> None:
        link = Ether(src=self.links[host, network], dst=self.links["appliance", network])
        self.taps[host].send(network, *(link / packet for packet in packets))

    def pass_to_backend(self, packet: Packet, wanted: Wanted, *, name: str = "red") -> Passage:
        """Send a packet from the client; return where it has been once it is at a backend."""
        marks = len(self.appliance.frames), len(self.taps[name].frames)
        self.send_from_client(packet)
        arrived = _first(self.taps[name], wanted, "backends", marks[1])
        return Passage(
            type(packet)(bytes(packet)),
            _first(self.appliance, wanted, "clients", marks[0]),
            _first(self.appliance, wanted, "backends", marks[0]),
            arrived,
        )

    def pass_to_client(self, packet: Packet, wanted: Wanted, *, name: str = "red") -> Passage:
        """Send a packet from a backend; return where it has been once it is at the client."""
        marks = len(self.appliance.frames), len(self.client.frames)
        self.send_from_backend(packet, name=name)
        arrived = _first(self.client, wanted, "clients", marks[1])
        return Passage(
            type(packet)(bytes(packet)),
            _first(self.appliance, wanted, "backends", marks[0]),
            _first(self.appliance, wanted, "clients", marks[0]),
            arrived,
        )


def _first(tap: Tap, wanted: Wanted, network: str, since: int) -> Packet:
    return tap.wait(wanted, what="packet", network=network, since=since)[0]


def same_segment(sent: Packet) -> Wanted:
    """Return what tells the segment `sent` wherever it is, whatever its addresses have become."""
    tcp = sent[TCP]
    key = (tcp.seq, int(tcp.flags), bytes(tcp.payload))

    def is_same(packet: Packet) -> bool:
        if TCP not in packet:
            return False
        found = packet[TCP]
        return (found.seq, int(found.flags), bytes(found.payload)) == key

    return is_same


@dataclass(slots=True)
class Conversation:
    """A connection between a client of the crowd and the backend on paper."""

    road: Road
    lane: Lane
    client: End
    backend: End

    def from_client(self, flags: str, payload: bytes = b"", **tcp: Any) -> Passage:
        """Send the client's next segment; return where it has been."""
        return self.client_sends(self.client.segment(self.lane, flags, payload, **tcp))

    def from_backend(self, flags: str, payload: bytes = b"", **tcp: Any) -> Passage:
        """Send the backend's next segment; return where it has been."""
        return self.backend_sends(self.backend.segment(self.lane, flags, payload, **tcp))

    def client_sends(self, segment: Packet) -> Passage:
        """Send a segment of the client's that was made elsewhere."""
        passage = self.road.pass_to_backend(segment, same_segment(segment))
        self.client.advance(segment)
        self.backend.accept(passage.arrived)
        return passage

    def backend_sends(self, segment: Packet) -> Passage:
        """Send a segment of the backend's that was made elsewhere."""
        passage = self.road.pass_to_client(segment, same_segment(segment))
        self.backend.advance(segment)
        self.client.accept(passage.arrived)
        return passage

    def begin(self, **tcp: Any) -> Passage:
        """Send the client's SYN; the backend learns whom it talks to."""
        passage = self.from_client("S", **tcp)
        head = passage.arrived[self.lane.layer]
        self.backend.peer = (head.src, passage.arrived[TCP].sport)
        return passage

    def establish(self) -> tuple[Passage, Passage, Passage]:
        """Shake hands; return the three segments."""
        return self.begin(), self.from_backend("SA"), self.from_client("A")


def state_of(client: End, appliance: Container) -> str:
    """Return what conntrack calls the state of a client's connection: ``ESTABLISHED``, or nothing
    when it knows of none."""
    source, sport = client.own
    family = f"ipv{ip_address(source).version}"
    options = ("-f", family, "-p", "tcp", "--orig-src", source, "--orig-port-src", str(sport))
    listed = appliance.execute("conntrack", "-L", *options).split()
    return listed[3] if listed else ""


def make_conversation(road: Road, lane: Lane, *, source: Endpoint | None = None) -> Conversation:
    """Return a conversation that has not begun, of a client never seen before."""
    number = road.next_stranger()
    own = source or (lane.stranger(number), SOURCE_PORT)
    client = End(own, (lane.bind, PAPER), seq=0x1000_0000 + (number << 16))
    backend = End((lane.paper, SERVED), ("", 0), seq=0x5000_0000 + (number << 16))
    return Conversation(road, lane, client, backend)
