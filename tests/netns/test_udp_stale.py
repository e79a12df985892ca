"""Flows of UDP that never pause, while what is configured becomes another: they follow at once."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from tests.netns.datagrams import Flows, serve_datagrams
from tests.netns.harness import BACKENDS, BALANCER, CLIENT, Topology

_REFUSED = "connection refused"

# Puts a configuration into force.
Apply = Callable[[str], object]


@pytest.fixture(params=["agent", "start"])
def apply(request: pytest.FixtureRequest, topology: Topology) -> Apply:
    """By an agent that reloads its file, and by `start` alone."""
    if request.param == "start":
        return lambda config: topology.balancer.paraglider("start", config=config)
    agent = None

    def reload(config: str) -> None:
        nonlocal agent
        if agent is None:
            agent = topology.start_agent(config=config)
        else:
            agent.write(config)

    return reload


def _serve(topology: Topology, port: int, suffix: str = "") -> None:
    plan = topology.addresses
    for host, address in zip(BACKENDS, plan.backends, strict=True):
        listen = plan.endpoint(address, port)
        serve_datagrams(topology.lab, host, listen=listen, name=host + suffix)


def _add_address(topology: Topology) -> str:
    """Give the balancer one address more in the backends' network, which `auto` never chooses."""
    plan = topology.addresses
    address = str(ip_address(plan.privateip) + 100)
    nodad = ["nodad"] if plan.version == 6 else []
    where = [f"{address}/{plan.backends_prefix}", "dev", "backends", *nodad]
    topology.lab.run(BALANCER, ["ip", "addr", "add", *where, "preferred_lft", "0"])
    return address


def test_flows_have_the_source_that_is_configured_now(topology: Topology, apply: Apply) -> None:
    """From address to address, auto and keep, and back; connections of TCP run on as they are."""
    plan, other = topology.addresses, _add_address(topology)
    _serve(topology, plan.backend_port)
    for host in BACKENDS:
        topology.lab.add_route(host, plan.client, plan.privateip)
    protocol, to = "protocol: tcp+udp", plan.bind_endpoint

    def choose(privateip: str) -> None:
        apply(plan.make_config(plan.backend_endpoints, protocol, privateip=privateip))

    choose(plan.privateip)
    with (
        topology.hold(6, timeout_s=30) as held,
        Flows(topology.lab, CLIENT, to=to, count=3, with_source=True) as flows,
    ):
        flows.until(*(f"{host} {plan.privateip}" for host in BACKENDS))
        for privateip, source in (
            (other, other),
            ("auto", plan.privateip),
            ("keep", plan.client),
            ("auto", plan.privateip),
            (other, other),
            ("keep", plan.client),
            (other, other),
        ):
            choose(privateip)
            flows.until_sources(source)
        assert held.settle().broken == 0


def test_flows_whose_source_stays_stay_where_they_are(topology: Topology, apply: Apply) -> None:
    """Though something else of their frontend changes."""
    plan = topology.addresses
    _serve(topology, plan.backend_port)
    apply(plan.make_config(plan.backend_endpoints, "protocol: udp"))
    with Flows(topology.lab, CLIENT, to=plan.bind_endpoint, count=3) as flows:
        flows.until(*BACKENDS)
        apply(plan.make_config(plan.backend_endpoints, "protocol: udp", "balance: random"))
        flows.settle()
        assert sorted(flows.seen.values()) == [["b1"], ["b2"], ["b3"]]


def test_flows_of_a_client_that_is_denied_now_are_refused(topology: Topology, apply: Apply) -> None:
    """And served again when it may connect again."""
    plan = topology.addresses
    _serve(topology, plan.backend_port)
    first = plan.backend_endpoints[0]
    apply(plan.make_config([first], "protocol: udp"))
    # One: the host sends one ICMP error a second.
    with Flows(topology.lab, CLIENT, to=plan.bind_endpoint, count=1) as flows:
        for denied in (f'deny: ["{plan.client}"]', f'allow: ["{plan.privateip}"]'):
            apply(plan.make_config([first], "protocol: udp"))
            flows.until("b1")
            apply(plan.make_config([first], "protocol: udp", denied))
            flows.until(_REFUSED)


def test_flows_go_to_the_port_that_is_mapped_now(topology: Topology, apply: Apply) -> None:
    """From one range to one that overlaps it, and to that of the client."""
    plan = topology.addresses
    for port in (7001, 7002, 9001):
        _serve(topology, port, f":{port}")
    address = plan.backends[0]
    binds = [f"{plan.endpoint(plan.bind, 9000)}-9002"]
    ways = (
        (f"{plan.endpoint(address, 7000)}-7002", "b1:7001"),
        (f"{plan.endpoint(address, 7001)}-7003", "b1:7002"),
        (f"[{address}]" if plan.version == 6 else address, "b1:9001"),
        (f"{plan.endpoint(address, 7000)}-7002", "b1:7001"),
    )
    backend, answer = ways[0]
    apply(plan.make_config([backend], "protocol: udp", binds=binds))
    to = plan.endpoint(plan.bind, 9001)
    with Flows(topology.lab, CLIENT, to=to, count=2) as flows:
        for backend, answer in ways:
            apply(plan.make_config([backend], "protocol: udp", binds=binds))
            flows.until(answer, answer)
