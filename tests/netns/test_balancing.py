"""Real connections through real rules, in both variants and both families."""

from __future__ import annotations

import json

import pytest

from paraglider.lab.actors import connect_from
from tests.netns.harness import BACKENDS, BALANCER, CLIENT, IPV4, Balancer, Topology


def test_connections_are_spread_evenly_and_come_from_the_privateip(topology: Topology) -> None:
    """300 connections: 100 to each backend, in turn, each seen from privateip."""
    assert topology.balancer.paraglider("start", config=topology.config).returncode == 0
    results = topology.connect(300)
    assert results.failures == ()
    assert [answer.backend for answer in results.answers] == list(BACKENDS) * 100
    assert results.peers == {topology.addresses.privateip}


def test_the_balancer_itself_is_a_client_like_any_other(topology: Topology) -> None:
    """A connection from the host that balances is balanced too."""
    topology.balancer.paraglider("start", config=topology.config)
    results = connect_from(topology.lab, BALANCER, to=topology.addresses.bind_endpoint, count=30)
    assert results.by_backend == dict.fromkeys(BACKENDS, 10)
    assert results.peers == {topology.addresses.privateip}


def test_a_backend_may_be_a_client_of_its_own_frontend(topology: Topology) -> None:
    """Also where the connection comes back to the backend that opened it."""
    addresses = topology.addresses
    topology.balancer.paraglider("start", config=topology.config)
    topology.lab.add_route("b1", addresses.bind, addresses.privateip)
    results = connect_from(topology.lab, "b1", to=addresses.bind_endpoint, count=30)
    assert results.by_backend == dict.fromkeys(BACKENDS, 10)


def test_other_traffic_to_a_backend_keeps_its_source(topology: Topology) -> None:
    """A client that goes to a backend by itself, routed by this host, is not translated."""
    addresses = topology.addresses
    topology.balancer.paraglider("start", config=topology.config)
    topology.lab.add_route(CLIENT, addresses.backends[0], addresses.bind)
    topology.lab.add_route("b1", addresses.client, addresses.privateip)
    results = connect_from(topology.lab, CLIENT, to=addresses.backend_endpoints[0], count=5)
    assert results.peers == {addresses.client}


def test_connections_pass_a_host_that_forwards_nothing_else(topology: Topology) -> None:
    """With a FORWARD policy of DROP, as Docker sets it, balanced connections pass and a client's
    own way to a backend stays closed."""
    addresses = topology.addresses
    topology.balancer.iptables("-P", "FORWARD", "DROP")
    topology.balancer.paraglider("start", config=topology.config)
    assert topology.connect(30).by_backend == dict.fromkeys(BACKENDS, 10)
    topology.lab.add_route(CLIENT, addresses.backends[0], addresses.bind)
    topology.lab.add_route("b1", addresses.client, addresses.privateip)
    to = addresses.backend_endpoints[0]
    assert connect_from(topology.lab, CLIENT, to=to, count=1, timeout_s=0.5).answers == ()


# What Docker does to FORWARD whenever a network is made: its chains first, isolation among them.
_DOCKER = """\
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
-A DOCKER-ISOLATION-STAGE-1 -i clients -j DROP
COMMIT
"""
_DOCKERS_CHAINS_FIRST = """\
*filter
-I FORWARD 1 -j DOCKER-ISOLATION-STAGE-1
-I FORWARD 1 -j DOCKER-USER
COMMIT
"""


def test_docker_may_put_its_chains_first(topology: Topology) -> None:
    """Balanced connections pass what isolates Docker's networks also when it has come before our
    jump; nothing counts as damaged, nothing is left to do, and `stop` takes our jumps alone."""
    balancer = topology.balancer
    balancer.restore(_DOCKER)
    balancer.paraglider("start", config=topology.config)
    balancer.restore(_DOCKERS_CHAINS_FIRST)
    assert topology.connect(30).by_backend == dict.fromkeys(BACKENDS, 10)
    assert balancer.paraglider("status").returncode == 0
    assert "nothing to change" in balancer.paraglider("start", config=topology.config).stdout
    balancer.paraglider("stop")
    assert balancer.iptables("-S", "FORWARD").splitlines()[1:] == [
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
    ]
    assert balancer.iptables("-S", "DOCKER-USER") == "-N DOCKER-USER\n"


def test_connections_reach_us_before_a_rule_of_somebody_else(topology: Topology) -> None:
    """A DNAT of the same port that was there before, as of a published container, does not win."""
    addresses = topology.addresses
    elsewhere = addresses.endpoint(addresses.backends[2], addresses.backend_port)
    to = f"-p tcp --dport {addresses.bind_port} -j DNAT --to-destination {elsewhere}"
    topology.balancer.iptables("-t", "nat", "-A", "PREROUTING", *to.split())
    topology.balancer.paraglider("start", config=topology.config)
    assert topology.connect(30).by_backend == dict.fromkeys(BACKENDS, 10)


def test_status_counts_the_connections_of_each_backend(topology: Topology) -> None:
    """What the kernel sent where, as JSON."""
    topology.balancer.paraglider("start", config=topology.config)
    topology.connect(30)
    counts = dict.fromkeys(topology.addresses.backend_endpoints, 10)
    assert _counts(topology.balancer) == counts


# ip6tables-nft reads counters only since 1.8.11 (Debian 12 has 1.8.9): there, totals of IPv6
# backends begin anew when the backends change.
@pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
def test_totals_go_on_when_the_backends_change(topology: Topology) -> None:
    """A backend that stays keeps its count, though its rule is another."""
    balancer, addresses = topology.balancer, topology.addresses
    balancer.paraglider("start", config=topology.config)
    topology.connect(30)
    balancer.paraglider("start", config=addresses.make_config(addresses.backend_endpoints[:2]))
    topology.connect(4)
    assert _counts(balancer) == dict.fromkeys(addresses.backend_endpoints[:2], 12)


def _counts(balancer: Balancer) -> dict[str, int]:
    status = json.loads(balancer.paraglider("status", "--json").stdout)
    (frontend,) = status["frontends"]
    return {b["backend"]: b["connections_total"] for b in frontend["backends"]}
