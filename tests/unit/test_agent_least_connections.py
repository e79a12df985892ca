"""Least connections: who has few gets more, in steps that do not change all the time."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Collection, ItemsView, Mapping
from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from paraglider.agent.least_connections import LeastConnections
from paraglider.config.model import Balance, Endpoint
from paraglider.health.least_connections import STEPS, apply_steps, balance_shares
from paraglider.health.service import Member, Pair, Service, Share
from tests.services import bind_at, service_of

_AT = Endpoint(ip_address("192.0.2.10"), 80)
_BIND = bind_at(_AT)
_A, _B, _C = (Endpoint(ip_address(f"10.0.0.{n}"), 80) for n in (11, 12, 13))
_EQUALS = (Share(_A), Share(_B), Share(_C))


def _service(balance: Balance = Balance.LEAST_CONNECTIONS, *shares: Share) -> Service:
    serving = shares or _EQUALS
    members = tuple(Member(share.backend) for share in serving)
    return service_of("web", _AT, _AT.address, members, serving, balance=balance)


def test_equals_with_as_many_get_as_many() -> None:
    """Also with none at all."""
    for number in (0, 1, 500):
        open_now = dict.fromkeys((_A, _B, _C), number)
        assert balance_shares(_EQUALS, open_now, {}) == dict.fromkeys((_A, _B, _C), STEPS)


def test_who_has_many_gets_fewer_and_never_none() -> None:
    """One that has none gets more, and not all."""
    steps = balance_shares(_EQUALS, {_A: 60}, {})
    assert steps == {_A: 4, _B: 16, _C: 16}
    assert balance_shares(_EQUALS, {_A: 10**6}, {})[_A] >= 1


def test_connections_are_reckoned_by_weight() -> None:
    """Three times the weight may have three times as many, and gets them."""
    shares = (Share(_A, 3), Share(_B, 1))
    steps = balance_shares(shares, {_A: 30, _B: 10}, {})
    assert [share.weight for share in apply_steps(shares, steps)] == [3 * STEPS, STEPS]


def test_small_differences_change_nothing() -> None:
    """Each change writes rules."""
    before = {_A: 15, _B: 16, _C: 16}
    assert balance_shares(_EQUALS, {_A: 100, _B: 100, _C: 100}, before) == before
    assert balance_shares(_EQUALS, {_A: 100, _B: 0, _C: 100}, before) != before


@given(st.lists(st.integers(0, 5000), min_size=3, max_size=3))
def test_the_order_of_steps_is_that_of_loads(numbers: list[int]) -> None:
    """Who has more never gets more."""
    steps = balance_shares(_EQUALS, dict(zip((_A, _B, _C), numbers, strict=True)), {})
    by_load = sorted(zip(numbers, steps.values(), strict=True))
    assert [step for _, step in by_load] == sorted(steps.values(), reverse=True)


class _Kernel:
    """Connections of one frontend, and a clock that stands still."""

    def __init__(self) -> None:
        self.open: dict[Pair, int] = {}
        self.now_s = 100.0

    def count(self, services: Collection[Service]) -> Mapping[Pair, int]:
        return {
            pair: number
            for pair, number in self.open.items()
            if pair[0] in {service.bind for service in services}
        }


def test_frontends_of_another_kind_are_left_alone() -> None:
    """Nobody is counted for them."""
    least_connections = LeastConnections(count=_Kernel().count, clock=lambda: 0.0)
    service = _service(Balance.ROUND_ROBIN)
    assert least_connections.level([service])[0] is service
    assert least_connections.next_s() is None


def test_shares_follow_what_was_counted_every_two_seconds() -> None:
    """And a frontend whose shares stay is the same object, so that it is not planned anew."""
    kernel, service = _Kernel(), _service()
    least_connections = LeastConnections(count=kernel.count, clock=lambda: kernel.now_s)
    first = least_connections.level([service])[0]
    assert [share.weight for share in first.serving] == [STEPS] * 3
    assert least_connections.look()
    assert least_connections.level([service])[0] is first
    assert least_connections.next_s() == 102.0
    kernel.open[_BIND, _A] = 60
    assert least_connections.look()
    assert [share.weight for share in least_connections.level([service])[0].serving] == [4, 16, 16]
    assert not least_connections.look()


def test_who_has_as_many_as_it_may_gets_no_more() -> None:
    """Until one of them ends; also in turn, and where nobody is left, nobody serves."""
    kernel = _Kernel()
    service = _service(Balance.ROUND_ROBIN, Share(_A, most=10), Share(_B))
    least_connections = LeastConnections(count=kernel.count, clock=lambda: kernel.now_s)
    assert least_connections.level([service])[0] is not None
    kernel.open[_BIND, _A] = 10
    assert least_connections.look()
    assert [share.backend for share in least_connections.level([service])[0].serving] == [_B]
    assert not least_connections.look()
    kernel.open[_BIND, _A] = 9
    assert least_connections.look()
    assert [share.backend for share in least_connections.level([service])[0].serving] == [_A, _B]
    alone = _service(Balance.ROUND_ROBIN, Share(_A, most=9))
    least_connections.level([alone])
    assert least_connections.look()
    assert least_connections.level([alone])[0].serving == ()


def test_who_is_full_is_so_while_it_serves_and_has_a_limit() -> None:
    """Not once it is down, nor once the file limits it no more, though nobody has counted since."""
    kernel = _Kernel()
    limited, other = Share(_A, most=10), Share(_B, most=99)
    least_connections = LeastConnections(count=kernel.count, clock=lambda: kernel.now_s)
    least_connections.level([_service(Balance.ROUND_ROBIN, limited, other)])
    kernel.open[_BIND, _A] = 10
    assert least_connections.look()
    assert least_connections.full == {_BIND: {_A}}
    for shares in ((Share(_A), other), (other,), (Share(_A), Share(_B))):
        found = least_connections.level([_service(Balance.ROUND_ROBIN, *shares)])
        assert found[0].serving == shares
        assert not any(least_connections.full.values())


class _ReadOnce(UserDict[Pair, int]):
    """Counts that say how often they were read from their first to their last."""

    reads = 0

    def items(self) -> ItemsView[Pair, int]:
        self.reads += 1
        return super().items()


def test_counts_are_read_once_however_many_frontends_there_are() -> None:
    """Each frontend looks at its own: a hundred times as many take a hundred times as long."""
    at = [Endpoint(_AT.address, 1000 + number) for number in range(100)]
    services = [replace(_service(), binds=(bind_at(endpoint),)) for endpoint in at]
    counts = _ReadOnce({(bind_at(endpoint), _A): 60 for endpoint in at})
    least_connections = LeastConnections(count=lambda _: counts, clock=lambda: 0.0)
    least_connections.level(services)
    assert least_connections.look()
    assert counts.reads == 1
    levelled = least_connections.level(services)
    assert {share.weight for share in levelled[99].serving if share.backend == _A} == {4}
