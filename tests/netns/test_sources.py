"""What backends see of connections, with real ones, in both variants and both families."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from paraglider.lab.actors import connect_from
from paraglider.lab.results import Results
from tests.netns.datagrams import send_from, serve_datagrams
from tests.netns.harness import BACKENDS, BALANCER, CLIENT, Topology


def _start(topology: Topology, privateip: str, *more: str) -> None:
    plan = topology.addresses
    config = plan.make_config(plan.backend_endpoints, *more, privateip=privateip)
    done = topology.balancer.paraglider("start", config=config)
    assert done.returncode == 0, done.stderr


def _connect(topology: Topology, count: int, *, by: str) -> Results:
    to = topology.addresses.bind_endpoint
    results = connect_from(topology.lab, by, to=to, count=count, timeout_s=2.0)
    assert results.failures == ()
    assert results.by_backend == dict.fromkeys(BACKENDS, count // len(BACKENDS))
    return results


def _add_addresses(topology: Topology, count: int) -> list[str]:
    """Give the balancer addresses more in the backends' network."""
    plan = topology.addresses
    found = [str(ip_address(plan.privateip) + 100 + n) for n in range(count)]
    nodad = ["nodad"] if plan.version == 6 else []
    for address in found:
        where = [f"{address}/{plan.backends_prefix}", "dev", "backends", *nodad]
        topology.lab.run(BALANCER, ["ip", "addr", "add", *where])
    return found


def _add_routes_back(topology: Topology, hosts: Sequence[str] = BACKENDS) -> None:
    """Let backends answer the client, and reach the bind, through the balancer."""
    plan = topology.addresses
    for host in hosts:
        topology.lab.add_route(host, plan.client, plan.privateip)
        topology.lab.add_route(host, plan.bind, plan.privateip)


def test_auto_is_the_address_in_the_network_of_the_backend(topology: Topology) -> None:
    """The kernel knows it."""
    _start(topology, "auto")
    assert _connect(topology, 30, by=CLIENT).peers == {topology.addresses.privateip}


def test_each_address_of_a_range_is_seen(topology: Topology) -> None:
    """Though one client connects to three backends only, of which the kernel would give each one
    address; and status tells of the range."""
    found = _add_addresses(topology, 20)
    _start(topology, f"{found[0]}-{found[-1]}")
    assert _connect(topology, 600, by=CLIENT).peers == set(found)
    assert f", source {found[0]}-{found[-1]}" in topology.balancer.paraglider("status").stdout


def test_each_address_of_a_list_is_seen_as_often(topology: Topology) -> None:
    """Of ranges and single ones, each with its part of 300 connections, within five deviations."""
    plan = topology.addresses
    found = _add_addresses(topology, 5)
    listed = [f"{found[0]}-{found[1]}", found[3], plan.privateip]
    _start(topology, '["' + '", "'.join(listed) + '"]')
    results = _connect(topology, 300, by=CLIENT)
    assert results.peers == {found[0], found[1], found[3], plan.privateip}
    singly = [answer.peer for answer in results.answers]
    assert abs(singly.count(plan.privateip) - 75) <= 38
    assert abs(singly.count(found[3]) - 75) <= 38


def test_keep_lets_backends_see_the_client(topology: Topology) -> None:
    """Where their answers come back through the balancer, whatever its policy for others is."""
    plan = topology.addresses
    _add_routes_back(topology)
    topology.balancer.iptables("-P", "FORWARD", "DROP")
    _start(topology, "keep")
    assert _connect(topology, 30, by=CLIENT).peers == {plan.client}
    with topology.hold(9) as held:
        assert held.settle().broken == 0


@pytest.mark.parametrize("bind", ["{address}:80", "clients:80", "any:80"])
def test_keep_is_warned_of_where_backends_are_among_the_clients(
    topology: Topology, bind: str
) -> None:
    """They would answer past the balancer: by the bind's address, its interface or, at any address,
    the way to everywhere else; those behind the balancer are as they should be."""
    plan, balancer = topology.addresses, topology.balancer
    any_ = "[::]" if plan.version == 6 else "0.0.0.0"
    address = plan.endpoint(plan.bind, 80).removesuffix(":80")
    written = bind.format(address=address).replace("any", any_)
    gateway, among = plan.client, plan.endpoint(plan.client, 5555)
    topology.lab.add_route(BALANCER, "::/0" if plan.version == 6 else "0.0.0.0/0", gateway)
    for backends, is_warned in (([among], True), (plan.backend_endpoints, False)):
        config = plan.make_config(backends, binds=[written], privateip="keep")
        said = balancer.paraglider("check", config=config)
        assert said.returncode == 0, said.stderr
        assert ("answers them past this host" in said.stderr) == is_warned


def test_keep_lets_backends_see_who_sends_datagrams(topology: Topology) -> None:
    """As with TCP."""
    plan = topology.addresses
    _add_routes_back(topology)
    for host, listen in zip(BACKENDS, plan.backend_endpoints, strict=True):
        serve_datagrams(topology.lab, host, listen=listen, name=host)
    _start(topology, "keep", "protocol: udp")
    results = send_from(topology.lab, CLIENT, to=plan.bind_endpoint, count=6)
    assert (len(results.answers), sorted(results.peers)) == (6, [plan.client])


@pytest.mark.parametrize("privateip", ["keep", "auto", ""], ids=["keep", "auto", "address"])
def test_a_backend_and_the_balancer_are_clients_too(topology: Topology, privateip: str) -> None:
    """Also where a connection comes back to the backend that opened it; what is seen then is the
    balancer, whom all of them answer."""
    plan = topology.addresses
    _add_routes_back(topology)
    _start(topology, privateip)
    for host in ("b1", "b2", BALANCER):
        assert _connect(topology, 30, by=host).peers == {plan.privateip}
