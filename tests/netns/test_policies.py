"""How connections are spread, with real connections through real rules, in both variants."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.netns.crowd import add_clients, ask_from_each
from tests.netns.harness import BACKENDS, IPV4, Agent, Topology
from tests.waiting import until


def _weighted(topology: Topology, *weights: int) -> list[str]:
    servers = zip(topology.addresses.backend_endpoints, weights, strict=True)
    return [f'{{address: "{server}", weight: {weight}}}' for server, weight in servers]


def _answers(topology: Topology, count: int) -> list[str]:
    results = topology.connect(count)
    assert results.failures == ()
    return [answer.backend for answer in results.answers]


def test_weights_are_exact_and_in_smooth_order(topology: Topology) -> None:
    """Of 70 connections 50, 10 and 10, never five in a row to the same."""
    config = topology.addresses.make_config(_weighted(topology, 5, 1, 1))
    topology.balancer.paraglider("start", config=config)
    b1, b2, b3 = BACKENDS
    assert _answers(topology, 70) == [b1, b1, b3, b1, b1, b2, b1] * 10


def test_a_weight_of_zero_gets_none(topology: Topology) -> None:
    """The others share what comes."""
    config = topology.addresses.make_config(_weighted(topology, 1, 0, 1))
    topology.balancer.paraglider("start", config=config)
    assert Counter(_answers(topology, 20)) == {"b1": 10, "b3": 10}


def test_random_goes_by_weight(topology: Topology) -> None:
    """Of 400 connections with weights 2, 1 and 1, each gets its part, within five deviations."""
    config = topology.addresses.make_config(_weighted(topology, 2, 1, 1), "balance: random")
    topology.balancer.paraglider("start", config=config)
    found = Counter(_answers(topology, 400))
    assert abs(found["b1"] - 200) <= 50
    assert abs(found["b2"] - 100) <= 44
    assert abs(found["b3"] - 100) <= 44


def test_whoever_changes_the_table_does_not_make_the_first_get_all(topology: Topology) -> None:
    """With an unrelated change of the nat table before each of 45 connections, no backend gets more
    than 30 of them; and without such changes turns are exact again."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    found = Counter[str]()
    for turn in range(45):
        balancer.iptables("-t", "nat", "-N" if turn % 2 == 0 else "-X", "OTHERS")
        found.update(_answers(topology, 1))
    assert max(found.values()) <= 30
    assert len(found) == len(BACKENDS)
    after = _answers(topology, 31)[1:]
    assert Counter(after) == dict.fromkeys(BACKENDS, 10)


def test_a_hash_of_the_source_keeps_each_client_where_it_is(topology: Topology) -> None:
    """Each of 60 clients comes to the same backend again; without one backend its clients move and
    no others; and with it, all are where they were."""
    sources = add_clients(topology, 60)
    plan, start = topology.addresses, topology.balancer.paraglider
    start("start", config=plan.make_config(plan.backend_endpoints, "balance: source-hash"))
    before = ask_from_each(topology, sources)
    assert set(before) == set(BACKENDS)
    assert ask_from_each(topology, sources) == before
    out = [f'{{address: "{plan.backend_endpoints[0]}", weight: 0}}', *plan.backend_endpoints[1:]]
    start("start", config=plan.make_config(out, "balance: source-hash"))
    moved = ask_from_each(topology, sources)
    assert "b1" not in moved
    start("start", config=plan.make_config(plan.backend_endpoints, "balance: source-hash"))
    assert ask_from_each(topology, sources) == before


def test_who_goes_out_of_service_moves_its_own_clients_and_no_others(topology: Topology) -> None:
    """Ordered here; and all are back when it is."""
    sources, plan = add_clients(topology, 60), topology.addresses
    config = plan.make_config(plan.backend_endpoints, "balance: source-hash")
    agent = topology.start_agent(config=config)
    before = ask_from_each(topology, sources)
    agent.order("disable", plan.backend_endpoints[0])
    moved = {
        was for was, now in zip(before, ask_from_each(topology, sources), strict=True) if was != now
    }
    assert moved == {"b1"}
    agent.order("enable", plan.backend_endpoints[0])
    agent.until("is up")
    assert ask_from_each(topology, sources) == before


def test_with_the_port_the_hash_spreads_one_client(topology: Topology) -> None:
    """Of 120 connections from one address every backend has some."""
    plan = topology.addresses
    options = ("balance: source-hash", "hash_key: source,port")
    topology.balancer.paraglider("start", config=plan.make_config(plan.backend_endpoints, *options))
    assert set(_answers(topology, 120)) == set(BACKENDS)


def test_a_packet_keeps_the_mark_that_it_came_with(topology: Topology) -> None:
    """A mark that the host gives in mangle is there when the packet is forwarded; so is none."""
    plan, balancer = topology.addresses, topology.balancer
    balancer.paraglider(
        "start", config=plan.make_config(plan.backend_endpoints, "balance: source-hash")
    )
    first = ["-m", "conntrack", "--ctstate", "NEW"]
    for mark in ("0x0", "0x1234", "0xfffff801"):
        balancer.iptables("-t", "mangle", "-F", "FORWARD")
        balancer.iptables("-t", "mangle", "-F", "PREROUTING")
        balancer.iptables("-t", "mangle", "-A", "FORWARD", *first, "-m", "mark", "--mark", mark)
        balancer.iptables("-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", mark)
        assert len(_answers(topology, 5)) == 5
        counted = balancer.iptables("-t", "mangle", "-nvxL", "FORWARD").split("\n")[2].split()[0]
        assert counted == "5"


def test_a_backend_that_is_full_gets_no_more_until_one_ends(topology: Topology) -> None:
    """The agent counts every two seconds; status and metrics say that it is full."""
    plan = topology.addresses
    first, *others = plan.backend_endpoints
    config = plan.make_config([f'{{address: "{first}", max_connections: 3}}', *others])
    agent = topology.start_agent(config=config)
    with topology.hold(9) as held:
        _until_full(agent, first, is_full=True)
        assert agent.backends()[first]["share_percent"] == 0
        metrics = topology.balancer.paraglider("metrics").stdout
        assert f'paraglider_backend_up{{frontend="default",backend="{first}"}} 0' in metrics
        assert "max_connections reached" in topology.balancer.paraglider("status").stdout
        assert Counter(_answers(topology, 6)) == {"b2": 3, "b3": 3}
        assert held.settle().broken == 0
    _until_full(agent, first, is_full=False)
    assert Counter(_answers(topology, 6)) == {"b1": 2, "b2": 2, "b3": 2}


def _until_full(agent: Agent, backend: str, *, is_full: bool) -> None:
    until(
        lambda: agent.backends()[backend]["full"] is is_full,
        what=f"{backend} is {'' if is_full else 'not '}full",
        within_s=15.0,
    )


@pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])
def test_with_least_connections_who_has_many_gets_few(topology: Topology) -> None:
    """60 connections are held by b1; of the next 90 it gets a fourth of an equal share or so."""
    plan = topology.addresses
    config = plan.make_config(plan.backend_endpoints, "balance: least-connections")
    agent = topology.start_agent(config=config)
    for other in plan.backend_endpoints[1:]:
        agent.order("drain", other)
    equal = topology.balancer.save()
    with topology.hold(60) as held:
        for other in plan.backend_endpoints[1:]:
            agent.order("undrain", other)
        deadline_s = time.monotonic() + 15
        while "0.111" not in topology.balancer.save() and time.monotonic() < deadline_s:
            time.sleep(0.1)  # until it has counted, which it does every two seconds
        assert topology.balancer.save() != equal
        found = Counter(_answers(topology, 90))
        assert found["b1"] <= 22
        assert held.settle().broken == 0
