"""How connections are spread, with real connections through real rules, in both variants."""

from __future__ import annotations

from collections import Counter

from tests.netns.harness import BACKENDS, Topology


def _weighted(topology: Topology, *weights: int) -> list[str]:
    servers = zip(topology.addresses.backend_endpoints, weights, strict=True)
    return [f'{{address: "{server}", weight: {weight}}}' for server, weight in servers]


def _answers(topology: Topology, count: int) -> list[str]:
    tally = topology.connect(count)
    assert tally.failures == ()
    return [answer.backend for answer in tally.answers]


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
