"""Spread: exact turns whatever the weights, few rules met, however many backends there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from itertools import groupby
from math import ceil, gcd
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paraglider.config.model import Balance, Endpoint, Family, Protocol
from paraglider.health.service import Member, Service, Share
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.wanted import Planner
from paraglider.rules.weighted_round_robin import plan_cycle
from tests.services import bind_at, service_of
from tests.walker import Packet, Walker

_BIND = Endpoint(ip_address("192.0.2.10"), 80)
_CLIENT = Endpoint(ip_address("203.0.113.9"), 51000)
_FIRST = int(ip_address("10.0.0.0"))


class Spread:
    """A frontend with backends of these weights, and packets that come to it."""

    def __init__(
        self,
        weights: list[int],
        balance: Balance = Balance.ROUND_ROBIN,
        *,
        randomize_start: bool = False,
        random: Random | None = None,
    ) -> None:
        self.backends = [Endpoint(ip_address(_FIRST + n), 80) for n in range(len(weights))]
        shares = tuple(map(Share, self.backends, weights))
        members = tuple(map(Member, self.backends))
        service = service_of("web", _BIND, ip_address("10.9.9.9"), members, shares, balance=balance)
        (ruleset,) = plan_rulesets([service], randomize_start=randomize_start)
        chance = random.random if random else lambda: 1.0
        self.walker = Walker(ruleset, local=[], random=chance)

    def send(self, number: int) -> list[int]:
        """Send so many connections; return where each went, as the index of its backend."""
        outcomes = [self.walker.send(Packet(_CLIENT, _BIND)) for _ in range(number)]
        return [self.backends.index(outcome.packet.destination) for outcome in outcomes]


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11, 16, 17, 37, 97, 100, 101, 128, 200, 997, 1000])
def test_equals_get_connections_in_the_order_of_the_file(size: int) -> None:
    """One each, then again from the first, for any number of them, also for a prime one."""
    assert Spread([1] * size).send(2 * size + 1) == [*range(size), *range(size), 0]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=24))
@settings(max_examples=60, deadline=None)
def test_others_get_exactly_as_many_as_they_weigh(weights: list[int]) -> None:
    """In each cycle, and so in any number of them."""
    size = sum(weights) // gcd(*weights)
    spread = Spread(weights)
    for _ in range(2):
        found = Counter(spread.send(size))
        assert [found[n] for n in range(len(weights))] == [w // gcd(*weights) for w in weights]


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8))
@example([27, 51, 77, 85, 599])
@example([1, 1000])
def test_turns_are_spread_over_the_cycle(weights: list[int]) -> None:
    """Places of one backend are 1/count apart. So between two places of the second heaviest there
    are at most heaviest/second of the heaviest, rounded up, once around the cycle and on."""
    cycle = plan_cycle(weights)
    (_, heaviest), (_, second) = Counter(cycle).most_common(2)
    longest = max(len(list(group)) for _, group in groupby(2 * cycle))
    assert longest <= ceil(heaviest / second)


def test_five_one_one_never_sends_five_in_a_row() -> None:
    """Weights 5, 1 and 1: the light ones stand apart, and take one rule each."""
    assert "".join("ABC"[n] for n in Spread([5, 1, 1]).send(14)) == "AACAABAAACAABA"


@pytest.mark.parametrize(("size", "most"), [(10, 13), (100, 25), (1000, 37)])
@pytest.mark.parametrize("balance", [Balance.ROUND_ROBIN, Balance.RANDOM])
def test_a_packet_meets_few_rules_however_many_backends(
    size: int, most: int, balance: Balance
) -> None:
    """Whatever way it takes, from PREROUTING to its backend."""
    spread = Spread([1] * size, balance, random=Random(1))
    for _ in range(2 * size):
        met_before = spread.walker.met
        spread.send(1)
        assert spread.walker.met - met_before <= most


def test_weighted_rules_are_few() -> None:
    """1,000 to 1 takes two rules, and what has even places one rule each."""
    for weights in ([1000, 1], [2, 1, 1], [5, 1, 1], [100, 50, 25, 25], [4, 1, 1, 1, 1]):
        nat = Spread(weights).walker.ruleset.tables[-1]
        (chain,) = [c for c in nat.chains if c.name.startswith("PARAGLIDER-web")]
        assert len(chain.rules) == len(weights)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_random_follows_the_weights(weights: list[int], seed: int) -> None:
    """No backend is more than five standard deviations from what it should get."""
    count = 2000
    found = Counter(Spread(weights, Balance.RANDOM, random=Random(seed)).send(count))
    for index, weight in enumerate(weights):
        part = weight / sum(weights)
        deviation = (count * part * (1 - part)) ** 0.5
        assert abs(found[index] - count * part) <= 5 * deviation + 1


def test_where_turns_begin_anew_all_the_time_nobody_is_always_first() -> None:
    """The first connection after the kernel's counters began anew goes anywhere, the next ones in
    turn from the first; at the start turns are exact."""
    spread = Spread([1, 1, 1], randomize_start=True, random=Random(3))
    assert spread.send(6) == [0, 1, 2, 0, 1, 2]
    firsts = Counter[int]()
    for _ in range(300):
        spread.walker.begin_anew()
        found = spread.send(7)
        firsts[found[0]] += 1
        assert found[1:] == [0, 1, 2, 0, 1, 2]
    assert all(70 <= firsts[n] <= 130 for n in range(3))


def test_one_backend_that_goes_down_leaves_other_frontends_as_they_are() -> None:
    """Of a hundred frontends with fifty backends, the chains of one are planned anew, and the
    others are the very objects that they were: planning a change does not depend on how many."""

    def service(number: int) -> Service:
        backends = [Endpoint(ip_address(_FIRST + n), 8000 + number) for n in range(50)]
        bind = Endpoint(_BIND.address, 8000 + number)
        members = tuple(map(Member, backends))
        serving = tuple(Share(backend) for backend in backends)
        return service_of(f"f{number}", bind, ip_address("10.9.9.9"), members, serving)

    services = [service(number) for number in range(100)]
    planner = Planner(randomize_start=False)
    before = planner.plan(services)[Family.IPV4]
    services[7] = replace(services[7], serving=services[7].serving[1:])
    after = planner.plan(services)[Family.IPV4]
    others = {
        (name, chain)
        for name, table in after.tables.items()
        for chain, rules in table.chains.items()
        if rules is not before.table(name).chains.get(chain)
    }
    assert {chain[:13] for _, chain in others} == {"PARAGLIDER-f7", "PARAGLIDER-PI"}


def test_the_first_of_each_protocol_is_the_first_of_new_rules() -> None:
    """Where counters may begin anew, a connection over TCP does not make the first flow of UDP look
    like one after that."""
    backends = [Endpoint(ip_address(_FIRST + n), 80) for n in range(3)]
    members, shares = tuple(map(Member, backends)), tuple(map(Share, backends))
    service = replace(
        service_of("web", _BIND, ip_address("10.9.9.9"), members, shares),
        binds=tuple(bind_at(_BIND, protocol) for protocol in Protocol),
    )
    (ruleset,) = plan_rulesets([service], randomize_start=True)
    walker = Walker(ruleset, local=[])
    for protocol in Protocol:
        outcome = walker.send(Packet(_CLIENT, _BIND, protocol=protocol))
        assert outcome.packet.destination == backends[0]
