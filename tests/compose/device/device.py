"""A device: a host of the test's own with its own Docker engine, made of one container.

What is started through a `Device` runs inside it; its "host network" is that of the container, in
an internal network and without a default route. Docker's chains, published ports and the death of
dockerd are real there, and none of this machine's concern.

                        outsider
                           |  lan (of the outer engine)
    client -- clients -- device -- backends -- red, green, blue, neighbour

Nobody is asked to run a program inside but the outer engine: it answers while the device's is down.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_interface

import pytest

from paraglider.lab.results import Results, parse_json
from tests.compose.engine import (
    DOCKER,
    HARDENED,
    IMAGE,
    LAB,
    WITH_USER,
    Container,
    Engine,
    run,
)
from tests.compose.stack import Held, hold_connections
from tests.waiting import until

DEVICE_IMAGE = "paraglider-test-device"
PORT = 4444
SERVED = 5555
BACKENDS = ("red", "green", "blue")
# One of them can be reached from outside without Paraglider, too.
PUBLISHED, PUBLISHED_PORT = "blue", 6000
# For what does not depend on where the rules are.
NFT_ALONE = pytest.mark.parametrize("device", ["nft"], indirect=True)
EVEN, FEW_EVEN = dict.fromkeys(BACKENDS, 100), dict.fromkeys(BACKENDS, 10)  # of 300, of 30


def evened(by_backend: Mapping[str, int]) -> Mapping[str, int]:
    """Return equal counts for those that are one apart from equal ones, others as they are: with
    legacy one connection after each change of the nat table goes anywhere, and Docker makes many.
    """
    share = sum(by_backend.values()) // len(BACKENDS)
    is_even = by_backend.keys() == set(BACKENDS) and all(
        abs(number - share) <= 1 for number in by_backend.values()
    )
    return dict.fromkeys(BACKENDS, share) if is_even else by_backend


LAN = IPv4Network("198.18.103.0/24")
CONFIG = "/etc/paraglider/glider.yaml"

SLEEP = ("--entrypoint=sleep", IMAGE, "infinity")
# What dockerd and runc need of a container that is not privileged.
_POWERS = (
    *("--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE"),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    "--security-opt=systempaths=unconfined",
    "--device-cgroup-rule=a *:* rwm",
    *("--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs=/run:exec", "--volume=/var/lib/docker", "--env=container=docker"),
)

_PATH_MTU = """
import socket, sys
is_6 = ":" in sys.argv[1]
probe = socket.socket(socket.AF_INET6 if is_6 else socket.AF_INET, socket.SOCK_DGRAM)
probe.connect((sys.argv[1], 9))
print(probe.getsockopt(*(socket.IPPROTO_IPV6, 24) if is_6 else (socket.IPPROTO_IP, 14)))
"""


@dataclass(frozen=True, slots=True)
class Lane:
    """The addresses of one family: of each host, and of the device in each of its networks. That in
    the LAN is the bind and the privateip at once."""

    version: int
    at: Mapping[str, str]

    def endpoint(self, name: str, port: int) -> str:
        """Return an endpoint of a host as the configuration has it."""
        return f"[{self.at[name]}]:{port}" if self.version == 6 else f"{self.at[name]}:{port}"

    @property
    def bind(self) -> str:
        """What clients connect to."""
        return self.endpoint("lan", PORT)

    @property
    def iptables(self) -> str:
        """The command for the rules of this family, in the variant of the device."""
        return "ip6tables" if self.version == 6 else "iptables"

    def config(self) -> str:
        """Return the frontend, for a list of them."""
        servers = [f'\n      - "{self.endpoint(name, SERVED)}"' for name in BACKENDS]
        return f"""
  - name: ipv{self.version}
    bind: "{self.bind}"
    privateip: "{self.at["lan"]}"
    backends:{"".join(servers)}
"""


LANES = FOUR, SIX = (
    Lane(
        4,
        {
            "lan": "198.18.103.2",
            "outsider": "198.18.103.10",
            "clients": "10.78.1.1",
            "client": "10.78.1.10",
            "backends": "10.78.2.1",
            "red": "10.78.2.11",
            "green": "10.78.2.12",
            "blue": "10.78.2.13",
            "neighbour": "10.78.2.20",
        },
    ),
    Lane(
        6,
        {
            "lan": "fd78::2",
            "outsider": "fd78::10",
            "clients": "fd78:1::1",
            "client": "fd78:1::10",
            "backends": "fd78:2::1",
            "red": "fd78:2::11",
            "green": "fd78:2::12",
            "blue": "fd78:2::13",
            "neighbour": "fd78:2::20",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Host:
    """Where connections come from: `enter` is the command that leads into a container."""

    enter: Sequence[str]

    def connect(self, to: str, *options: str, count: int = 300) -> Results:
        """Connect a number of times; return who answered."""
        arguments = ("connect", "--to", to, "--count", str(count), "--json", "--timeout=3")
        ended = run(*self.enter, *LAB, *arguments, "--within=10", *options)
        assert ended.out, ended.err
        return parse_json(ended.out)

    @contextmanager
    def hold(self, to: str, *, count: int = 100) -> Iterator[Held]:
        """Keep connections open and talking."""
        # Longer than it takes to put a jump back, and to send again what was dropped until then.
        arguments = ("hold", "--to", to, "--count", str(count), "--timeout=20")
        with hold_connections(*self.enter, *LAB, *arguments, count=count) as held:
            yield held

    def path_mtu(self, address: str) -> int:
        """Return how large a packet to an address may be, as far as this host knows."""
        return int(self.execute("python3", "-c", _PATH_MTU, address))

    def execute(self, *command: str) -> str:
        """Run a command; it must go well."""
        ended = run(*self.enter, *command)
        assert ended.code == 0, ended.err
        return ended.out


class Device(Engine):
    """The Docker engine of a device in the network `lan` of the outer engine; `variant` is that of
    its iptables."""

    def __init__(self, outer: Engine, *, lan: str, variant: str) -> None:
        self.variant = variant
        self._outer = outer
        self._lan = f"--network={lan}"
        place = (self._lan, f"--ip={FOUR.at['lan']}")
        self._container = outer.start(*_POWERS, *place, DEVICE_IMAGE, variant)
        self._inside = ("docker", "exec", "--interactive", self._container.name)
        super().__init__(f"{outer.name}-inside", command=(*self._inside, "docker"))
        self.hosts: dict[str, Host] = {}

    def execute(self, *command: str, stdin: str = "") -> str:
        """Run a command on the device; it must go well."""
        return self._container.execute(*command, stdin=stdin)

    def is_answering(self) -> bool:
        """Return whether dockerd answers."""
        return run(*self.command, "version").code == 0

    def furnish(self) -> None:
        """Bring the images, and make the bridges and hosts of the picture above."""
        outsider = self._invite_outsider()
        with subprocess.Popen([*DOCKER, "save", IMAGE], stdout=subprocess.PIPE) as saved:
            load = [*self.command, "load", "--quiet"]
            subprocess.run(load, stdin=saved.stdout, stdout=subprocess.DEVNULL, check=True)
        self.execute("ip", "address", "add", f"{SIX.at['lan']}/64", "dev", "eth0", "nodad")
        config = "frontends:" + "".join(lane.config() for lane in LANES)
        self.execute("install", "-D", "/dev/stdin", CONFIG, stdin=config)
        for name in ("clients", "backends"):
            bridge(self, name, FOUR.at[name], SIX.at[name])
        self.hosts["host"] = self._enter(self.start("--network=host", *SLEEP))
        for name, network in (("client", "clients"), ("neighbour", "backends")):
            place = (f"--network={network}", f"--ip={FOUR.at[name]}", f"--ip6={SIX.at[name]}")
            self.hosts[name] = self._enter(self.start(*HARDENED, *place, *SLEEP))
        for name in BACKENDS:
            place = ("--network=backends", f"--ip={FOUR.at[name]}", f"--ip6={SIX.at[name]}")
            publish = [f"--publish={PUBLISHED_PORT}:{SERVED}"] if name == PUBLISHED else []
            self.hosts[name] = self._enter(serve(self, name, *place, *publish))
        until(lambda: "tentative" not in outsider.execute("ip", "address"), what="it is usable")
        self.hosts["outsider"] = Host(("docker", "exec", "--interactive", outsider.name))

    @property
    def appliance(self) -> Sequence[str]:
        """What to give to `docker run` for Paraglider, as docs/container.md says."""
        options = ["--network=host", *WITH_USER, f"--volume={CONFIG}:{CONFIG}:ro"]
        if self.variant == "legacy":
            options += ["--cap-add=NET_RAW", "--volume=/run/xtables.lock:/run/xtables.lock"]
        return (*options, IMAGE)

    def start_appliance(self, engine: Engine) -> Container:
        """Start Paraglider, and wait until it balances."""
        container = engine.start(*self.appliance)
        container.wait_until_it_says("rules are in iptables")
        return container

    def set_hairpin(self, name: str, state: str) -> None:
        """Let the bridge send packets of a host back to it, ``on`` or ``off``."""
        index = self.hosts[name].execute("cat", "/sys/class/net/eth0/iflink").strip()
        links = self.execute("ip", "-oneline", "link").splitlines()
        port = next(link.split()[1] for link in links if link.startswith(f"{index}:"))
        kind = ("type", "bridge_slave", "hairpin", state)
        self.execute("ip", "link", "set", port.partition("@")[0], *kind)

    def restart_dockerd(self, signal: str) -> None:
        """End dockerd by a signal; wait for the next."""
        ended = self.execute("cat", "/run/docker.pid")
        self.execute("kill", f"-{signal}", ended)
        until(lambda: not self._is_running(ended), what="dockerd has ended")
        until(self.is_answering, what="the next dockerd answers")

    def visitors(self) -> Engine:
        """Return its engine for what is not its furniture."""
        return Engine(f"{self.name}-visit", command=self.command)

    def evidence(self) -> Iterator[tuple[str, str]]:
        """Yield what the visitors' containers have said, to be shown beside a failure."""
        for container in self.visitors().containers():
            yield f"inside: docker logs {container.name}", container.logs()

    def take_down(self) -> None:
        """Remove it, and first what it holds: its containers have traces in /sys/fs/cgroup."""
        if self.is_answering():
            self.clean_up()
        self._outer.clean_up()

    def _is_running(self, pid: str) -> bool:
        return run(*self._inside, "kill", "-0", pid).code == 0

    def _enter(self, container: Container) -> Host:
        pid = str(container.inspect(".State.Pid"))
        return Host((*self._inside, "nsenter", "--target", pid, "--net", "--mount"))

    def _invite_outsider(self) -> Container:
        place = (self._lan, f"--ip={FOUR.at['outsider']}")
        options = (*HARDENED, "--sysctl=net.ipv6.conf.all.disable_ipv6=0")
        outsider = self._outer.start(*options, *place, *SLEEP)
        outsider.execute("ip", "address", "add", f"{SIX.at['outsider']}/64", "dev", "eth0")
        return outsider


def bridge(engine: Engine, name: str, ip: str, ip6: str) -> None:
    """Make a network that Docker calls ordinary; the addresses are the device's own in it."""
    options = [f"--opt=com.docker.network.bridge.name={name}", "--ipv6"]
    for own in (ip_interface(f"{ip}/24"), ip_interface(f"{ip6}/64")):
        options += [f"--subnet={own.network}", f"--gateway={own.ip}"]
    engine.docker("network", "create", "--label", engine.label, *options, name)


def serve(engine: Engine, name: str, *options: str) -> Container:
    """Start a server that answers on every address of its container."""
    return engine.serve(name, *options, listen=f"[::]:{SERVED}")


def is_blocked(host: Host, endpoint: str) -> bool:
    """Return whether packets of a host to an endpoint get no answer at all."""
    return host.connect(endpoint, count=1).failures == ("timed out",)
