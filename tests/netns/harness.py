"""Hosts for tests that need a real kernel: a client, a balancer and three backends, in one lab.

    def test_even(topology: Topology) -> None:
        topology.balancer.paraglider("start", config=topology.config)
        assert topology.connect(300).by_backend == {"b1": 100, "b2": 100, "b3": 100}

Packets reach the lab's own hosts or nobody.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paraglider.errors import PermissionDenied, UnavailableError
from paraglider.kernel.iptables import Variant as Variant  # noqa: PLC0414 - tests take it here
from paraglider.lab.actors import HeldConnections, connect_from, start_backend
from paraglider.lab.hosts import Lab, make_environment
from paraglider.lab.results import Results

# Checks that find out within seconds, and yet are patient, on a machine that is busy.
CHECK = "check: {interval: 400ms, timeout: 400ms, rise: 2, fall: 3}"

CLIENT = "client"
BALANCER = "balancer"
BACKENDS = ("b1", "b2", "b3")


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The addresses of a topology, all of one family; backends in the order b1, b2, b3."""

    version: int
    client: str
    bind: str
    privateip: str
    backends: tuple[str, ...]
    clients_prefix: int
    backends_prefix: int
    bind_port: int = 4444
    backend_port: int = 5555

    @property
    def bind_endpoint(self) -> str:
        """ADDRESS:PORT that clients connect to."""
        return self.endpoint(self.bind, self.bind_port)

    @property
    def backend_endpoints(self) -> tuple[str, ...]:
        """ADDRESS:PORT of each backend."""
        return tuple(self.endpoint(address, self.backend_port) for address in self.backends)

    @property
    def config(self) -> str:
        """A configuration of the seed's form."""
        return self.make_config(self.backend_endpoints)

    def make_config(
        self, backends: Sequence[str], *more: str, binds: Sequence[str] = (), privateip: str = ""
    ) -> str:
        """Return a configuration with other backends than all three, other `binds` or another
        `privateip`, and `more` lines of the frontend. A backend that begins with a brace is written
        as it is, and so is a `privateip` that begins with a bracket and a quote."""
        items = [b if b.startswith("{") else f'"{b}"' for b in backends]
        lines = [f"    - {item}\n" for item in items]
        listed = ", ".join(f'"{bind}"' for bind in binds)
        bind = f"[{listed}]" if binds else f'"{self.bind_endpoint}"'
        seen = privateip if privateip.startswith('["') else f'"{privateip or self.privateip}"'
        head = f"frontend:\n  bind: {bind}\n  privateip: {seen}\n"
        options = "".join(f"  {line}\n" for line in more)
        return f"{head}{options}  backends:\n{''.join(lines)}"

    def endpoint(self, address: str, port: int) -> str:
        """Write an endpoint as the configuration has it."""
        return f"[{address}]:{port}" if self.version == 6 else f"{address}:{port}"


# Those of the seed's sample file.
IPV4 = AddressPlan(
    version=4,
    client="166.1.101.10",
    bind="166.1.101.2",
    privateip="172.19.0.4",
    backends=("172.19.0.2", "172.19.0.3", "172.19.0.6"),
    clients_prefix=24,
    backends_prefix=16,
)

IPV6 = AddressPlan(
    version=6,
    client="fd66:101::10",
    bind="fd66:101::2",
    privateip="fd17:19::4",
    backends=("fd17:19::2", "fd17:19::3", "fd17:19::6"),
    clients_prefix=64,
    backends_prefix=64,
)


# Others' rules in every table that ours go to, as a firewall and a container engine leave them.
FOREIGN = """\
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "ssh -j PARAGLIDER-INPUT" -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*mangle
-A POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -p tcp -m tcp --dport 8080 -j RETURN
COMMIT
"""


@dataclass(frozen=True, slots=True)
class Balancer:
    """The host that the paraglider command runs on, with one variant of iptables."""

    lab: Lab
    variant: Variant
    version: int = 4

    def paraglider(
        self, *arguments: str, config: str | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run ``paraglider ARGUMENTS``; `config` is the file's text, given on standard input.

        Does not raise when the command fails: its code and messages are what tests look at.
        """
        argv = [*PARAGLIDER, *(() if config is None else ("-config", "-")), *arguments]
        return self.run(*argv, input=config, check=False, timeout_s=timeout_s)

    def start_paraglider(
        self, *arguments: str, program: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start a ``paraglider`` that stays (`run`), its errors on standard output too; `program`
        is what to start in its place."""
        argv = [*(program or PARAGLIDER), *arguments]
        return self.lab.start(BALANCER, argv, env=self._environment, stderr=subprocess.STDOUT)

    def run(
        self,
        *argv: str,
        input: str | None = None,  # noqa: A002 - the word of subprocess.run
        check: bool = True,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run any command on the balancer."""
        return self.lab.run(
            BALANCER, argv, input=input, check=check, timeout_s=timeout_s, env=self._environment
        )

    def iptables(self, *arguments: str) -> str:
        """Run iptables (ip6tables in a topology of IPv6) in this variant; return what it said."""
        return self.run(program(self.variant, "", self.version), *arguments).stdout

    def restore(self, text: str) -> None:
        """Put rules in place as somebody else would: iptables-restore --noflush, this variant."""
        self.run(program(self.variant, "-restore", self.version), "--noflush", input=text)

    def without_restore(self, folder: Path) -> list[str]:
        """Return a paraglider command for which iptables-restore always fails."""
        for family in ("iptables", "ip6tables"):
            fake = folder / f"{family}-{self.variant.value}-restore"
            fake.write_text("#!/bin/sh\necho called >&2\nexit 1\n")
            fake.chmod(0o755)
        path = f"PATH={folder}:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["env", path, f"PARAGLIDER_IPTABLES={self.variant.value}", *PARAGLIDER]

    def save(self) -> str:
        """Return the balancer's rules, comments and counters stripped; this family and variant."""
        return strip_counters(self.run(program(self.variant, "-save", self.version)).stdout)

    @property
    def _environment(self) -> dict[str, str]:
        return {"PARAGLIDER_IPTABLES": self.variant.value}


PARAGLIDER = (sys.executable, "-m", "paraglider")


@dataclass(frozen=True, slots=True)
class Topology:
    """A client, a balancer with forwarding on, and three backends that serve."""

    lab: Lab
    addresses: AddressPlan
    balancer: Balancer
    servers: dict[str, subprocess.Popen[str]]

    @property
    def config(self) -> str:
        """A configuration for all three backends."""
        return self.addresses.config

    def connect(self, count: int = 300, *, timeout_s: float = 5.0) -> Results:
        """Connect from the client to the bind, `count` times, one after another."""
        to = self.addresses.bind_endpoint
        return connect_from(self.lab, CLIENT, to=to, count=count, timeout_s=timeout_s)

    def hold(self, count: int = 300, *, timeout_s: float = 10.0) -> HeldConnections:
        """Open connections from the client to the bind that stay and keep talking."""
        to = self.addresses.bind_endpoint
        return HeldConnections(self.lab, CLIENT, to=to, count=count, timeout_s=timeout_s)

    def save(self) -> str:
        """Return the balancer's rules, comments and counters stripped."""
        return self.balancer.save()

    def start_agent(
        self, *options: str, config: str | None = None, program: Sequence[str] = ()
    ) -> Agent:
        """Start ``paraglider run`` on the balancer, and wait until its rules are in place."""
        path = Path("/run/glider.yaml")  # of the lab alone
        agent = Agent(self.balancer, path, program)
        agent.write(self.config if config is None else config)
        agent.start(*options)
        return agent

    def stop_backend(self, name: str) -> None:
        """End a backend's server: who connects is refused."""
        server = self.servers.pop(name)
        server.terminate()
        server.wait(10)

    def start_backend(self, name: str) -> None:
        """Start a backend's server again."""
        endpoint = dict(zip(BACKENDS, self.addresses.backend_endpoints, strict=True))[name]
        self.servers[name] = start_backend(self.lab, name, listen=endpoint, name=name)

    def unplug(self, name: str, *, is_in: bool = False) -> None:
        """Let a backend drop every packet without a word, or hear them again."""
        family = "6" if self.addresses.version == 6 else ""
        action = "-D" if is_in else "-I"
        self.lab.run(name, [f"ip{family}tables-nft", action, "INPUT", "-j", "DROP"])


def start_within(
    topology: Topology, *wrapper: str, config: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``paraglider start`` inside the command `wrapper`."""
    variant = f"PARAGLIDER_IPTABLES={topology.balancer.variant.value}"
    command = [*wrapper, "env", variant, *PARAGLIDER, "-config", "-", "start"]
    config = topology.config if config is None else config
    return topology.balancer.run(*command, input=config, check=False)


@dataclass(slots=True)
class Agent:
    """A ``paraglider run`` on the balancer, with its file; `program` is what to start in place of
    the command."""

    balancer: Balancer
    path: Path
    program: Sequence[str] = ()
    process: subprocess.Popen[str] | None = None
    said: str = ""

    def write(self, config: str) -> None:
        """Write the file anew."""
        self.balancer.run("tee", str(self.path), input=config)

    def start(self, *options: str, until: str = "rules are in iptables") -> None:
        """Start it, and wait until it has said `until`."""
        arguments = ("-config", str(self.path), "run", *options)
        self.process = self.balancer.start_paraglider(*arguments, program=self.program)
        self.until(until)

    def kill(self) -> None:
        """End it without warning."""
        self.running.kill()
        self.running.wait(10)

    @property
    def running(self) -> subprocess.Popen[str]:
        """Its process."""
        assert self.process is not None
        return self.process

    def prober(self) -> int:
        """Return the process of its prober: the child that is a copy of it."""
        deadline = time.monotonic() + 15
        # A program that the agent has just started is a copy, too, until it calls exec.
        while len(copies := self._copies()) != 1:
            assert time.monotonic() < deadline, copies
            time.sleep(0.01)
        return copies[0]

    def _copies(self) -> list[int]:
        pid = self.running.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = {int(child): _command_line(child) for child in children}
        return [child for child, line in lines.items() if line == _command_line(str(pid))]

    def until(self, text: str, *, timeout_s: float = 15.0) -> str:
        """Read what it says until `text` is among it; return what was said since the last call."""
        stream = self.running.stdout
        assert stream is not None
        deadline, said = time.monotonic() + timeout_s, ""
        while text not in said:
            readable, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
            part = os.read(stream.fileno(), 65536).decode() if readable else ""
            assert part, f"not in time: {text!r} in {said!r}"
            said += part
        self.said += said
        return said

    def order(self, *arguments: str) -> str:
        """Give a command; return what it says."""
        done = self.balancer.paraglider(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def backends(self) -> dict[str, dict[str, Any]]:
        """Return what status says of each backend of the first frontend, by ADDRESS:PORT."""
        return {b["backend"]: b for b in self.status()["frontends"][0]["backends"]}

    def status(self) -> dict[str, Any]:
        """Return the whole status."""
        found: dict[str, Any] = json.loads(self.balancer.paraglider("status", "--json").stdout)
        return found


def _command_line(pid: str) -> bytes:
    """Return what a process was started with; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def build_topology(lab: Lab, *, addresses: AddressPlan, variant: Variant) -> Topology:
    """Make the hosts, wire them, switch forwarding on, and wait until the backends serve."""
    for host in (CLIENT, BALANCER, *BACKENDS):
        lab.add_host(host)
    outer, inner = addresses.clients_prefix, addresses.backends_prefix
    clients = {CLIENT: addresses.client, BALANCER: addresses.bind}
    backends = dict(zip(BACKENDS, addresses.backends, strict=True))
    lab.add_network("clients", {host: f"{it}/{outer}" for host, it in clients.items()})
    inside = {BALANCER: addresses.privateip, **backends}
    lab.add_network("backends", {host: f"{it}/{inner}" for host, it in inside.items()})
    forwarding = "ipv6.conf.all.forwarding" if addresses.version == 6 else "ipv4.ip_forward"
    lab.set_sysctl(BALANCER, f"net.{forwarding}", "1")
    servers = {
        host: start_backend(lab, host, listen=endpoint, name=host)
        for host, endpoint in zip(BACKENDS, addresses.backend_endpoints, strict=True)
    }
    balancer = Balancer(lab, variant, addresses.version)
    return Topology(lab, addresses, balancer, servers)


def program(variant: Variant, suffix: str = "", version: int = 4) -> str:
    """Return the name of a program, e.g. ``ip6tables-legacy-save``."""
    return f"{'ip6tables' if version == 6 else 'iptables'}-{variant.value}{suffix}"


def strip_counters(text: str) -> str:
    """Return saved rules without comments, and with all counters at nought.

    ``:INPUT ACCEPT [3:180]`` becomes ``:INPUT ACCEPT [0:0]``.
    """
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "".join(re.sub(r"\[\d+:\d+\]", "[0:0]", line) + "\n" for line in lines)


def missing_for_lab(*, user_namespace: bool | None = None) -> str | None:
    """Return why there can be no lab here, or None."""
    try:
        with Lab(user_namespace=user_namespace):
            return None
    except (PermissionDenied, UnavailableError) as error:
        return str(error)


def missing_for_variant(variant: Variant) -> str | None:
    """Return why this variant of iptables cannot be used in a lab here, or None."""
    name = program(variant)
    if shutil.which(name, path=make_environment(os.environ)["PATH"]) is None:
        return f"{name} is missing; on Debian and Ubuntu: apt install iptables"
    with Lab() as lab:
        lab.add_host("probe")
        done = lab.run("probe", [name, "-t", "nat", "-S"], check=False)
    if done.returncode == 0:
        return None
    return f"{name} does not work in a network namespace here: {done.stderr.strip()}"
