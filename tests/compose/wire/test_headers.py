"""Headers of IP that few senders use: fragments, options, extension headers."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, IPOption_Router_Alert, defragment, fragment
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN, defragment6, fragment6
from scapy.packet import Packet

from tests.compose.wire.conversation import Conversation, End, Lane, Road
from tests.compose.wire.look import constant, ends, has_right_checksums, hops_left
from tests.compose.wire.tap import Tap
from tests.waiting import until

PAYLOAD = bytes(range(256)) * 5
PIECE_BYTES = 512
IPV6_HEADERS_BYTES = 40 + 8  # its own and the fragment header

_BOTH_WAYS = pytest.mark.parametrize(
    "from_client", [True, False], ids=["from client", "from backend"]
)


@_BOTH_WAYS
@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "last first"])
def test_a_segment_in_fragments_arrives_whole(
    road: Road, lane: Lane, talk: Conversation, from_client: bool, in_order: bool
) -> None:
    """Only the first piece has the ports; all of them reach whom they are for."""
    talk.establish()
    sender, receiver = (talk.client, talk.backend)[:: 1 if from_client else -1]
    segment = sender.segment(lane, "PA", PAYLOAD)
    pieces = _in_fragments(segment)
    assert len(pieces) == 3
    tap = road.taps["red"] if from_client else road.client
    since = len(tap.frames)
    send = road.send_from_client if from_client else road.send_from_backend
    send(*pieces[:: 1 if in_order else -1])
    size = len(segment[TCP])
    came = until(lambda: _pieces(tap, since, lane, receiver, size), what="all of it came")
    arrived = _put_together(came, lane)
    assert ends(arrived) == (*receiver.peer, *receiver.own)
    assert bytes(arrived[TCP].payload) == PAYLOAD
    assert has_right_checksums(arrived)


def _in_fragments(segment: Packet) -> list[Packet]:
    """Return a segment in pieces of at most 512 bytes of payload."""
    if IP in segment:
        segment.id = 0x4242
        return list(fragment(segment, PIECE_BYTES))
    return list(fragment6(segment, IPV6_HEADERS_BYTES + PIECE_BYTES))


def _pieces(tap: Tap, since: int, lane: Lane, receiver: End, size: int) -> list[Packet]:
    """Return what has come to a receiver when it is `size` bytes, headers of IP apart."""

    def is_for_it(packet: Packet) -> bool:
        layer = lane.layer
        return layer in packet and packet[layer].dst == receiver.own[0]

    came = [packet[lane.layer] for packet in tap.seen(is_for_it, since=since)]
    found = 0
    for piece in came:
        body = piece[IPv6ExtHdrFragment] if IPv6ExtHdrFragment in piece else piece  # noqa: SIM401
        found += len(body.payload)
    return came if found == size else []


def _put_together(pieces: list[Packet], lane: Lane) -> Packet:
    """Return the packet that the pieces are of; it may have come in one."""
    if lane.version == 4:
        (whole,) = defragment(pieces)
    else:
        whole = defragment6(pieces) if IPv6ExtHdrFragment in pieces[0] else pieces[0]
    return lane.layer(bytes(whole))


@_BOTH_WAYS
def test_options_of_ip_pass_as_they_are(lane: Lane, talk: Conversation, from_client: bool) -> None:
    """A router alert, which asks each router to look, and an option for the receiver alone."""
    talk.establish()
    end = talk.client if from_client else talk.backend
    segment = end.segment(lane, "PA", b"look")
    if lane.version == 4:
        segment.options = [IPOption_Router_Alert()]
    else:
        head, body = segment.copy(), segment.payload
        head.remove_payload()
        segment = head / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / body
    passage = talk.client_sends(segment) if from_client else talk.backend_sends(segment)
    assert constant(passage.arrived) == constant(passage.sent)
    assert hops_left(passage.sent) - hops_left(passage.arrived) == 1
    assert has_right_checksums(passage.arrived)
    if lane.version == 6:
        arrived, sent = (p[IPv6ExtHdrDestOpt].options for p in (passage.arrived, passage.sent))
        assert arrived == sent
