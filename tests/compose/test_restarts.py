"""What becomes of connections when the container is killed, comes back, is restarted, or nobody
says anything for long.

The network namespace outlives the appliance here, as the host's does: it is that of a container
which does nothing else.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from threading import Event

import pytest

from tests.compose.engine import HARDENED, IMAGE, Container, Engine
from tests.compose.rules import add_foreign_rules, read_handles, read_rules, skip_without_legacy
from tests.compose.stack import Client

CLIENTS, BACKENDS = IPv4Network("198.18.105.0/24"), IPv4Network("198.18.106.0/24")
BIND = f"{CLIENTS[2]}:4444"
CONFIG = f"""\
frontend:
  bind: {BIND}
  privateip: {BACKENDS[4]}
  backends: [{BACKENDS[11]}:5555, {BACKENDS[12]}:5555, {BACKENDS[13]}:5555]
"""
EVEN = {"red": 10, "green": 10, "blue": 10}
_POWERS = {"nft": (), "legacy": ("--cap-add=NET_RAW", "--tmpfs=/run")}


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace in which an appliance may run, between a client and three backends."""

    engine: Engine
    client: Client
    network: str
    powers: tuple[str, ...]

    def start(self) -> Container:
        """Start an appliance."""
        return self.engine.start(*HARDENED, *self.powers, self.network, IMAGE)

    def rules(self) -> str:
        """Return all rules, counters apart."""
        return read_rules(self.engine, self.network)

    def handles(self) -> str:
        """Return the rules of nftables with what shows that none was written again."""
        return read_handles(self.engine, self.network)


@pytest.fixture(params=["nft", "legacy"])
def place(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """A place of this test's own, with rules of others, in each variant of iptables in turn."""
    if request.param == "legacy":
        skip_without_legacy(engine)
    return make_place(engine, tmp_path, request.param)


def make_place(engine: Engine, tmp_path: Path, variant: str, *options: str) -> Place:
    """Start all but an appliance; `options` are for the container that has the namespace."""
    file = tmp_path / "glider.yaml"
    file.write_text(CONFIG)
    outside, inside = engine.network("clients", CLIENTS), engine.network("backends", BACKENDS)
    for name, host in (("red", 11), ("green", 12), ("blue", 13)):
        place = (f"--network={inside}", f"--ip={BACKENDS[host]}")
        engine.serve(name, *place, listen=f"{BACKENDS[host]}:5555")
    between = (f"--network={outside}", f"--ip={CLIENTS[2]}", "--sysctl=net.ipv4.ip_forward=1")
    network = engine.namespace(*between, *options, also={inside: BACKENDS[4]})
    mount = f"--volume={file}:/etc/paraglider/glider.yaml:ro"
    powers = (*_POWERS[variant], f"--env=PARAGLIDER_IPTABLES={variant}", mount)
    client = Client(engine, outside, BIND)
    assert add_foreign_rules(engine, network, variant).code == 0
    return Place(engine, client, network, powers)


def test_killed_it_is_not_missed_and_the_next_one_adopts(place: Place) -> None:
    """30 connections talk on, and new ones are served, while nobody is there and when the next one
    takes over; it writes no rule, and takes all of them away in the end."""
    before = place.rules()
    first = place.start()
    first.wait_until_it_says("balancing")
    with place.client.hold(30) as held:
        rules = place.rules(), place.handles()
        first.signal("KILL")
        assert first.exit_code() == 137
        results = place.client.connect(30)
        assert (results.failures, results.by_backend) == ((), EVEN)
        second = place.start()
        second.wait_until_it_says("already running as configured")
        assert (place.rules(), place.handles()) == rules
        results = place.client.connect(30)
        assert (results.failures, results.by_backend) == ((), EVEN)
        assert held.settle()["broken"] == 0
    assert second.stop() == 0
    assert place.rules() == before


def connect_until(is_over: Event, client: Client) -> set[str]:
    """Connect until told to stop; return how connections have failed."""
    failures: set[str] = set()
    while not is_over.is_set():
        failures.update(client.connect(300, "--timeout=2").failures)
    return failures


def test_restarted_it_serves_again(place: Place) -> None:
    """A client that goes on connecting is refused, or waits, for the moment without rules; then all
    is as before, and a stop takes all away."""
    before = place.rules()
    appliance = place.start()
    appliance.wait_until_it_says("balancing")
    rules = place.rules()
    is_over = Event()
    with ThreadPoolExecutor() as pool:
        load = pool.submit(connect_until, is_over, place.client)
        try:
            place.engine.docker("restart", appliance.name)
            appliance.wait_until_it_says("balancing", times=2)
        finally:
            is_over.set()
    assert load.result() <= {"connection refused", "timed out"}
    assert place.rules() == rules
    results = place.client.connect(30)
    assert (results.failures, results.by_backend) == ((), EVEN)
    assert appliance.stop() == 0
    assert place.rules() == before


IDLE = """
import socket, time

def connect(keepalive):
    talk = socket.create_connection(("{address}", {port}), timeout=5)
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive)
    talk.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    talk.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    talk.recv(100)
    return talk

def lives(talk):
    try:
        talk.sendall(b"still here")
        return talk.recv(100) == b"still here"
    except OSError:
        return False

talks = connect(True), connect(False)
time.sleep({idle_s})  # the silence that it is about
print(*map(lives, talks))
"""


def test_keepalive_keeps_an_idle_connection(engine: Engine, tmp_path: Path) -> None:
    """Where the kernel forgets a connection after 3 s of silence instead of five days, one with
    probes lives on, and one without is lost."""
    forget = "--sysctl=net.netfilter.nf_conntrack_tcp_timeout_established=3"
    place = make_place(engine, tmp_path, "nft", forget)
    place.start().wait_until_it_says("balancing")
    address, port = BIND.split(":")
    program = IDLE.format(address=address, port=port, idle_s=6)
    network = f"--network={place.client.network}"
    ended = engine.run(*HARDENED, network, "--entrypoint=python3", IMAGE, "-c", program)
    assert ended.out == "True False\n", ended.err
