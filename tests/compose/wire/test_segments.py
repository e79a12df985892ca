"""What the appliance does to a packet, and what it leaves alone, segment by segment.

Every segment is crafted with scapy at one end and captured in four places.
"""

from __future__ import annotations

import pytest

from tests.compose.wire.conversation import PAPER, SERVED, Conversation, Lane, Passage
from tests.compose.wire.look import constant, ends, has_right_checksums, hops_left

# All that a segment may carry: ECN, urgent data, options known and unknown (RFC 4727).
_ODD_OPTIONS = [
    ("MSS", 1400),
    ("SAckOK", b""),
    ("Timestamp", (0x01020304, 0)),
    ("NOP", None),
    ("WScale", 9),
    (253, b"\x10\x20glide"),
]


def _passages(talk: Conversation) -> list[Passage]:
    """Pass one of each kind of segment: a handshake, data both ways, the end from both sides."""
    return [
        *talk.establish(),
        talk.from_client("PA", b"from the client"),
        talk.from_backend("PA", b"from the backend"),
        talk.from_client("FA"),
        talk.from_backend("FA"),
        talk.from_client("A"),
    ]


def test_addresses_and_ports_are_rewritten_both_ways(talk: Conversation, lane: Lane) -> None:
    """The client talks to the bind and the backend to the privateip; neither sees the other."""
    there = talk.begin()
    source, sport = talk.client.own
    outside = (source, sport, lane.bind, PAPER)
    _, chosen, _, _ = ends(there.arrived)
    inside = (lane.privateip, chosen, lane.paper, SERVED)
    assert [ends(p) for p in (there.sent, there.before)] == [outside] * 2
    assert [ends(p) for p in (there.behind, there.arrived)] == [inside] * 2
    back = talk.from_backend("SA")
    assert [ends(p) for p in (back.sent, back.before)] == [(*inside[2:], *inside[:2])] * 2
    assert [ends(p) for p in (back.behind, back.arrived)] == [(*outside[2:], *outside[:2])] * 2


def test_the_same_connection_keeps_its_ports(talk: Conversation) -> None:
    """Every segment of one direction has the same four ends when it arrives."""
    first, answer, *rest = _passages(talk)
    there, back = ends(first.arrived), ends(answer.arrived)
    assert {ends(passage.arrived) for passage in rest} == {there, back}


def test_checksums_are_right_everywhere(talk: Conversation) -> None:
    """Of IP and of TCP, before the appliance and behind it."""
    for passage in _passages(talk):
        for packet in (passage.before, passage.behind, passage.arrived):
            assert has_right_checksums(packet), packet.summary()


def test_each_packet_loses_exactly_one_hop(talk: Conversation) -> None:
    """It is routed once, as by any router."""
    for passage in _passages(talk):
        assert hops_left(passage.sent) - hops_left(passage.arrived) == 1


def test_nothing_else_of_a_segment_is_touched(talk: Conversation) -> None:
    """Sequence numbers, flags, window, urgent pointer, payload and IP's own fields stay."""
    for passage in _passages(talk):
        assert constant(passage.arrived) == constant(passage.sent)


@pytest.mark.parametrize("from_client", [True, False], ids=["from client", "from backend"])
def test_odd_segments_pass_as_they_are(talk: Conversation, from_client: bool) -> None:
    """A SYN with ECN and with options that nobody knows, urgent data, a type of service."""
    begin = talk.begin(options=_ODD_OPTIONS)
    answer = talk.from_backend("SAE", options=_ODD_OPTIONS)
    talk.from_client("A")
    end = talk.client if from_client else talk.backend
    odd = end.segment(talk.lane, "PAU", b"urgent!", urgptr=3, window=17)
    head = odd[talk.lane.layer]
    if talk.lane.version == 6:
        head.tc, head.fl = 0x2A, 0x12345
    else:
        head.tos, head.id, head.flags = 0x2A, 0x1234, "DF"
    urgent = talk.client_sends(odd) if from_client else talk.backend_sends(odd)
    for passage in (begin, answer, urgent):
        assert constant(passage.arrived) == constant(passage.sent)
        assert has_right_checksums(passage.arrived)


def test_a_syn_may_carry_data(talk: Conversation) -> None:
    """As with TCP Fast Open (RFC 7413): it arrives with the SYN."""
    segment = talk.client.segment(talk.lane, "S", b"early", options=[(34, b"\x01" * 8)])
    passage = talk.client_sends(segment)
    assert constant(passage.arrived) == constant(segment.__class__(bytes(segment)))
    assert constant(passage.arrived)["payload"] == b"early"
