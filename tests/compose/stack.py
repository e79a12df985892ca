"""A demo's compose file as the tests use it: up under a project name of the run's own, then gone.

    with open_stack(DEMOS / "basic", compose="docker compose") as stack:
        assert "all  300" in stack.run("client")

`compose` is the command of version 2 or of version 1; pytest-docker runs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import IO, Any

import yaml
from pytest_docker.plugin import DockerComposeExecutor, get_docker_services

from paraglider.lab.results import Results, parse_json
from tests.compose.engine import (
    HARDENED,
    IMAGE,
    LAB,
    Container,
    Engine,
    converse,
    network_in_the_way,
)
from tests.compose.runs import PROJECT

ROOT = Path(__file__).parents[2]
DEMOS = ROOT / "compose"


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


@contextmanager
def hold_connections(*command: str, count: int) -> Iterator[Held]:
    """Run a command that holds connections, inside the `with`; all of them must be had."""
    with converse(*command) as (commands, reports):
        held = Held(commands, reports)
        assert held.report()["open"] == count
        yield held


@dataclass(frozen=True, slots=True)
class Client:
    """Opens connections from a container of its own, on one network, to one frontend."""

    engine: Engine
    network: str
    to: str

    def connect(self, count: int, *options: str) -> Results:
        """Connect a number of times; return who answered."""
        arguments = ("connect", "--to", self.to, "--count", str(count), "--json", *options)
        ended = self.engine.run(*self._options(), *arguments)
        assert ended.out, ended.err
        return parse_json(ended.out)

    def transfer(self, size: int, *, timeout_s: int) -> str:
        """Send a number of bytes through one connection and read their echo; return what it
        says."""
        arguments = ("transfer", "--to", self.to, f"--size={size}", f"--timeout={timeout_s}")
        ended = self.engine.run(*self._options(), *arguments)
        assert ended.code == 0, ended.err
        return ended.out

    @contextmanager
    def hold(self, count: int) -> Iterator[Held]:
        """Keep connections open and talking."""
        arguments = ("hold", "--to", self.to, "--count", str(count))
        command = ["docker", "run", "--rm", "--interactive", "--label", self.engine.label]
        with hold_connections(*command, *self._options(), *arguments, count=count) as held:
            yield held

    def _options(self) -> tuple[str, ...]:
        program, *arguments = LAB
        return (
            *HARDENED,
            f"--network={self.network}",
            f"--entrypoint={program}",
            IMAGE,
            *arguments,
        )


@dataclass(frozen=True, slots=True)
class Stack:
    """A compose file that is up."""

    engine: Engine
    project: str
    compose: DockerComposeExecutor

    @property
    def appliance(self) -> Container:
        """The balancer."""
        return self.container("appliance")

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        return Container(self.do(f"ps --all --quiet {service}").strip())

    def run(self, service: str, *arguments: str) -> str:
        """Run a service to its end, as a person would; return what it prints."""
        return self.do(" ".join(("run --rm -T", service, *arguments)))

    def do(self, subcommand: str) -> str:
        """Run a command of compose that must go well; return what it prints."""
        printed: bytes = self.compose.execute(subcommand, ignore_stderr=True)
        return printed.decode()

    def client(self, network: str, to: str) -> Client:
        """Return a client of our own on a network of the stack's."""
        return Client(self.engine, f"{self.project}_{network}", to)


@contextmanager
def open_stack(
    folder: Path,
    *,
    compose: str,
    up: Sequence[str] = ("appliance",),
    over: Sequence[str] = (),
) -> Iterator[Stack]:
    """Bring services of ``folder/compose.yaml`` up, and what they depend on; at the end, down.

    `over` names more files of the folder, which change what the first says.
    """
    files = [str(folder / name) for name in ("compose.yaml", *over)]
    if name := network_in_the_way(subnets(folder / "compose.yaml")):
        raise AssertionError(f"the Docker network {name} has addresses of {folder}; take it down")
    project = f"{PROJECT}-{folder.name}"
    engine = Engine(project)
    executor = DockerComposeExecutor(compose, files, project)
    try:
        setup = f"up --detach {' '.join(up)}"
        with get_docker_services(compose, files, project, setup, "") as services:
            yield Stack(engine, project, services._docker_compose)
    finally:
        # Also when not all came up. First what hangs on its networks and keeps them from going.
        engine.clean_up()
        executor.execute("down --volumes --remove-orphans --timeout 5")


def subnets(file: Path) -> list[IPv4Network]:
    """Return the IPv4 networks that a compose file asks for."""
    networks = yaml.safe_load(file.read_text()).get("networks") or {}
    return [
        IPv4Network(config["subnet"])
        for network in networks.values()
        for config in network.get("ipam", {}).get("config", ())
        if ":" not in config["subnet"]
    ]
