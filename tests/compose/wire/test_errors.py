"""ICMP errors about balanced connections (RFC 5508): each side hears them in its own terms.

What somebody on the way, or the other end, says about a packet quotes it as it was there. It
arrives with the addresses and ports that its sender gave it, or its host would not know what it is
about.
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
)
from scapy.packet import Packet

from tests.compose.stack import Stack
from tests.compose.wire.conversation import Conversation, Lane, Passage, Road
from tests.compose.wire.look import constant, ends, has_right_checksums

MTU_BYTES = 1300

# Each kind as either family says it: the layer and its fields.
KINDS: dict[str, dict[int, tuple[Any, dict[str, int]]]] = {
    "too big": {
        4: (ICMP, {"type": 3, "code": 4, "nexthopmtu": MTU_BYTES}),
        6: (ICMPv6PacketTooBig, {"mtu": MTU_BYTES}),
    },
    "port unreachable": {
        4: (ICMP, {"type": 3, "code": 3}),
        6: (ICMPv6DestUnreach, {"code": 4}),
    },
    "host unreachable": {
        4: (ICMP, {"type": 3, "code": 1}),
        6: (ICMPv6DestUnreach, {"code": 3}),
    },
    "time exceeded": {
        4: (ICMP, {"type": 11, "code": 0}),
        6: (ICMPv6TimeExceeded, {"code": 0}),
    },
}


def _error(lane: Lane, kind: str, source: str, about: Packet) -> Packet:
    """Return the error that `source` sends about a packet, to the one that it came from."""
    layer, fields = KINDS[kind][lane.version]
    quoted = about[lane.layer].copy()
    error: Packet = lane.layer(src=source, dst=quoted.src) / layer(**fields) / quoted
    return error


def _is_error(packet: Packet, lane: Lane, kind: str) -> bool:
    layer, fields = KINDS[kind][lane.version]
    if layer not in packet:
        return False
    return all(packet[layer].getfieldval(name) == value for name, value in fields.items())


def _quote(packet: Packet, lane: Lane, kind: str) -> Packet:
    """Return the packet that an error quotes, after the 8 bytes of its own."""
    return lane.layer(packet[KINDS[kind][lane.version][0]].original[8:])


def _assert_is_about(passage: Passage, about: Packet, lane: Lane, kind: str) -> None:
    """The error that arrived quotes a packet as its sender sent it, all checksums right."""
    quote = _quote(passage.arrived, lane, kind)
    assert ends(quote) == ends(about)
    assert constant(quote) == constant(about)
    assert has_right_checksums(passage.arrived)
    assert has_right_checksums(quote)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("teller", ["paper", "router"])
def test_what_the_backends_side_says_reaches_the_client(
    road: Road, lane: Lane, talk: Conversation, kind: str, teller: str
) -> None:
    """Said by the backend or by a router before it, it comes from the bind, quotes what the client
    sent, and the connection goes on."""
    talk.establish()
    asked = talk.from_client("PA", b"x" * 1000)
    error = _error(lane, kind, getattr(lane, teller), asked.arrived)
    passage = road.pass_to_client(error, lambda packet: _is_error(packet, lane, kind))
    head = passage.arrived[lane.layer]
    assert (head.src, head.dst) == (lane.bind, talk.client.own[0])
    _assert_is_about(passage, asked.sent, lane, kind)
    talk.from_client("PA", b"goes on")
    talk.from_backend("PA", b"goes on, too")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("teller", ["client", "router"])
def test_what_the_clients_side_says_reaches_the_backend(
    road: Road, lane: Lane, talk: Conversation, kind: str, teller: str
) -> None:
    """Said by the client or by a router before it, it comes from the privateip, quotes what the
    backend sent, and the connection goes on."""
    talk.establish()
    answered = talk.from_backend("PA", b"x" * 1000)
    source = talk.client.own[0] if teller == "client" else lane.stranger(road.next_stranger())
    error = _error(lane, kind, source, answered.arrived)
    passage = road.pass_to_backend(error, lambda packet: _is_error(packet, lane, kind))
    head = passage.arrived[lane.layer]
    assert (head.src, head.dst) == (lane.privateip, lane.paper)
    _assert_is_about(passage, answered.sent, lane, kind)
    talk.from_client("PA", b"goes on")
    talk.from_backend("PA", b"goes on, too")


def test_the_appliance_tells_the_client_of_a_narrow_link_behind_it(
    stack: Stack, road: Road, lane: Lane, talk: Conversation
) -> None:
    """Where its own way to a backend is the narrow one, it says so itself, about what the client
    sent; and what fits goes on."""
    talk.establish()
    way = ["ip", f"-{lane.version}", "route", "replace", lane.paper, "via", lane.backends[0]]
    stack.appliance.execute(*way, "mtu", str(MTU_BYTES))
    try:
        since = len(road.client.frames)
        full = talk.client.segment(lane, "PA", b"x" * 1400)
        if lane.version == 4:
            full[lane.layer].flags = "DF"
        road.send_from_client(full)
        (reason,) = road.client.wait(
            lambda packet: _is_error(packet, lane, "too big"), what="error", since=since
        )
        assert (reason[lane.layer].src, reason[lane.layer].dst) == (lane.bind, talk.client.own[0])
        assert has_right_checksums(reason)
        quote = _quote(reason, lane, "too big")
        assert ends(quote) == ends(full)
        assert quote[TCP].seq == full[TCP].seq
        talk.from_client("PA", b"x" * 1000)
    finally:
        stack.appliance.execute(*way[:3], "del", lane.paper)
