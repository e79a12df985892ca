"""The agent: backends die, come back and drain while real connections go on."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.netns.harness import CHECK, IPV4, Agent, Topology

_ONLY_IPV4 = pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])


def _config(topology: Topology, *more: str) -> str:
    return topology.addresses.make_config(topology.addresses.backend_endpoints, CHECK, *more)


def _until_down(agent: Agent, *backends: str) -> None:
    while not all(f"{backend} is down" in agent.said for backend in backends):
        agent.until(" is down")


def test_a_backend_that_dies_gets_nothing_and_comes_back(topology: Topology) -> None:
    """Connections go to the others in turn, none fails; back, it has its share again."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology))
    topology.stop_backend("b1")
    agent.until(f"{first} is down")
    results = topology.connect(30)
    assert (results.by_backend, results.failures) == ({"b2": 15, "b3": 15}, ())
    topology.start_backend("b1")
    agent.until(f"{first} is up")
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


def test_the_connections_of_a_backend_that_goes_silent_are_cut(topology: Topology) -> None:
    """Each of its clients gets a reset at its next packet; the other connections do not notice."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology))
    with topology.hold(30, timeout_s=20) as held:
        topology.unplug("b1")
        agent.until(f"connections of {first} cut")
        report = held.settle()
    assert (report.broken, report.open) == (10, 20)
    assert set(report.reasons) == {"connection reset by peer"}


def test_connections_are_kept_where_the_file_says_so(topology: Topology) -> None:
    """on_down: keep. They wait for their backend, and go on."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology, "on_down: keep"))
    with topology.hold(30, timeout_s=30) as held:
        topology.unplug("b1")
        agent.until(f"{first} is down")
        topology.unplug("b1", is_in=True)
        assert held.settle().broken == 0


def test_where_no_backend_is_left_clients_are_refused_at_once(topology: Topology) -> None:
    """Also those whose connection was cut: a reset, and no silence."""
    agent = topology.start_agent(config=_config(topology))
    with topology.hold(9, timeout_s=20) as held:
        for name in ("b1", "b2", "b3"):
            topology.unplug(name)
        _until_down(agent, *topology.addresses.backend_endpoints)
        results = topology.connect(3, timeout_s=2)
        assert set(results.failures) == {"connection refused"}
        assert held.settle().broken == 9


def test_all_serve_where_the_file_says_so_and_nobody_is_up(topology: Topology) -> None:
    """no_backend: serve-all. Here the check asks a port that nobody listens on."""
    check = CHECK.replace("}", ", port: 9}")
    backends = topology.addresses.backend_endpoints
    config = topology.addresses.make_config(backends, check, "no_backend: serve-all")
    agent = topology.start_agent(config=config)
    _until_down(agent, *backends)
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


def test_a_backup_serves_while_nobody_else_can(topology: Topology) -> None:
    """And only then."""
    first, second, third = topology.addresses.backend_endpoints
    backends = [first, second, f'{{address: "{third}", backup: true}}']
    agent = topology.start_agent(config=topology.addresses.make_config(backends, CHECK))
    assert topology.connect(10).by_backend == {"b1": 5, "b2": 5}
    topology.stop_backend("b1")
    topology.stop_backend("b2")
    _until_down(agent, first, second)
    assert topology.connect(10).by_backend == {"b3": 10}
    topology.start_backend("b2")
    agent.until(f"{second} is up")
    assert topology.connect(10).by_backend == {"b2": 10}


@_ONLY_IPV4
def test_below_the_quorum_the_backup_serves_instead(topology: Topology) -> None:
    """One of two is not enough here; both are."""
    first, second, third = topology.addresses.backend_endpoints
    backends = [first, second, f'{{address: "{third}", backup: true}}']
    config = topology.addresses.make_config(backends, CHECK, "quorum: 2")
    agent = topology.start_agent(config=config)
    assert topology.connect(10).by_backend == {"b1": 5, "b2": 5}
    topology.stop_backend("b1")
    agent.until(f"{first} is down")
    assert topology.connect(10).by_backend == {"b3": 10}
    topology.start_backend("b1")
    agent.until(f"{first} is up")
    assert topology.connect(10).by_backend == {"b1": 5, "b2": 5}


def test_a_drained_backend_keeps_its_connections_until_the_deadline(topology: Topology) -> None:
    """No new ones; status counts them; a restart of the agent in between changes nothing."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology))
    with topology.hold(30, timeout_s=20) as held:
        reason = agent.order("drain", first, "--deadline", "4s")
        assert reason == f"default: {first} is draining; 10 connections left, cut in 4 s\n"
        assert agent.backends()[first]["cut_in_s"] <= 4
        agent.kill()
        agent.start(until="nothing to change")
        assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}
        drained = agent.backends()[first]
        assert (drained["health"], drained["connections_open"]) == ("draining", 10)
        assert held.report().broken == 0
        agent.until(f"{first}: drain deadline reached, 10 connections cut")
        assert held.settle().broken == 10
    agent.order("undrain", first)
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


@pytest.mark.parametrize("ahead_s", [86_400, -86_400], ids=["a day ahead", "a day back"])
def test_deadlines_are_kept_when_the_wall_clock_is_set(topology: Topology, ahead_s: int) -> None:
    """As on a device without a clock when NTP comes; by the agent that was ordered, and by its
    successor."""
    first, second, third = topology.addresses.backend_endpoints
    clock = "/run/wall-clock"  # of the lab alone
    topology.balancer.run("tee", clock, input="0")
    program = (sys.executable, "-m", "tests.netns.wall_clock", clock)
    agent = topology.start_agent(config=_config(topology), program=program)
    with topology.hold(30, timeout_s=20) as held:
        agent.order("drain", first, "--deadline", "1h")
        agent.order("drain", second, "--deadline", "3s")
        topology.balancer.run("tee", clock, input=str(ahead_s))
        agent.until(f"{second}: drain deadline reached, 10 connections cut")
        agent.order("drain", third, "--deadline", "3s")
        agent.kill()
        topology.balancer.run("tee", clock, input="0")
        agent.start(until="nothing to change")
        agent.until(f"{third}: drain deadline reached, 10 connections cut")
        assert held.settle().open_by_backend == {"b1": 10}
        assert 3500 < agent.backends()[first]["cut_in_s"] <= 3600


def test_a_disabled_backend_is_out_until_it_is_enabled(topology: Topology) -> None:
    """Its connections run on."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology))
    with topology.hold(9) as held:
        agent.order("disable", first)
        assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}
        assert agent.backends()[first]["health"] == "disabled"
        assert held.settle().broken == 0
    agent.order("enable", first)
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


def test_a_backend_that_leaves_the_file_drains(topology: Topology) -> None:
    """Shown as leaving while it has connections, and then no more."""
    first, *others = topology.addresses.backend_endpoints
    agent = topology.start_agent(config=_config(topology))
    with topology.hold(9) as held:
        agent.write(topology.addresses.make_config(others, CHECK))
        agent.until(f"{first} is draining")
        assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}
        left = agent.backends()[first]
        assert (left["leaving"], left["connections_open"]) == (True, 3)
        assert held.settle().broken == 0
    agent.until(f"{first}: no connections left")
    agent.order("reload")  # answered after what was decided before is in the rules
    assert first not in agent.backends()


@_ONLY_IPV4
def test_a_drained_backend_without_connections_leaves_at_once(topology: Topology) -> None:
    """It was told to be empty before it left."""
    first, *others = topology.addresses.backend_endpoints
    agent = topology.start_agent(config=_config(topology))
    agent.order("drain", first)
    agent.until(f"{first}: no connections left")
    agent.write(topology.addresses.make_config(others, CHECK))
    agent.order("reload")
    deadline = time.monotonic() + 10
    while first in agent.backends():
        assert time.monotonic() < deadline


def test_a_frontend_that_leaves_the_file_keeps_its_connections(topology: Topology) -> None:
    """Also on a host that forwards nothing by itself; its port is the host's again at once."""
    balancer, addresses = topology.balancer, topology.addresses
    balancer.iptables("-P", "FORWARD", "DROP")
    agent = topology.start_agent(config=_config(topology))
    other = _config(topology).replace(str(addresses.bind_port), str(addresses.bind_port + 1))
    with topology.hold(9) as held:
        agent.write(other)
        agent.until("rules are in iptables")
        assert topology.connect(1).failures == ("connection refused",)
        assert held.settle().broken == 0


def test_a_bind_that_leaves_the_file_keeps_its_connections(topology: Topology) -> None:
    """Of two that leave at once, while the frontend stays at a third; also through another agent.
    When they have ended, nothing is left of it."""
    plan, balancer = topology.addresses, topology.balancer
    balancer.iptables("-P", "FORWARD", "DROP")
    other = plan.endpoint(plan.bind, plan.bind_port + 1)
    binds = (plan.endpoint(plan.bind, plan.bind_port - 1), plan.bind_endpoint, other)
    agent = topology.start_agent(config=plan.make_config(plan.backend_endpoints, binds=binds))
    with topology.hold(9) as held:
        agent.write(plan.make_config(plan.backend_endpoints, binds=[other]))
        agent.until("rules are in iptables")
        assert topology.connect(1).failures == ("connection refused",)
        assert held.settle().broken == 0
        agent.kill()
        agent.start()
        assert held.settle().broken == 0
    deadline_s = time.monotonic() + 15
    while f"--ctorigdstport {plan.bind_port} " in balancer.save():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)  # until the agent has counted, which it does every second


@pytest.mark.parametrize("ending", [1, 2], ids=["they end", "told twice"])
def test_connections_may_end_before_the_agent_does(topology: Topology, ending: int) -> None:
    """run --drain: at SIGTERM new ones are refused, open ones run on; it ends with the last of
    them, or when it is told once more."""
    agent = topology.start_agent("--drain", "20s", config=_config(topology))
    with topology.hold(9) as held:
        agent.running.send_signal(signal.SIGTERM)
        agent.until("refusing new connections")
        assert topology.connect(2).failures == ("connection refused",) * 2
        assert held.settle().broken == 0
        if ending == 2:
            agent.running.send_signal(signal.SIGTERM)
            assert agent.running.wait(10) == 0
    assert agent.running.wait(10) == 0
    assert "PARAGLIDER" not in topology.save()


@_ONLY_IPV4
def test_a_backend_that_starts_slowly_gets_fewer_at_first(topology: Topology) -> None:
    """After it was down; at its end the turn is exact again."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology, "slow_start: 4s"))
    topology.stop_backend("b1")
    agent.until(f"{first} is down")
    topology.start_backend("b1")
    agent.until(f"{first} is up")
    shares = [agent.backends()[first]["share_percent"]]
    early = topology.connect(60).by_backend
    while shares[-1] < 100:
        shares.append(agent.backends()[first]["share_percent"])
    assert shares == sorted(shares)
    assert shares[0] < 50
    assert early["b1"] < 20
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


@_ONLY_IPV4
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_without_a_prober_health_stays_what_it_was(
    topology: Topology, number: signal.Signals
) -> None:
    """Nothing changes until there is a new one, which finds what is true then."""
    first, second, _ = topology.addresses.backend_endpoints
    agent = topology.start_agent(config=_config(topology))
    topology.stop_backend("b1")
    agent.until(f"{first} is down")
    before = topology.save()
    os.kill(agent.prober(), number)
    agent.until("restarting it, health states unchanged", timeout_s=30)
    assert topology.save() == before
    topology.stop_backend("b2")
    agent.until(f"{second} is down")
    assert agent.said.count("restarting it") == 1
