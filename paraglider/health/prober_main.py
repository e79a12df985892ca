"""The prober as a process of its own: orders in, reports out, over one socket to the agent.

Owns the loop of that process, which has no privilege left and needs none. It ends when the other
end of the socket is closed, and never waits for a reader: what was not read yet gives way to what
is newer.
"""

from __future__ import annotations

import os
import resource
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable

from paraglider.health.prober import ProbeError, Prober, Result
from paraglider.health.resolver import Name, Resolved, Resolver
from paraglider.health.wire import (
    MAX_ORDERS_BYTES,
    LineBuffer,
    Reports,
    decode_orders,
    encode_reports,
    receive,
)

# A line, though nothing is in it, comes at least this often: silence means that we hang.
_BEAT_S = 2.0
_MAX_NOTES = 100


def serve_probes(
    channel: socket.socket,
    *,
    random: Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Probe and look up what `channel` orders, until its other end is closed.

    `channel` is one end of a socketpair of streams; `random` returns 0.0 to below 1.0. Raises
    ValueError for a line of orders above `MAX_ORDERS_BYTES`.
    """
    raise_file_limit()
    channel.setblocking(False)
    with selectors.DefaultSelector() as selector:
        _Loop(channel, selector, random, clock).run()


def raise_file_limit() -> None:
    """Allow as many open sockets as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Outbox:
    """Reports on their way to a reader who may be slow: at most one batch that is being written,
    and behind it the last result or error of each target and the last answer for each name."""

    def __init__(self) -> None:
        self._unsent = b""
        self._results: dict[str, Result] = {}
        self._errors: dict[str, ProbeError] = {}
        self._resolved: dict[Name, Resolved] = {}
        self._notes: deque[str] = deque(maxlen=_MAX_NOTES)
        self._is_due = False

    @property
    def is_empty(self) -> bool:
        return not (self._unsent or self._is_due)

    def put(self, reports: Reports) -> None:
        """Add these, in the place of older ones about the same; none at all are a line as well."""
        self._is_due = True
        for result in reports.results:
            self._errors.pop(result.key, None)
            self._results[result.key] = result
        self._errors.update({error.key: error for error in reports.errors})
        self._resolved.update({(it.name, it.family): it for it in reports.resolved})
        self._notes.extend(reports.notes)

    def flush(self, send: Callable[[bytes], int]) -> None:
        """Send what can be sent now. Raises OSError where nobody will ever read."""
        try:
            while not self.is_empty:
                if not self._unsent:
                    self._unsent = self._take()
                self._unsent = self._unsent[send(self._unsent) :]
        except BlockingIOError:
            return

    def _take(self) -> bytes:
        reports = Reports(
            tuple(self._results.values()),
            tuple(self._errors.values()),
            tuple(self._resolved.values()),
            tuple(self._notes),
        )
        line = encode_reports(reports)
        self._results.clear()
        self._errors.clear()
        self._resolved.clear()
        self._notes.clear()
        self._is_due = False
        return line


class _Loop:
    def __init__(
        self,
        channel: socket.socket,
        selector: selectors.BaseSelector,
        random: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._beat_s = clock()
        self._channel = channel
        self._selector = selector
        self._prober = Prober(selector, random=random, clock=clock)
        # Never closed: a lookup may end when the loop is over.
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._resolver = Resolver(wake=lambda: os.eventfd_write(self._woken, 1))
        self._lines = LineBuffer(MAX_ORDERS_BYTES)
        self._outbox = Outbox()
        self._is_over = False
        selector.register(channel, selectors.EVENT_READ, self._talk)
        selector.register(self._woken, selectors.EVENT_READ, lambda: os.eventfd_read(self._woken))

    def run(self) -> None:
        while not self._is_over:
            results = self._prober.poll(min(self._resolver.due_s, self._beat_s) - self._clock())
            now = self._clock()
            resolved = self._resolver.poll(now)
            errors = self._prober.take_errors()
            if results or errors or resolved or now >= self._beat_s:
                self._beat_s = now + _BEAT_S
                self._outbox.put(Reports(tuple(results), tuple(errors), tuple(resolved)))
                self._write()
        self._prober.close()

    def _talk(self) -> None:
        """The channel is ready."""
        self._read()
        self._write()

    def _read(self) -> None:
        data = receive(self._channel)
        if data is None:
            return
        self._is_over = self._is_over or not data
        # Orders are complete: only the last ones count.
        for line in self._lines.feed(data)[-1:]:
            self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            orders = decode_orders(line)
        except ValueError as error:
            note = f"cannot follow the agent's orders, the ones before stay: {error}"
            self._outbox.put(Reports(notes=(note,)))
            return
        now = self._clock()
        self._prober.set_targets(orders.targets, now)
        self._resolver.set_names(orders.names, now)

    def _write(self) -> None:
        try:
            self._outbox.flush(self._channel.send)
        except OSError:
            self._is_over = True
        events = selectors.EVENT_READ
        if not self._outbox.is_empty:
            events |= selectors.EVENT_WRITE
        self._selector.modify(self._channel, events, self._talk)
