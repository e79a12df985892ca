"""Many connections that stay open and talk all the time: who of them lives through a fault?

Each connection sends a number, waits for its echo and sends the next one a little later. It is
broken when the other end resets or closes it, echoes something else, or does not answer within the
timeout. Standard input takes one command a line, each answered with one line of JSON (Report):

    report   the state now
    settle   the state when each connection has either answered a number sent after this command
             or broken: the one to use after a fault

Its end closes everything. A first report is written when all connections have been opened.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TextIO

from paraglider.config.quote import quoted
from paraglider.lab.wire import describe, open_connection

# How far late a number may be sent; also how often silent connections are looked for.
TICK_S = 0.02
# The number under way may have been sent before the command; the one after it was not.
SETTLED_AFTER_ROUND_TRIPS = 2


@dataclass(frozen=True, slots=True)
class Report:
    """The state of all connections; `open_by_backend` and `reasons` add up to the count asked."""

    open: int
    broken: int
    round_trips: int
    slowest_ms: float
    open_by_backend: dict[str, int]
    reasons: dict[str, int]


@dataclass(slots=True, eq=False)
class Talk:
    """One connection. `due` is when to send next, or by when the echo of `awaited` must be in."""

    connection: socket.socket
    backend: str
    due: float
    awaited: bytes = b""
    sent_at: float = 0.0
    received: bytes = b""
    round_trips: int = 0
    settled_at: int = 0


@dataclass(slots=True)
class Hold:
    """The connections to one endpoint, and what has become of them."""

    host: str
    port: int
    timeout_s: float
    interval_s: float
    commands: TextIO
    out: TextIO
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _talks: list[Talk] = field(default_factory=list)
    _reasons: Counter[str] = field(default_factory=Counter)
    _round_trips: int = 0
    _slowest_s: float = 0.0
    _settling: bool = False
    _partial: str = ""

    def open(self, count: int) -> None:
        """Open the connections one after another; those that fail count as broken."""
        for _ in range(count):
            try:
                connection, answer = open_connection(self.host, self.port, timeout_s=self.timeout_s)
            except (OSError, ValueError) as error:
                self._reasons[f"not opened: {describe(error)}"] += 1
                continue
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = Talk(connection, answer.backend, due=time.monotonic())
            self._talks.append(talk)
            self._selector.register(connection, selectors.EVENT_READ, talk)
        self._print_report()

    def talk(self) -> None:
        """Keep talking on every open connection until the commands end."""
        self._selector.register(self.commands, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select(TICK_S):
                if key.data is not None:
                    self._receive(key.data)
                elif not self._obey():
                    return
            now = time.monotonic()
            for talk in [talk for talk in self._talks if talk.due <= now]:
                if talk.awaited:
                    self._break(talk, f"no answer within {self.timeout_s:g} s")
                else:
                    self._send(talk, now)
            self._report_when_settled()

    def report(self) -> Report:
        """Return the state now."""
        return Report(
            open=len(self._talks),
            broken=self._reasons.total(),
            round_trips=self._round_trips,
            slowest_ms=round(self._slowest_s * 1000, 3),
            open_by_backend=dict(sorted(Counter(talk.backend for talk in self._talks).items())),
            reasons=dict(sorted(self._reasons.items())),
        )

    def _send(self, talk: Talk, now: float) -> None:
        talk.awaited = f"{talk.round_trips}\n".encode()
        talk.sent_at = now
        talk.due = now + self.timeout_s
        try:
            # A dozen bytes into a buffer that is empty: sent whole or not at all.
            talk.connection.send(talk.awaited)
        except OSError as error:
            self._break(talk, describe(error))

    def _receive(self, talk: Talk) -> None:
        try:
            chunk = talk.connection.recv(4096)
        except OSError as error:
            self._break(talk, describe(error))
            return
        talk.received += chunk
        if not chunk:
            self._break(talk, "closed by the other end")
        elif not talk.awaited.startswith(talk.received):
            self._break(talk, "another answer than what was sent")
        elif talk.received == talk.awaited:
            now = time.monotonic()
            talk.awaited, talk.received = b"", b""
            talk.round_trips += 1
            talk.due = now + self.interval_s
            self._round_trips += 1
            self._slowest_s = max(self._slowest_s, now - talk.sent_at)

    def _break(self, talk: Talk, reason: str) -> None:
        self._reasons[reason] += 1
        self._talks.remove(talk)
        self._selector.unregister(talk.connection)
        talk.connection.close()

    def _obey(self) -> bool:
        """Read commands and carry them out; return False at their end."""
        chunk = os.read(self.commands.fileno(), 4096).decode()
        *lines, self._partial = (self._partial + chunk).split("\n")
        for line in lines:
            if line == "settle":
                self._settling = True
                for talk in self._talks:
                    talk.settled_at = talk.round_trips + SETTLED_AFTER_ROUND_TRIPS
            elif line == "report":
                self._print_report()
            else:
                print(
                    json.dumps({"error": f"unknown command {quoted(line)}"}),
                    file=self.out,
                    flush=True,
                )
        return bool(chunk)

    def _report_when_settled(self) -> None:
        if self._settling and all(talk.round_trips >= talk.settled_at for talk in self._talks):
            self._settling = False
            self._print_report()

    def _print_report(self) -> None:
        print(json.dumps(asdict(self.report())), file=self.out, flush=True)
