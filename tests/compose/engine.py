"""The Docker engine, as the tests use it: containers and networks that carry the run's label.

All of it goes through the `docker` command. Every network is internal: packets reach containers of
the test that made it, or nobody.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol, runtime_checkable

import pytest

from tests.waiting import until

IMAGE = "paraglider"
# The least that an appliance needs; and what docs/container.md recommends, for an agent that is not
# root.
HARDENED = ("--read-only", "--cap-drop=ALL", "--cap-add=NET_ADMIN")
WITH_USER = (*HARDENED, "--cap-add=SETUID", "--cap-add=KILL")
LAB = ("python3", "-m", "paraglider.lab.traffic")
TIMEOUT_S = 60.0
# The command that an engine is asked with; one inside a container has more words before.
DOCKER = ("docker",)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def run(*command: str, stdin: str = "") -> Ended:
    """Run a command to its end."""
    done = subprocess.run(
        command, input=stdin, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def converse(*command: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run a command inside the `with`: what it reads, which ends it, and what it prints."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdin, process.stdout
        process.stdin.close()


def docker(*arguments: str, stdin: str = "", command: Sequence[str] = DOCKER) -> str:
    """Run a docker command that must go well; return what it prints."""
    ended = run(*command, *arguments, stdin=stdin)
    assert ended.code == 0, f"docker {' '.join(arguments)}: {ended.err or ended.out}"
    return ended.out


def give_up(reason: str) -> NoReturn:
    """Skip what cannot be had on somebody's machine; in CI, where it can, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def missing_engine() -> str | None:
    """Return why no container can be run here, or None."""
    try:
        ended = run("docker", "info", "--format", "{{.ServerVersion}}")
    except FileNotFoundError:
        return "the docker command is not installed (`make engine` does)"
    if ended.code == 0:
        return None
    return f"no Docker engine (`make engine` starts one): {ended.err.strip().splitlines()[-1]}"


def compose_commands() -> dict[str, str]:
    """Return the commands of compose that there are, by its version: ``1`` and ``2``."""
    fetched = Path(__file__).parents[2] / ".cache/compose/docker-compose-2"  # by .ci/compose
    found: dict[str, str] = {}
    for command in ("docker-compose", "docker compose", str(fetched)):
        try:
            ended = run(*command.split(), "version", "--short")
        except FileNotFoundError:
            continue
        if ended.code == 0:
            found.setdefault("1" if ended.out.startswith("1.") else "2", command)
    return found


@dataclass(frozen=True, slots=True)
class Container:
    """A container, running or ended."""

    name: str
    command: Sequence[str] = DOCKER

    def execute(self, *command: str, stdin: str = "") -> str:
        """Run a command inside; it must go well."""
        return self._docker("exec", "--interactive", self.name, *command, stdin=stdin)

    def logs(self) -> str:
        """Return all that it has printed, both streams."""
        ended = run(*self.command, "logs", self.name)
        return ended.out + ended.err

    def inspect(self, path: str) -> Any:
        """Return one value of `docker inspect`, such as ``.State.ExitCode``."""
        return json.loads(self._docker("inspect", "--format", f"{{{{json {path}}}}}", self.name))

    def agent_pid(self) -> str | None:
        """Return the process id of the agent, as inside the container."""
        listed = self.execute("ps", "-o", "pid,args").splitlines()
        pids = [line.split()[0] for line in listed if line.endswith("paraglider run")]
        return pids[0] if pids else None

    def kill_agent(self, signal: str) -> str:
        """Send a signal to the agent; return its process id."""
        pid = until(self.agent_pid, what="an agent runs")
        assert pid
        self.execute("kill", f"-{signal}", pid)
        return pid

    def signal(self, name: str) -> None:
        """Send a signal to process 1."""
        self._docker("kill", "--signal", name, self.name)

    def stop(self) -> int:
        """Stop it as a person would; return its exit code."""
        self._docker("stop", self.name)
        return self.exit_code()

    def exit_code(self) -> int:
        """Wait for its end; return its exit code."""
        return int(self._docker("wait", self.name))

    def wait_until_it_says(self, text: str, *, times: int = 1) -> None:
        """Wait until a text has been printed a number of times."""
        until(lambda: self.logs().count(text) >= times, what=f"{self.name} says {text!r}")

    def _docker(self, *arguments: str, stdin: str = "") -> str:
        return docker(*arguments, stdin=stdin, command=self.command)


class Engine:
    """Starts containers and networks under one label, and removes all of them by it."""

    def __init__(self, name: str, *, command: Sequence[str] = DOCKER) -> None:
        self.name = name
        self.command = command
        self.label = f"paraglider.test={name}"

    def docker(self, *arguments: str) -> str:
        """Run a docker command that must go well; return what it prints."""
        return docker(*arguments, command=self.command)

    def start(self, *arguments: str) -> Container:
        """Start a container in the background: options of `docker run`, image, arguments."""
        id_ = self.docker("run", "--detach", "--label", self.label, *arguments).strip()
        return Container(id_[:12], self.command)

    def serve(self, name: str, *options: str, listen: str) -> Container:
        """Start a server of the lab; return it when it listens."""
        program, *lab = LAB
        arguments = ("serve", "--listen", listen, "--name", name)
        hardened = ("--read-only", "--cap-drop=ALL", "--init", f"--entrypoint={program}")
        server = self.start(*hardened, *options, IMAGE, *lab, *arguments)
        server.wait_until_it_says("ready")
        return server

    def namespace(self, *options: str, also: Mapping[str, IPv4Address] | None = None) -> str:
        """Make a network namespace which outlives what runs in it, as the host's does: that of a
        container which does nothing. `also` has its addresses in more networks than `options` do.
        Return the option that puts a container into it."""
        holder = self.start(*options, "--entrypoint=sleep", IMAGE, "600")
        for network, address in (also or {}).items():
            self.docker("network", "connect", "--ip", str(address), network, holder.name)
        return f"--network=container:{holder.name}"

    def run(self, *arguments: str, stdin: str = "") -> Ended:
        """Run a container to its end."""
        options = ("--rm", "--interactive", "--label", self.label)
        return run(*self.command, "run", *options, *arguments, stdin=stdin)

    def network(self, name: str, subnet: IPv4Network) -> str:
        """Make an internal network; its first address is this machine's."""
        gateway = str(next(subnet.hosts()))
        options = ("--internal", "--subnet", str(subnet), "--gateway", gateway)
        in_the_way = network_in_the_way([subnet])
        assert in_the_way is None, f"the Docker network {in_the_way} has {subnet}; take it down"
        docker("network", "create", "--label", self.label, *options, f"{self.name}-{name}")
        return f"{self.name}-{name}"

    def containers(self, *filters: str) -> list[Container]:
        """Return the containers that have our label, or what the filters name instead."""
        wanted = filters or (f"label={self.label}",)
        options = [option for one in wanted for option in ("--filter", one)]
        listed = self.docker("ps", "--all", "--quiet", *options)
        return [Container(name, self.command) for name in listed.split()]

    def clean_up(self) -> None:
        """Remove every container and network of ours."""
        if names := [container.name for container in self.containers()]:
            self.docker("rm", "--force", "--volumes", *names)
        self.docker("network", "prune", "--force", "--filter", f"label={self.label}")


@runtime_checkable
class Witness(Protocol):
    """A fixture that has something to show beside a failure."""

    def evidence(self) -> Iterator[tuple[str, str]]:
        """Yield headings and texts."""


def networks() -> dict[str, list[IPv4Network]]:
    """Return the IPv4 networks that Docker has, by name."""
    names = docker("network", "ls", "--quiet").split()
    # Not all may be there any more: what is left is printed.
    found = json.loads(run("docker", "network", "inspect", *names).out)
    return {
        network["Name"]: [
            subnet
            for config in network["IPAM"]["Config"] or ()
            if isinstance(subnet := ip_network(config["Subnet"]), IPv4Network)
        ]
        for network in found
    }


def network_in_the_way(wanted: Sequence[IPv4Network]) -> str | None:
    """Return the name of a Docker network that has some of the wanted addresses, or None."""
    for name, subnets in networks().items():
        if any(subnet.overlaps(one) for subnet in subnets for one in wanted):
            return name
    return None
