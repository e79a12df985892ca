"""Connections as a whole, on the wire: who gets them, how they end, what does not belong to one.

Where the client is crafted and the backend is real, the backend's own kernel answers.
"""

from __future__ import annotations

from collections import Counter

import pytest
from scapy.layers.inet import TCP
from scapy.packet import Packet

from tests.compose.stack import Stack
from tests.compose.wire.conversation import (
    CLOSED,
    SOURCE_PORT,
    THREE,
    Conversation,
    End,
    Lane,
    Road,
    make_conversation,
    same_segment,
    state_of,
)
from tests.compose.wire.look import addresses, ends

CROWD = 2000
_PIECE = 100


def test_a_syn_sent_again_reaches_the_same_backend(road: Road, lane: Lane) -> None:
    """However often a client says its first word, it is one connection, with one port; and it
    takes one turn."""
    chosen = []
    for _ in range(3):
        number = road.next_stranger()
        syn = _newcomer(lane, number, THREE).segment(lane, "S")
        since = len(road.appliance.frames)
        road.send_from_client(*[syn] * 5)
        passed = road.appliance.wait(
            same_segment(syn), what="SYN", network="backends", since=since, count=5
        )
        ways = {ends(packet) for packet in passed}
        assert len(ways) == 1
        chosen.append(ways.pop()[2])
    assert sorted(chosen) == sorted(lane.backends)


def test_two_clients_with_one_source_port_both_get_through(road: Road, lane: Lane) -> None:
    """Behind one privateip they get ports of their own, and each its own answers."""
    talks = [make_conversation(road, lane) for _ in range(2)]
    assert {talk.client.own[1] for talk in talks} == {SOURCE_PORT}
    for talk in talks:
        talk.establish()
    assert talks[0].backend.peer != talks[1].backend.peer
    for talk in talks:
        talk.from_client("PA", b"to the backend, from " + talk.client.own[0].encode())
        back = talk.from_backend("PA", b"to " + talk.client.own[0].encode())
        assert ends(back.arrived)[2:] == talk.client.own


def test_2000_clients_with_one_source_port_all_get_through(road: Road, lane: Lane) -> None:
    """Each shakes hands with a real backend, and is greeted: in turn, by a port of its own."""
    crowd = [_newcomer(lane, road.next_stranger(), THREE) for _ in range(CROWD)]
    by_address = {end.own[0]: end for end in crowd}
    greetings = {}
    for start in range(0, CROWD, _PIECE):
        piece = crowd[start : start + _PIECE]
        since = len(road.client.frames)
        road.send_from_client(*(end.segment(lane, "S") for end in piece))
        for answer in _answers(road, piece, "SA", since):
            end = by_address[answer[lane.layer].dst]
            end.seq += 1
            end.accept(answer)
        road.send_from_client(*(end.segment(lane, "A") for end in piece))
        for greeting in _answers(road, piece, "PA", since):
            greetings[greeting[lane.layer].dst] = bytes(greeting[TCP].payload).decode().split()
        # A port may serve for another backend, and again once the kernel has forgotten what was
        # reset, ten seconds later; never twice for one at a time.
        reason = (greetings[end.own[0]] for end in piece)
        assert len({(name, port) for name, _, port in reason}) == len(piece)
        road.send_from_client(*(end.segment(lane, "R") for end in piece))
    assert greetings.keys() == by_address.keys()
    assert {peer for _, peer, _ in greetings.values()} == {lane.privateip}
    shares = Counter(name for name, *_ in greetings.values())
    assert sorted(shares.values()) == [666, 667, 667]


def _answers(road: Road, clients: list[End], flags: str, since: int) -> list[Packet]:
    """Return the first segment with these flags for each client."""
    waiting = {client.own for client in clients}

    def is_first(packet: Packet) -> bool:
        # A kernel that hears nothing says it again.
        if TCP not in packet or packet[TCP].flags != flags or ends(packet)[2:] not in waiting:
            return False
        waiting.remove(ends(packet)[2:])
        return True

    what = f"{flags} for each of {len(clients)}"
    return road.client.wait(is_first, what=what, since=since, count=len(clients))


def _newcomer(lane: Lane, number: int, port: int) -> End:
    """Return the end of a client of the crowd that wants to talk to a frontend."""
    return End((lane.stranger(number), SOURCE_PORT), (lane.bind, port), seq=number << 16)


@pytest.mark.parametrize("client_first", [True, False], ids=["client first", "backend first"])
def test_a_fin_from_either_side_closes_the_entry(
    stack: Stack, talk: Conversation, client_first: bool
) -> None:
    """Half closed, the other side may still talk; closed from both, conntrack knows that it is
    over."""
    talk.establish()
    assert state_of(talk.client, stack.appliance) == "ESTABLISHED"
    first, second = (talk.from_client, talk.from_backend)[:: 1 if client_first else -1]
    first("FA")
    assert state_of(talk.client, stack.appliance) == "FIN_WAIT"
    second("A")
    assert state_of(talk.client, stack.appliance) == "CLOSE_WAIT"
    second("PA", b"still here")
    first("A")
    second("FA")
    assert state_of(talk.client, stack.appliance) == "LAST_ACK"
    first("A")
    assert state_of(talk.client, stack.appliance) == "TIME_WAIT"


@pytest.mark.parametrize("by_client", [True, False], ids=["by client", "by backend"])
def test_a_reset_from_either_side_closes_the_entry(
    stack: Stack, talk: Conversation, by_client: bool
) -> None:
    """It passes, and conntrack knows that it is over."""
    talk.establish()
    talk.from_client("PA", b"hello")
    assert state_of(talk.client, stack.appliance) == "ESTABLISHED"
    sender, receiver = (talk.client, talk.backend)[:: 1 if by_client else -1]
    reset = (talk.from_client if by_client else talk.from_backend)("R")
    assert ends(reset.sent) == (*sender.own, *sender.peer)
    assert ends(reset.arrived) == (*receiver.peer, *receiver.own)
    assert state_of(talk.client, stack.appliance) == "CLOSE"


def test_a_closed_port_is_refused_by_the_answer_to_the_first_syn(
    stack: Stack, road: Road, lane: Lane
) -> None:
    """The backend's own reset comes from the bind; one SYN was enough, and no entry is left."""
    client = _newcomer(lane, road.next_stranger(), CLOSED)
    since = len(road.client.frames)
    syn = client.segment(lane, "S")
    road.send_from_client(syn)
    (answer,) = _answers(road, [client], "RA", since)
    assert ends(answer) == (*client.peer, *client.own)
    assert answer[TCP].ack == syn[TCP].seq + 1
    assert state_of(client, stack.appliance) == ""


@pytest.mark.parametrize("from_client", [True, False], ids=["from client", "from backend"])
def test_a_segment_outside_the_window_goes_nowhere(
    road: Road, talk: Conversation, lane: Lane, from_client: bool
) -> None:
    """Conntrack does not translate it: it is not delivered, nobody is reset, the talk goes on."""
    talk.establish()
    end = talk.client if from_client else talk.backend
    invalid = end.segment(lane, "PA", b"stray", seq=(end.seq + 2**28) % 2**32)
    marks = road.mark()
    (road.send_from_client if from_client else road.send_from_backend)(invalid)
    # What is sent after it arrives after it.
    talk.from_client("PA", b"goes on")
    talk.from_backend("PA", b"goes on, too")
    network = "clients" if from_client else "backends"
    came = [
        (frame.network, ends(frame.packet))
        for frame in road.since(marks)
        if b"stray" in bytes(frame.packet)
    ]
    # Before the appliance and nowhere else. (A tap does not see what it sends itself.)
    assert came == [(network, ends(invalid))]
    resets = [
        str(frame)
        for frame in road.since(marks)
        if TCP in frame.packet
        and "R" in frame.packet[TCP].flags
        and end.own[0] in addresses(frame.packet)
    ]
    assert resets == []
