"""Docker goes on as it likes beside Paraglider: publishes ports, makes networks, restarts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.compose.device.device import (
    EVEN,
    FEW_EVEN,
    FOUR,
    LANES,
    NFT_ALONE,
    PORT,
    SERVED,
    Device,
    Host,
    bridge,
    evened,
    is_blocked,
    serve,
)
from tests.compose.engine import Container, Engine
from tests.waiting import until

EVERYBODY = ("client", "outsider", "host")
OTHER = ("other", "10.78.3.1", "fd78:3::1")


def test_a_published_port_does_not_take_the_frontend(device: Device, inside: Engine) -> None:
    """A container publishes the bind's port everywhere before Paraglider starts; when it is gone,
    another one publishes it at the bind. The frontend stays Paraglider's, for everybody; once it
    has stopped, it is the container's again."""
    first = serve(inside, "first", "--network=clients", f"--publish={PORT}:{SERVED}")
    assert answers(device, 3) == {"first": 3}
    appliance = device.start_appliance(inside)
    assert f"a program of this host listens on {FOUR.bind}" in appliance.logs()
    assert answers(device, 30) == FEW_EVEN
    device.docker("rm", "--force", first.name)
    at_bind = [f"--publish={lane.bind}:{SERVED}" for lane in LANES]
    serve(inside, "second", "--network=clients", *at_bind)
    assert answers(device, 30) == FEW_EVEN
    appliance.stop()
    assert answers(device, 3) == {"second": 3}


def answers(device: Device, count: int) -> dict[str, int]:
    """Connect from everybody, in both families; return who answered, the same for each."""
    hosts = [device.hosts[name] for name in EVERYBODY]
    tallies = [host.connect(lane.bind, count=count) for host in hosts for lane in LANES]
    found = [dict(evened(results.by_backend)) for results in tallies]
    assert found == [found[0]] * len(found)
    return found[0]


@NFT_ALONE
def test_networks_and_ports_come_and_go(
    device: Device, inside: Engine, appliance: Container, client: Host
) -> None:
    """Five times a network is made, a container publishes a port of it, and both go; the last three
    with the appliance killed, so that only the rules are there. Nothing of what is open breaks, and
    new connections are spread exactly at every step."""

    def connect() -> None:
        for lane in LANES:
            results = client.connect(lane.bind, count=30)
            assert (results.failures, evened(results.by_backend)) == ((), FEW_EVEN)

    with ExitStack() as stack:
        held = [stack.enter_context(client.hold(lane.bind)) for lane in LANES]
        for number in range(5):
            if number == 2:
                stack.enter_context(killed(device, appliance))
            bridge(inside, *OTHER)
            connect()
            other = serve(inside, "other", "--network=other", f"--publish=7000:{SERVED}")
            connect()
            device.docker("rm", "--force", other.name)
            device.docker("network", "rm", "other")
        connect()
        assert [one.settle()["broken"] for one in held] == [0, 0]


@NFT_ALONE
def test_without_the_jump_in_docker_user_a_new_network_would_break_it(
    device: Device, inside: Engine, appliance: Container, client: Host
) -> None:
    """The test above can fail: Docker puts its isolation before the jump that was first. The next
    appliance puts it right."""
    with killed(device, appliance):
        for lane in LANES:
            device.execute(lane.iptables, "--delete", "DOCKER-USER", "--jump", "PARAGLIDER-FORWARD")
            assert client.connect(lane.bind, count=3).failures == ()
        bridge(inside, *OTHER)
        for lane in LANES:
            assert is_blocked(client, lane.bind)
    assert [client.connect(lane.bind, count=3).failures for lane in LANES] == [(), ()]


@pytest.mark.parametrize("chain", ["DOCKER-USER", "FORWARD"])
def test_a_jump_that_somebody_takes_away_is_back_by_itself(
    device: Device, appliance: Container, client: Host, chain: str
) -> None:
    """The agent puts it where it was, says who took it, and breaks nothing that is open."""
    with ExitStack() as stack:
        held = [stack.enter_context(client.hold(lane.bind)) for lane in LANES]
        for lane in LANES:
            before = device.execute(lane.iptables, "--list-rules", chain)
            device.execute(lane.iptables, "--delete", chain, "--jump", "PARAGLIDER-FORWARD")
            until(
                lambda: device.execute(lane.iptables, "--list-rules", chain) == before,  # noqa: B023
                what=f"the jump in {chain} is back",
            )
            assert evened(client.connect(lane.bind, count=30).by_backend) == FEW_EVEN
        assert [one.settle()["broken"] for one in held] == [0, 0]
    said = re.findall(r"repaired (.*) after a change by", appliance.logs())
    assert any(chain in chains for chains in said), said


def test_dockerd_that_starts_again_breaks_nothing(device: Device, appliance: Container) -> None:
    """Told to end, then killed, while the containers live on, it makes its chains anew. None of
    what is open breaks, new connections are spread exactly, what is isolated stays so."""
    client, outsider = device.hosts["client"], device.hosts["outsider"]
    with ExitStack() as stack:
        held = [
            stack.enter_context(host.hold(lane.bind))
            for host in (client, outsider)
            for lane in LANES
        ]
        for signal in ("TERM", "KILL"):
            device.restart_dockerd(signal)
            assert [one.settle()["broken"] for one in held] == [0] * 4
            assert answers(device, 30) == FEW_EVEN
    for lane in LANES:
        assert is_blocked(client, lane.endpoint("red", SERVED))
    assert appliance.execute("paraglider", "status").startswith("running")


@NFT_ALONE
def test_with_no_appliance_it_takes_a_dockerd_that_minds_docker_user(
    device: Device, appliance: Container, client: Host
) -> None:
    """The test above can fail: with live-restore, Docker 26 leaves its isolation before DOCKER-USER
    (moby/moby#48560), and so parts its bridges. Connections from outside them pass either way. The
    next appliance puts it right."""
    with killed(device, appliance):
        device.restart_dockerd("TERM")
        first = device.execute("iptables", "--list-rules", "FORWARD").splitlines()[1]
        assert is_blocked(client, FOUR.bind) is ("DOCKER-ISOLATION" in first)
        assert device.hosts["outsider"].connect(FOUR.bind, count=3).failures == ()
    assert client.connect(FOUR.bind, count=3).failures == ()


@NFT_ALONE
def test_a_killed_appliance_is_missed_by_nobody(
    device: Device, appliance: Container, client: Host
) -> None:
    """`docker kill`, and later `docker start`: what is open goes on, new connections are served,
    and the next finds nothing to do."""
    with client.hold(FOUR.bind) as held:
        with killed(device, appliance):
            assert evened(client.connect(FOUR.bind).by_backend) == EVEN
        assert "already running as configured" in appliance.logs()
        assert evened(client.connect(FOUR.bind).by_backend) == EVEN
        assert held.settle()["broken"] == 0


@contextmanager
def killed(device: Device, appliance: Container) -> Iterator[None]:
    """Kill the appliance; at the end, start it again."""
    appliance.signal("KILL")
    assert appliance.exit_code() == 137
    try:
        yield
    finally:
        # Only a running one takes its rules away when the test is over.
        device.docker("start", appliance.name)
        appliance.wait_until_it_says("rules are in iptables", times=2)
