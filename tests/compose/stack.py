"""compose/basic as the tests use it: the appliance, and clients beside the demo's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import IO, Any

from paraglider.lab.tally import Tally, parse_json
from tests.compose.engine import HARDENED, IMAGE, LAB, Container, Engine

SAMPLE_NETWORKS = (IPv4Network("166.1.101.0/24"), IPv4Network("172.19.0.0/16"))
BIND = "166.1.101.2:4444"


@dataclass(frozen=True, slots=True)
class Held:
    """Connections that stay open and talk (paraglider/lab/hold.py)."""

    commands: IO[str]
    reports: IO[str]

    def report(self) -> Any:
        """Return the next report that was asked for."""
        return json.loads(self.reports.readline())

    def settle(self) -> Any:
        """Return the state after each connection has talked once more."""
        self.commands.write("settle\n")
        self.commands.flush()
        return self.report()


@dataclass(frozen=True, slots=True)
class Stack:
    """The demo under a project name of the test run's own."""

    engine: Engine
    project: str
    compose: Any  # pytest-docker's

    @property
    def appliance(self) -> Container:
        """The balancer."""
        return self._container("appliance")

    def _container(self, service: str) -> Container:
        listed = self.compose.execute(f"ps --quiet {service}", ignore_stderr=True)
        return Container(listed.decode().strip())

    def run_client(self) -> str:
        """Run the demo's own client; return the table that a person sees."""
        table: bytes = self.compose.execute("run --rm -T client", ignore_stderr=True)
        return table.decode()

    def connect(self, count: int) -> Tally:
        """Connect from a client of our own; return who answered."""
        arguments = ("connect", "--to", BIND, "--count", str(count), "--wait", "10", "--json")
        return parse_json(self.engine.run(*self._client(), *arguments).out)

    @contextmanager
    def hold(self, count: int) -> Iterator[Held]:
        """Keep connections open and talking from a client of our own."""
        arguments = ("hold", "--to", BIND, "--count", str(count))
        command = ["docker", "run", "--rm", "--interactive", "--label", self.engine.label]
        with subprocess.Popen(
            [*command, *self._client(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client:
            assert client.stdin
            assert client.stdout
            held = Held(client.stdin, client.stdout)
            assert held.report()["open"] == count
            yield held
            client.stdin.close()

    def _client(self) -> tuple[str, ...]:
        program, *arguments = LAB
        network = f"--network={self.project}_clients"
        return (*HARDENED, network, f"--entrypoint={program}", IMAGE, *arguments)
