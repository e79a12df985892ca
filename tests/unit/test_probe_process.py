"""The prober's process: orders in, reports out, and an end when nobody is there to read them."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from paraglider.config.model import Check, CheckKind, Family, HttpRequest
from paraglider.health.probe import Target
from paraglider.health.prober import ProbeError, Result
from paraglider.health.prober_main import Outbox, serve_probes
from paraglider.health.resolver import Resolved
from paraglider.health.wire import (
    MAX_REPORTS_BYTES,
    LineBuffer,
    Reports,
    decode_reports,
    encode_orders,
)
from tests.unit.probe_sockets import ADDRESS

GOOD = Result("web", True, "connected", 0.1)
BAD = Result("web", False, "refused", 0.1)
FAILED = ProbeError("web", "cannot open a socket")


@pytest.fixture
def agent() -> Iterator[socket.socket]:
    """The agent's end of the socket to a prober, in a thread instead of a process."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    # Ten seconds between any two looks: nothing is waited for.
    options = {"random": random.random, "clock": itertools.count(step=10).__next__}
    thread = Thread(target=serve_probes, args=(theirs,), kwargs=options)
    thread.start()
    yield ours
    ours.close()
    thread.join(10)
    theirs.close()
    assert not thread.is_alive()


def read_lines(agent: socket.socket) -> Iterator[Reports]:
    """Yield each line of reports."""
    buffer = LineBuffer(MAX_REPORTS_BYTES)
    while True:
        yield from map(decode_reports, buffer.feed(agent.recv(65536)))


def read_note(agent: socket.socket) -> str:
    """Return the next note."""
    return next(note for reports in read_lines(agent) for note in reports.notes)


def test_it_ends_with_the_agent(agent: socket.socket) -> None:
    """Which the fixture waits for; here with orders that come in two pieces before."""
    orders = encode_orders([], {})
    agent.sendall(orders[:10])
    agent.sendall(orders[10:])


def test_it_says_again_and_again_that_it_lives(agent: socket.socket) -> None:
    """Though there is nothing to tell."""
    assert list(itertools.islice(read_lines(agent), 3)) == [Reports()] * 3


def test_it_lives_on_after_orders_that_it_does_not_understand(agent: socket.socket) -> None:
    for _ in range(2):
        agent.sendall(b"probe everything\n")
        note = read_note(agent)
        assert note.startswith("cannot follow the agent's orders, the ones before stay: ")


def test_it_obeys_and_reports(agent: socket.socket) -> None:
    """With a check that no packet leaves for: its request cannot be made."""
    check = Check(kind=CheckKind.HTTP, interval_s=0.01, http=HttpRequest(path="/ /"))
    agent.sendall(encode_orders([Target("web", "", ADDRESS, 80, check)], {}))
    error = next(error for reports in read_lines(agent) for error in reports.errors)
    assert error.key == "web"
    assert error.reason.startswith("cannot ask '/ /' over HTTP")


class Channel:
    """Takes `room_bytes`, then nothing until there is room again."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.taken = b""

    def send(self, data: bytes) -> int:
        if not self.room_bytes:
            raise BlockingIOError
        sent = data[: self.room_bytes]
        self.room_bytes -= len(sent)
        self.taken += sent
        return len(sent)

    def reports(self) -> list[Reports]:
        return [decode_reports(line) for line in LineBuffer(1 << 20).feed(self.taken)]


def test_reports_go_out_in_one_line() -> None:
    outbox, channel = Outbox(), Channel(1 << 20)
    resolved = Resolved("db", Family.IPV4, None, "gone")
    reports = Reports((GOOD,), (FAILED,), (resolved,), ("a note",))
    outbox.put(reports)
    outbox.flush(channel.send)
    assert channel.reports() == [reports]
    assert outbox.is_empty


def test_a_reader_who_comes_late_has_the_newest_of_each() -> None:
    """What is being written is written to its end first."""
    outbox, channel = Outbox(), Channel(10)
    outbox.put(Reports((GOOD,)))
    outbox.flush(channel.send)
    other = Result("db", True, "connected", 0.1)
    for _ in range(1000):
        outbox.put(Reports((GOOD, other, BAD), notes=("again",)))
        outbox.flush(channel.send)
    channel.room_bytes = 1 << 20
    outbox.flush(channel.send)
    assert [report.results for report in channel.reports()] == [(GOOD,), (BAD, other)]
    assert len(channel.reports()[1].notes) == 100


def test_an_error_that_is_over_is_not_reported() -> None:
    """A result that came before it counts all the same."""
    outbox, channel = Outbox(), Channel(1 << 20)
    outbox.put(Reports(errors=(FAILED,)))
    outbox.put(Reports((GOOD,)))
    outbox.flush(channel.send)
    outbox.put(Reports((GOOD,)))
    outbox.put(Reports(errors=(FAILED,)))
    outbox.flush(channel.send)
    assert channel.reports() == [Reports((GOOD,)), Reports((GOOD,), (FAILED,))]


def test_a_reader_who_is_gone_is_an_error() -> None:
    def send(_: bytes) -> int:
        raise BrokenPipeError

    outbox = Outbox()
    outbox.put(Reports((GOOD,)))
    with pytest.raises(BrokenPipeError):
        outbox.flush(send)
