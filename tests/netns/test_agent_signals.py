"""Signals that mean nothing to the agent do not end it."""

from __future__ import annotations

import os
import signal

import pytest

from paraglider.agent.loop import MEANINGLESS
from tests.netns.harness import CHECK, IPV4, Topology, Variant

pytestmark = [
    pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True),
    pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True),
]


def test_signals_without_a_meaning_are_logged_once(topology: Topology) -> None:
    """SIGUSR1 and SIGUSR2, which log rotation sends, timers, realtime signals; SIGHUP reloads."""
    agent = topology.start_agent()
    for _ in range(2):
        for number in MEANINGLESS:
            agent.running.send_signal(number)
        agent.running.send_signal(signal.SIGHUP)
        agent.until("SIGHUP: reading the configuration again")
        agent.until("already running as configured")
    for number in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGRTMIN+3", "SIGRTMAX"):
        assert agent.said.count(f"ignored {number}, which has no meaning here") == 1
    assert topology.connect(3).failures == ()


def test_the_prober_outlives_them_too(topology: Topology) -> None:
    """It is the same afterwards, and still probes."""
    config = topology.addresses.make_config(topology.addresses.backend_endpoints, CHECK)
    agent = topology.start_agent(config=config)
    prober = agent.prober()
    for number in MEANINGLESS:
        os.kill(prober, number)
    topology.stop_backend("b1")
    agent.until("is down")
    assert agent.prober() == prober
