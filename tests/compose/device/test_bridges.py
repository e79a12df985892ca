"""A client on one of Docker's bridges, backends on another, a Docker that keeps them apart, and
Paraglider on the host network: what was sent to a bind passes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.compose.device.device import (
    EVEN,
    FEW_EVEN,
    NFT_ALONE,
    PORT,
    PUBLISHED,
    PUBLISHED_PORT,
    SERVED,
    Device,
    Host,
    Lane,
    is_blocked,
)


@pytest.mark.usefixtures("balanced")
@pytest.mark.parametrize("name", ["client", "outsider", "host", "neighbour"])
def test_connections_are_spread_exactly_wherever_they_come_from(
    device: Device, lane: Lane, name: str
) -> None:
    """From another bridge, the LAN, the host itself, the backends' own bridge: 100 each of 300, and
    every backend sees the privateip."""
    results = device.hosts[name].connect(lane.bind)
    assert results.failures == ()
    assert results.by_backend == EVEN
    assert results.peers == {lane.at["lan"]}


@pytest.mark.usefixtures("balanced")
def test_what_docker_isolates_stays_isolated(device: Device, client: Host, lane: Lane) -> None:
    """While connections to every backend are open, a client still cannot reach one by itself; nor
    does the bind's port lead anywhere at another address, or its address at another port."""
    with client.hold(lane.bind, count=30) as held:
        assert is_blocked(client, lane.endpoint("red", SERVED))
        for other in (lane.endpoint("clients", PORT), lane.endpoint("lan", PORT + 1)):
            assert client.connect(other, count=1).failures == ("connection refused",)
        assert is_blocked(device.hosts["red"], lane.endpoint("client", PORT))
        assert held.settle()["open_by_backend"] == FEW_EVEN


@NFT_ALONE
@pytest.mark.usefixtures("balanced")
def test_other_traffic_to_a_backend_keeps_its_source(
    device: Device, client: Host, lane: Lane
) -> None:
    """Straight from the host, from the backends' bridge, or through a port that it publishes."""
    hosts = device.hosts
    with client.hold(lane.bind, count=30):
        results = hosts["host"].connect(lane.endpoint("red", SERVED), count=5)
        assert results.by_backend == {"red": 5}
        assert results.peers == {lane.at["backends"]}
        results = hosts["neighbour"].connect(lane.endpoint("red", SERVED), count=5)
        assert results.by_backend == {"red": 5}
        assert results.peers == {lane.at["neighbour"]}
        results = hosts["outsider"].connect(lane.endpoint("lan", PUBLISHED_PORT), count=5)
        assert results.by_backend == {PUBLISHED: 5}
        assert results.peers == {lane.at["outsider"]}


@NFT_ALONE
@pytest.mark.usefixtures("balanced")
def test_a_backend_that_is_a_client_may_be_answered_by_itself(
    device: Device, setting: Callable[[str, str], None], lane: Lane
) -> None:
    """Where bridges do not filter, as on hosts without br_netfilter, a backend's own share goes to
    itself like the others'."""
    setting(f"net.bridge.bridge-nf-call-{lane.iptables}", "0")
    results = device.hosts["red"].connect(lane.bind)
    assert results.failures == ()
    assert results.by_backend == EVEN
    assert results.peers == {lane.at["lan"]}


@NFT_ALONE
@pytest.mark.usefixtures("balanced")
def test_where_bridges_filter_a_backend_needs_hairpin_mode_to_reach_itself(
    device: Device, setting: Callable[[str, str], None], lane: Lane
) -> None:
    """A bridge sends nothing back to where it came from, unless told to. The others answer."""
    setting(f"net.bridge.bridge-nf-call-{lane.iptables}", "1")
    red = device.hosts["red"]
    results = red.connect(lane.bind, "--timeout=0.5", count=9)
    assert results.by_backend == {"green": 3, "blue": 3}
    assert results.failures == ("timed out",) * 3
    device.set_hairpin("red", "on")
    try:
        assert red.connect(lane.bind).by_backend == EVEN
    finally:
        device.set_hairpin("red", "off")
