"""Who the agent is: a user with what it needs, or root with no more, by what the container may.

Each test balances real connections, between internal networks of its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.compose.engine import HARDENED, IMAGE, WITH_USER, Container, Engine
from tests.compose.rules import read_rules, skip_without_legacy
from tests.compose.stack import Client
from tests.waiting import until

CLIENTS, BACKENDS = IPv4Network("198.18.107.0/24"), IPv4Network("198.18.108.0/24")
BIND = f"{CLIENTS[2]}:4444"
VARIABLES = (
    f"--env=PARAGLIDER_BIND={BIND}",
    f"--env=PARAGLIDER_PRIVATEIP={BACKENDS[4]}",
    f"--env=PARAGLIDER_BACKENDS={BACKENDS[11]}:5555,{BACKENDS[12]}:5555",
)
EVEN = {"red": 5, "green": 5}
# What a container may be given, under which the agent has a user of its own, and is root.
POWERS = {
    "Docker's own and NET_ADMIN": ("--cap-add=NET_ADMIN",),
    "NET_ADMIN, SETUID, KILL": WITH_USER,
    "NET_ADMIN, SETUID, SETGID, KILL": (
        *(*WITH_USER, "--cap-add=SETGID"),
        "--security-opt=no-new-privileges",
    ),
}
LESS = {
    "NET_ADMIN": HARDENED,
    "Docker's own and NET_ADMIN without SETUID": ("--cap-add=NET_ADMIN", "--cap-drop=SETUID"),
}
LEGACY = ("--cap-add=NET_RAW", "--env=PARAGLIDER_IPTABLES=legacy")
KEEP_LOCKED = """
import fcntl, time
with open("/run/xtables.lock") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(600)  # until it is killed
"""
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace for an appliance, between a client and two backends."""

    engine: Engine
    client: Client
    network: str

    def start(self, *options: str) -> Container:
        """Start an appliance."""
        return self.engine.start(*options, self.network, *VARIABLES, IMAGE)

    def serves(self) -> bool:
        """Tell whether connections go to each backend in turn."""
        results = self.client.connect(10)
        return (results.failures, results.by_backend) == ((), EVEN)


@pytest.fixture
def place(engine: Engine) -> Place:
    """A place of this test's own."""
    outside, inside = engine.network("clients", CLIENTS), engine.network("backends", BACKENDS)
    for name, host in (("red", 11), ("green", 12)):
        at = (f"--network={inside}", f"--ip={BACKENDS[host]}")
        engine.serve(name, *at, listen=f"{BACKENDS[host]}:5555")
    between = (f"--network={outside}", f"--ip={CLIENTS[2]}", "--sysctl=net.ipv4.ip_forward=1")
    network = engine.namespace(*between, also={inside: BACKENDS[4]})
    return Place(engine, Client(engine, outside, BIND), network)


@pytest.fixture
def lock(engine: Engine, tmp_path: Path) -> Path:
    """A lock file as the first iptables-legacy of a host makes it: root's alone."""
    make = ("--entrypoint=sh", IMAGE, "-c", "umask 077; : > /there/xtables.lock")
    assert engine.run(f"--volume={tmp_path}:/there", *make).code == 0
    return tmp_path / "xtables.lock"


def read_status(container: Container) -> dict[str, str]:
    """Return the fields of /proc/PID/status of the agent (proc_pid_status(5))."""
    lines = container.execute("cat", f"/proc/{container.agent_pid()}/status").splitlines()
    return {name: " ".join(value.split()) for name, _, value in (li.partition(":") for li in lines)}


def read_capabilities(status: dict[str, str]) -> set[int]:
    """Return the different masks of capabilities that a process has or can pass on."""
    return {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


def capabilities_from(powers: tuple[str, ...]) -> int:
    """Return the mask that an agent has: Docker gives NET_RAW if nobody takes it away."""
    return NET_ADMIN if "--cap-drop=ALL" in powers else NET_ADMIN | NET_RAW


@pytest.mark.parametrize("powers", POWERS.values(), ids=POWERS)
def test_the_agent_has_a_user_of_its_own_and_what_it_needs(
    place: Place, powers: tuple[str, ...]
) -> None:
    """It serves, it can gain nothing, and a stop takes its rules away. Where Docker gives NET_RAW,
    it has that too."""
    before = read_rules(place.engine, place.network)
    container = place.start(*powers)
    container.wait_until_it_says("balancing")
    status = read_status(container)
    assert status["Uid"] == "65532 65532 65532 65532"
    assert read_capabilities(status) == {capabilities_from(powers)}
    assert status["NoNewPrivs"] == "1"
    assert "as root" not in container.logs()
    assert place.serves()
    assert container.stop() == 0
    assert read_rules(place.engine, place.network) == before


@pytest.mark.parametrize("powers", LESS.values(), ids=LESS)
def test_where_it_cannot_have_one_it_is_root_with_what_it_needs(
    place: Place, powers: tuple[str, ...]
) -> None:
    """It says so once, also when a second agent takes over, and serves all the same."""
    container = place.start(*powers)
    container.wait_until_it_says("balancing")
    container.kill_agent("KILL")
    container.wait_until_it_says("balancing", times=2)
    status = read_status(container)
    assert status["Uid"] == "0 0 0 0"
    assert read_capabilities(status) == {capabilities_from(powers)}
    assert container.logs().count("the agent runs as root, with NET_ADMIN") == 1
    assert place.serves()
    assert container.stop() == 0


def test_with_legacy_it_takes_the_lock_that_root_made(place: Place, lock: Path) -> None:
    """It has NET_RAW beside NET_ADMIN, and waits for whoever locks the same file."""
    skip_without_legacy(place.engine)
    mount = f"--volume={lock}:/run/xtables.lock"
    keep = ("--cap-drop=ALL", "--network=none", mount, "--entrypoint=python3")
    other = place.engine.start(*keep, IMAGE, "-c", KEEP_LOCKED)
    other.wait_until_it_says("locked")
    container = place.start(*WITH_USER, *LEGACY, mount)
    until(lambda: "legacy-restore" in container.execute("ps"), what="it waits for the lock")
    assert "balancing" not in container.logs()
    other.signal("KILL")
    container.wait_until_it_says("balancing")
    status = read_status(container)
    assert status["Uid"] == "65532 65532 65532 65532"
    assert read_capabilities(status) == {NET_ADMIN | NET_RAW}
    assert place.serves()
    assert container.stop() == 0
    assert "removed all rules" in container.logs()


def test_affinity_takes_net_raw_and_else_it_ends(place: Place) -> None:
    """The image has ipset; a client stays where it is, and a stop leaves no set. Without NET_RAW
    the container says so."""
    before = read_rules(place.engine, place.network)
    listed = ", ".join(f"'{BACKENDS[host]}:5555'" for host in (11, 12))
    config = f"{{bind: '{BIND}', privateip: {BACKENDS[4]}, affinity: 1h, backends: [{listed}]}}"
    given = f"--env=PARAGLIDER_CONFIG_YAML=frontend: {config}"
    weak = place.engine.start(*WITH_USER, given, place.network, IMAGE)
    assert weak.exit_code() == 77
    assert "--cap-add=NET_RAW" in weak.logs()
    assert read_rules(place.engine, place.network) == before
    container = place.engine.start(*WITH_USER, "--cap-add=NET_RAW", given, place.network, IMAGE)
    container.wait_until_it_says("balancing")
    assert read_status(container)["Uid"] == "65532 65532 65532 65532"
    results = place.client.connect(10)
    assert (results.failures, list(results.by_backend.values())) == ((), [10])
    assert len(container.execute("ipset", "list", "-name").split()) == 2
    assert container.stop() == 0
    look = (place.network, "--cap-add=NET_ADMIN", "--entrypoint=ipset", IMAGE, "list", "-name")
    assert place.engine.run(*look).out.strip() == ""
    assert read_rules(place.engine, place.network) == before


def test_with_a_lock_that_it_cannot_be_let_into_it_is_root(place: Place, lock: Path) -> None:
    """Mounted read-only the file keeps its mode: the agent stays who can open it, and says so."""
    skip_without_legacy(place.engine)
    container = place.start(*WITH_USER, *LEGACY, f"--volume={lock}:/run/xtables.lock:ro")
    container.wait_until_it_says("balancing")
    assert read_status(container)["Uid"] == "0 0 0 0"
    assert container.logs().count("on the host: chmod g+r /run/xtables.lock") == 1
    assert place.serves()


@pytest.mark.parametrize("powers", [WITH_USER, (*WITH_USER, "--tmpfs=/run"), HARDENED])
def test_root_without_rights_reaches_the_agent(place: Place, powers: tuple[str, ...]) -> None:
    """`docker exec` is root that may not pass over modes: the socket is open to its group."""
    container = place.start(*powers)
    container.wait_until_it_says("balancing")
    container.execute("paraglider", "drain", f"{BACKENDS[11]}:5555")
    assert place.client.connect(4).by_backend == {"green": 4}


@pytest.mark.parametrize("powers", [WITH_USER, HARDENED])
def test_told_to_stop_it_lets_connections_end(place: Place, powers: tuple[str, ...]) -> None:
    """For as long as PARAGLIDER_DRAIN says, which is longer than supervisord waits otherwise."""
    container = place.start(*powers, "--env=PARAGLIDER_DRAIN=7s")
    container.wait_until_it_says("balancing")
    with place.client.hold(3) as held:
        place.engine.docker("stop", "--time=30", container.name)
        assert held.settle()["open"] == 3
    assert container.exit_code() == 0
    assert "drain time is over with 3 connections open" in container.logs()
    assert "removed all rules" in container.logs()


def test_told_twice_it_stops_at_once(place: Place) -> None:
    """A second SIGTERM reaches the agent as well, through process 1."""
    container = place.start(*WITH_USER, "--env=PARAGLIDER_DRAIN=10m")
    container.wait_until_it_says("balancing")
    with place.client.hold(3), ThreadPoolExecutor() as pool:
        stop = pool.submit(place.engine.docker, "stop", "--time=60", container.name)
        container.wait_until_it_says("a second signal ends them now")
        container.signal("TERM")
        stop.result(timeout=30)
    assert container.exit_code() == 0
    assert "removed all rules" in container.logs()


def test_named_as_a_command_it_has_its_user_as_well(place: Place) -> None:
    """`docker run IMAGE run` has no supervisord, and the same agent."""
    container = place.engine.start(*WITH_USER, place.network, *VARIABLES, IMAGE, "run")
    container.wait_until_it_says("balancing")
    assert container.agent_pid() == "1"
    status = read_status(container)
    assert status["Uid"] == "65532 65532 65532 65532"
    assert container.stop() == 0
    assert "removed all rules" in container.logs()
