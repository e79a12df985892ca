"""Connections that never get an answer, as the kernel has them and status tells of them."""

from __future__ import annotations

import time

import pytest

from tests.netns.datagrams import Flows, serve_datagrams
from tests.netns.harness import BACKENDS, CLIENT, Agent, Topology


def _start(topology: Topology, *more: str) -> Agent:
    """Start an agent that does not probe: what is silent stays in service."""
    config = topology.addresses.make_config(
        topology.addresses.backend_endpoints, "check: none", *more
    )
    return topology.start_agent(config=config)


def _until_told(agent: Agent, text: str) -> str:
    """Return the line of status that has `text`, once there is one."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        status = agent.balancer.paraglider("status").stdout
        for line in status.splitlines():
            if text in line:
                return line
        time.sleep(0.5)  # it has to last for ten seconds
    raise AssertionError(status)


def _counts(agent: Agent, backend: str) -> tuple[int, int]:
    reason = agent.backends()[backend]
    return reason["connections_open"], reason["connections_half_open"]


def test_a_backend_that_does_not_answer_has_half_open_connections(topology: Topology) -> None:
    """They are not open ones; those of the others are."""
    first, second, _ = topology.addresses.backend_endpoints
    agent = _start(topology)
    with topology.hold(6, timeout_s=60):
        topology.unplug("b1")
        topology.connect(3, timeout_s=0.5)
        topology.connect(3, timeout_s=0.5)
        assert _counts(agent, first) == (2, 2)
        assert _counts(agent, second) == (2, 0)
        topology.connect(3, timeout_s=0.5)
        line = _until_told(agent, "connections half-open")
        assert line.startswith(f"  {first}: 3 of 5 connections half-open, most of them for ")
        assert line.endswith("does not answer, or its answers do not come through this host")
        sample = f'current_half_open_connections{{frontend="default",backend="{first}"}} 3'
        assert sample in agent.order("metrics")


def test_clients_that_do_not_get_the_answer_are_told_of(topology: Topology) -> None:
    """The backend has answered; the way back ends somewhere."""
    family = "6" if topology.addresses.version == 6 else ""
    agent = _start(topology)
    drop = ["-I", "INPUT", "-p", "tcp", "-j", "DROP"]
    topology.lab.run(CLIENT, [f"ip{family}tables-nft", *drop])
    topology.connect(3, timeout_s=0.5)
    for backend in topology.addresses.backend_endpoints:
        assert _counts(agent, backend) == (0, 1)
    line = _until_told(agent, "connections half-open")
    assert line.endswith("clients do not complete the handshake: check the return path")


@pytest.mark.parametrize("is_silent", [False, True])
def test_flows_without_an_answer_are_half_open(topology: Topology, is_silent: bool) -> None:
    """One answer makes a flow an established one."""
    plan = topology.addresses
    for host, listen in zip(BACKENDS, plan.backend_endpoints, strict=True):
        serve_datagrams(topology.lab, host, listen=listen, name=host)
    agent = _start(topology, "protocol: udp")
    if is_silent:
        topology.unplug("b1")
    with Flows(topology.lab, CLIENT, to=plan.bind_endpoint, count=3) as flows:
        flows.until(*(BACKENDS[is_silent:]))
        assert _counts(agent, plan.backend_endpoints[0]) == ((0, 1) if is_silent else (1, 0))
        assert _counts(agent, plan.backend_endpoints[1]) == (1, 0)
