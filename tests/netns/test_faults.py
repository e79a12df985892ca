"""What others do to the host's rules, and what strays on the wire, breaks no connection."""

from __future__ import annotations

import sys
import time

import pytest

from paraglider.kernel.iptables import Variant
from tests.netns.harness import IPV4, Topology
from tests.netns.inject import MTU_BYTES

_ONLY_IPV4 = pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
_ONLY_NFT = pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)

# As long as somebody may need to notice; connections meanwhile send, and send again.
_GAP_S = 2

_STRAYS = 60


@pytest.mark.parametrize(
    "flushes", [["-t nat -F"], ["-F", "-t nat -F"]], ids=["nat", "all but pin"]
)
def test_a_flush_by_somebody_breaks_no_connection(topology: Topology, flushes: list[str]) -> None:
    """300 connections talk; the nat rules, or those of filter too, are gone for two seconds. After
    `paraglider start` none is lost."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    with topology.hold(300) as held:
        for flush in flushes:
            balancer.iptables(*flush.split())
        time.sleep(_GAP_S)
        assert balancer.paraglider("start", config=topology.config).returncode == 0
        settled = held.settle()
        assert (settled.open, settled.broken) == (300, 0)
    assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}


@_ONLY_NFT
def test_deleting_the_nat_table_breaks_no_connection(topology: Topology) -> None:
    """The two empty chains of our own keep translating what is established."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    family = "ip" if topology.addresses.version == 4 else "ip6"
    with topology.hold(300) as held:
        balancer.run("nft", "delete", "table", family, "nat")
        time.sleep(_GAP_S)
        balancer.paraglider("start", config=topology.config)
        assert held.settle().broken == 0


@_ONLY_NFT
@_ONLY_IPV4
def test_without_the_anchor_it_would_break_them(topology: Topology) -> None:
    """The test above can fail: with our table gone too, the host resets its clients."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    with topology.hold(300) as held:
        balancer.run("nft", "delete", "table", "ip", "paraglider")
        balancer.iptables("-F")
        balancer.run("nft", "delete", "table", "ip", "nat")
        time.sleep(_GAP_S)
        assert held.settle().broken > 0


def test_new_connections_wait_out_a_flush_instead_of_being_refused(topology: Topology) -> None:
    """The shield drops a SYN that nothing translates; the client's next one finds the rules."""
    topology.balancer.paraglider("start", config=topology.config)
    topology.balancer.iptables("-t", "nat", "-F")
    assert topology.connect(1, timeout_s=0.5).failures == ("timed out",)
    topology.balancer.paraglider("start", config=topology.config)
    assert topology.connect(3).failures == ()


@pytest.mark.parametrize("side", ["backend", "client"])
def test_a_segment_outside_the_window_resets_nobody(topology: Topology, side: str) -> None:
    """Conntrack calls it INVALID and does not translate it; dropped, both ends go on."""
    topology.balancer.paraglider("start", config=topology.config)
    with topology.hold(60) as held:
        assert _inject(topology, "stray", side) == _STRAYS
        assert held.settle().broken == 0


@_ONLY_IPV4
def test_without_the_drop_it_would_reset_them(topology: Topology) -> None:
    """The test above can fail: with the rules for strays flushed, the host answers with resets."""
    topology.balancer.paraglider("start", config=topology.config)
    topology.balancer.iptables("-F", "PARAGLIDER-STRAY")
    with topology.hold(60) as held:
        _inject(topology, "stray", "backend")
        assert held.settle().broken > 0


@pytest.mark.parametrize("policy", ["ACCEPT", "DROP"])
def test_the_client_is_told_that_its_packets_are_too_big(topology: Topology, policy: str) -> None:
    """What a router on the way to a backend says of a connection reaches the client in the client's
    own terms, so that its host believes it; also where FORWARD drops by default. Without it,
    connections through a narrow link stall at the first full segment."""
    topology.balancer.iptables("-P", "FORWARD", policy)
    topology.balancer.paraglider("start", config=topology.config)
    with topology.hold(3) as held:
        _inject(topology, "too-big", "answered", count=2)
        assert held.settle().broken == 0
    route = topology.lab.run("client", ["ip", "route", "get", topology.addresses.bind]).stdout
    assert f"mtu {MTU_BYTES}" in route


def _inject(topology: Topology, kind: str, side: str, count: int = _STRAYS) -> int:
    """Send packets that follow the segments of one backend, of the client, or those that one
    backend is sent; return how many."""
    addresses = topology.addresses
    host, *where = {
        "backend": ("b1", "backends", "sport", addresses.backend_port),
        "client": ("client", "clients", "dport", addresses.bind_port),
        "answered": ("b1", "backends", "dport", addresses.backend_port),
    }[side]
    argv = [sys.executable, "-m", "tests.netns.inject", kind, *map(str, where), str(count)]
    return int(topology.lab.run(host, argv).stdout)


# What the agent does when health says that no backend is left.
_APPLY_NOBODY = """
import sys
from dataclasses import replace
from paraglider.config.parse import parse_config
from paraglider.health.service import standing_services
from paraglider.kernel.apply import apply_states
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Variant
from paraglider.rules.wanted import plan_states

config = parse_config(sys.stdin.buffer.read(), source="test")
nobody = [replace(service, serving=()) for service in standing_services(config, {})]
apply_states(plan_states(nobody), variant=Variant(sys.argv[1]), host=Host(), report=print)
"""


def test_a_frontend_that_nobody_serves_refuses_at_once(topology: Topology) -> None:
    """New connections get a reset; those that run go on; back in service, all is as before."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    with topology.hold(30) as held:
        script = [sys.executable, "-c", _APPLY_NOBODY, balancer.variant.value]
        balancer.run(*script, input=topology.config)
        results = topology.connect(3, timeout_s=2)
        assert results.answers == ()
        assert set(results.failures) == {"connection refused"}
        balancer.paraglider("start", config=topology.config)
        assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}
        assert held.settle().broken == 0
