"""Backends and clients on a lab's hosts: starts the traffic program there, reads its answers."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from types import TracebackType
from typing import Self

from paraglider.errors import ParagliderError
from paraglider.lab.hold import Report
from paraglider.lab.hosts import CommandFailed, Lab
from paraglider.lab.results import Results, parse_json

TRAFFIC = (sys.executable, "-m", "paraglider.lab.traffic")

READY_TIMEOUT_S = 30.0
# Above the timeouts of `connect` (60 s in all) and of `hold --timeout 10` (two round trips).
ANSWER_TIMEOUT_S = 90.0


def start_backend(
    lab: Lab, host: str, *, listen: str, name: str | None = None
) -> subprocess.Popen[str]:
    """Start a server on a host and wait until it listens; its name is `listen` unless given.

    It ends with the lab, at SIGTERM, or when its standard input is closed.
    """
    argv = [*TRAFFIC, "serve", "--listen", listen, "--until-eof"]
    argv += [] if name is None else ["--name", name]
    process = lab.start(host, argv)
    read_line(process, timeout_s=READY_TIMEOUT_S)
    return process


def connect_from(lab: Lab, host: str, *, to: str, count: int, timeout_s: float = 5.0) -> Results:
    """Make connections one after another from a host; failed ones are in the tally."""
    argv = [*TRAFFIC, "connect", "--to", to, "--count", str(count), "--json"]
    argv += ["--timeout", str(timeout_s)]
    done = lab.run(host, argv, timeout_s=ANSWER_TIMEOUT_S, check=False)
    if done.returncode not in (0, 1):
        raise CommandFailed(host, argv, returncode=done.returncode, output=done.stderr)
    return parse_json(done.stdout)


class HeldConnections:
    """Connections from a host that stay open and keep talking (see hold.py), until `close`.

    with HeldConnections(lab, "client", to="166.1.101.2:4444", count=300) as held:
        ...break something...
        assert held.settle().broken == 0
    """

    def __init__(
        self, lab: Lab, host: str, *, to: str, count: int = 300, timeout_s: float = 10.0
    ) -> None:
        argv = [*TRAFFIC, "hold", "--to", to, "--count", str(count), "--timeout", str(timeout_s)]
        self._process = lab.start(host, argv)
        self.opened = self._read_report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def report(self) -> Report:
        """Return the state now."""
        return self._ask("report")

    def settle(self) -> Report:
        """Return the state when each connection has answered once more, or broken."""
        return self._ask("settle")

    def close(self) -> None:
        """Close all connections; may be called twice."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(READY_TIMEOUT_S)

    def _ask(self, command: str) -> Report:
        print(command, file=self._process.stdin, flush=True)
        return self._read_report()

    def _read_report(self) -> Report:
        values = json.loads(read_line(self._process, timeout_s=ANSWER_TIMEOUT_S))
        return Report(**values)


def read_line(process: subprocess.Popen[str], *, timeout_s: float) -> str:
    """Return the next line that a started program prints.

    Raises ParagliderError where none comes in time or the program ended. For programs that print
    one line at a time: what is buffered already is not looked at.
    """
    if process.stdout is not None:
        readable, _, _ = select.select([process.stdout], [], [], timeout_s)
        line = process.stdout.readline() if readable else ""
        if line:
            return line
        if readable:
            # It closed its output: it is ending, and soon has a code.
            code = process.wait(timeout_s)
            raise ParagliderError(f"{_line(process)} printed nothing and ended with code {code}")
    raise ParagliderError(f"{_line(process)} printed nothing for {timeout_s:g} s")


def _line(process: subprocess.Popen[str]) -> str:
    arguments = process.args
    return " ".join(map(str, arguments)) if isinstance(arguments, list) else str(arguments)
