"""UDP for tests: ``python -m tests.netns.datagrams serve|ask|talk``, and what starts them.

serve  a backend: answers each datagram with its own name, the peer that it sees, and what it got
ask    a client: one datagram from each of many ports, and who answered it
talk   a client: flows that go on and on from a port each; prints who answered which, and the source
       that it saw, or that the flow was refused, 20 times a second
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from paraglider.lab.actors import read_line
from paraglider.lab.hosts import Lab
from paraglider.lab.results import Results, parse_json, render_json
from paraglider.lab.wire import describe, family_of, parse_endpoint, parse_greeting, render_greeting

_PROGRAM = (sys.executable, "-m", "tests.netns.datagrams")
_PAUSE_S = 0.05
_PATIENCE_S = 10.0


def serve_datagrams(lab: Lab, host: str, *, listen: str, name: str) -> subprocess.Popen[str]:
    """Start a server on a host and wait until it listens; it ends with the lab."""
    process = lab.start(host, [*_PROGRAM, "serve", listen, name])
    assert read_line(process, timeout_s=30) == "ready\n"
    return process


def send_from(lab: Lab, host: str, *, to: str, count: int) -> Results:
    """Send a datagram from each of `count` ports of a host, one after another."""
    return parse_json(lab.run(host, [*_PROGRAM, "ask", to, str(count)]).stdout)


class Flows:
    """Flows of datagrams from a host that go on until the end of the block. `seen` is by whom each,
    by its number, was answered so far, one after another; and, `with_source`, from which address it
    seemed to come: ``b1 172.19.0.4``."""

    def __init__(
        self, lab: Lab, host: str, *, to: str, count: int, with_source: bool = False
    ) -> None:
        self._with_source = with_source
        self._process = lab.start(host, [*_PROGRAM, "talk", to, str(count)])
        self._partial = ""
        self._rounds = 0
        self.seen: dict[str, list[str]] = {str(number): [] for number in range(count)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(10)

    def until(self, *answers: str) -> None:
        """Wait until the flows are answered by `answers`, in whatever order."""
        self._until(lambda now: sorted(now.values()) == sorted(answers))

    def until_sources(self, source: str) -> None:
        """Wait until each flow is answered by somebody that sees it come from `source`."""
        self._until(lambda now: {answer.split()[-1] for answer in now.values()} == {source})

    def settle(self) -> None:
        """Wait for ten rounds more, and what they bring."""
        last = self._rounds + 10
        self._until(lambda _: self._rounds >= last)

    @property
    def now(self) -> dict[str, str]:
        """By whom each flow was answered last."""
        return {number: seen[-1] for number, seen in self.seen.items() if seen}

    def _until(self, is_it: Callable[[dict[str, str]], bool]) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while not is_it(self.now):
            assert time.monotonic() < deadline_s, f"not in time: {self.seen}"
            self._read()

    def _read(self) -> None:
        """Take in what was printed, one round or more."""
        stream = self._process.stdout
        assert stream is not None
        assert select.select([stream], [], [], _PATIENCE_S)[0], f"silent: {self.seen}"
        part = os.read(stream.fileno(), 65536).decode()
        assert part, f"it ended: {self.seen}"
        *lines, self._partial = (self._partial + part).split("\n")
        self._rounds += len(lines)
        for line in lines:
            for number, reason in json.loads(line).items():
                answer, source = reason
                answer = f"{answer} {source}" if self._with_source and source else answer
                if self.seen[number][-1:] != [answer]:
                    self.seen[number].append(answer)


def _open(to: tuple[str, int]) -> socket.socket:
    flow = socket.socket(family_of(to[0]), socket.SOCK_DGRAM)
    flow.connect(to)  # so that ICMP's word is heard
    return flow


def _serve(listen: tuple[str, int], name: str) -> None:
    server = socket.socket(family_of(listen[0]), socket.SOCK_DGRAM)
    server.bind(listen)
    print("ready", flush=True)
    while True:
        _, (host, port, *_) = server.recvfrom(512)
        server.sendto(render_greeting(name, host, port), (host, port))


def _ask(to: tuple[str, int], count: int) -> None:
    answers, failures = [], []
    with ExitStack() as flows:  # all stay open: a port that comes again is a flow that goes on
        for _ in range(count):
            flow = flows.enter_context(_open(to))
            flow.settimeout(2.0)
            try:
                flow.send(b"?")
                answers.append(parse_greeting(flow.recv(512)))
            except OSError as error:
                failures.append(describe(error))
    print(render_json(Results(tuple(answers), tuple(failures))))


def _talk(to: tuple[str, int], count: int) -> None:
    flows = {_open(to): str(number) for number in range(count)}
    while True:
        found: dict[str, tuple[str, str]] = {}
        for flow, number in flows.items():
            try:
                flow.send(b"?")
            except OSError as error:  # what came of the one before
                found[number] = describe(error), ""
        deadline_s = time.monotonic() + _PAUSE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            for flow in select.select(list(flows), [], [], left_s)[0]:
                try:
                    answer = parse_greeting(flow.recv(512))
                    found[flows[flow]] = answer.backend, answer.peer
                except OSError as error:
                    found[flows[flow]] = describe(error), ""
        print(json.dumps(found), flush=True)


def main() -> None:
    """Run one of the commands."""
    what, endpoint, argument = sys.argv[1:]
    to = parse_endpoint(endpoint)
    match what:
        case "serve":
            _serve(to, argument)
        case "ask":
            _ask(to, int(argument))
        case "talk":
            _talk(to, int(argument))


if __name__ == "__main__":
    main()
