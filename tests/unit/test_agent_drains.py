"""Drains: who is counted and when, who has come to an end, and who is cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address

from paraglider.agent.drains import Drained, Drains
from paraglider.config.model import Endpoint
from paraglider.health.service import Health, Member, Pair, Service
from paraglider.kernel.conntrack_entries import Cut
from tests.services import bind_at, service_of

_AT = Endpoint(ip_address("192.0.2.10"), 80)
_BIND = bind_at(_AT)
_A = Endpoint(ip_address("10.0.0.11"), 80)
_B = Endpoint(ip_address("10.0.0.12"), 80)


class _Kernel:
    """Connections, and clocks that stand still; counts how often it was asked."""

    def __init__(self, **open_: int) -> None:
        self.open = {(_BIND, _A): open_.get("a", 0), (_BIND, _B): open_.get("b", 0)}
        self.now_s = 100.0
        self.count_takes_s = 0.0
        self.counted = self.cuts = 0
        # How many of a backend's connections cannot be cut.
        self.offloaded = 0

    def count(self, services: Collection[Service]) -> Mapping[Pair, int]:
        self.counted += 1
        self.now_s += self.count_takes_s
        return {
            pair: number
            for pair, number in self.open.items()
            if pair[0] in {service.bind for service in services}
        }

    def cut(self, services: Collection[Service], pairs: Collection[Pair]) -> Mapping[Pair, Cut]:
        assert {bind for bind, _ in pairs} <= {service.bind for service in services}
        self.cuts += 1
        before = {pair: self.open.pop(pair, 0) for pair in pairs}
        self.open |= {pair: self.offloaded for pair in pairs if self.offloaded}
        return {pair: Cut(n - self.offloaded, self.offloaded) for pair, n in before.items() if n}

    def drains(self) -> Drains:
        return Drains(
            count=self.count,
            cut=self.cut,
            clock=lambda: self.now_s,
        )


def _services(*members: Member) -> tuple[Service, ...]:
    return (service_of("web", _AT, _AT.address, members, ()),)


def _draining(backend: Endpoint, until_s: int | None = None) -> Member:
    return Member(backend, Health.DRAINING, until_s)


def test_nobody_is_counted_while_nobody_drains() -> None:
    """Not even when somebody is down."""
    kernel = _Kernel(a=3)
    drains = kernel.drains()
    drains.follow(_services(Member(_A, Health.UP), Member(_B, Health.DOWN)))
    assert (drains.next_s(), kernel.counted) == (None, 0)


def test_a_new_one_is_counted_at_once_and_then_every_second() -> None:
    """Who has no connections is done then."""
    kernel = _Kernel(a=3)
    drains = kernel.drains()
    services = _services(_draining(_A))
    drains.follow(services)
    assert drains.next_s() == 100.0
    drains.look()
    assert drains.next_s() == 101.0


def test_counting_that_takes_long_is_done_less_often() -> None:
    """A twentieth of the time at most."""
    kernel = _Kernel(a=3)
    kernel.count_takes_s = 0.5
    drains = kernel.drains()
    services = _services(_draining(_A))
    drains.follow(services)
    drains.look()
    assert drains.next_s() == 100.5 + 10.0


def test_the_end_of_the_last_connection_is_told_once() -> None:
    """Also that of one who had none to begin with."""
    kernel = _Kernel(a=1)
    drains = kernel.drains()
    services = _services(_draining(_A), _draining(_B))
    drains.follow(services)
    assert drains.look().ended == [(_BIND, _B)]
    kernel.open[_BIND, _A] = 0
    assert drains.look().ended == [(_BIND, _A)]
    third = drains.look()
    assert (set(third.empty), third.ended) == ({(_BIND, _A), (_BIND, _B)}, [])


def test_what_is_left_at_the_deadline_is_cut() -> None:
    """Of the one whose deadline it is; before, of nobody."""
    kernel = _Kernel(a=4, b=5)
    drains = kernel.drains()
    services = _services(_draining(_A, 110), _draining(_B, 120))
    drains.follow(services)
    assert drains.look() == Drained([], [], {})
    kernel.now_s = 110.0
    cut = [(_BIND, _A)]
    assert drains.look() == Drained(cut, cut, {(_BIND, _A): Cut(4, 0)})
    assert kernel.open[_BIND, _B] == 5


def test_all_whose_time_is_over_are_cut_at_once() -> None:
    """The table of connections is read once for all of them; each is told of by itself."""
    kernel = _Kernel(a=4, b=5)
    drains = kernel.drains()
    drains.follow(_services(_draining(_A, 110), _draining(_B, 110)))
    kernel.now_s = 110.0
    both = [(_BIND, _A), (_BIND, _B)]
    assert drains.look() == Drained(both, both, dict(zip(both, (Cut(4), Cut(5)), strict=True)))
    assert kernel.cuts == 1


def test_what_cannot_be_cut_is_told_once_and_tried_again_after_a_while() -> None:
    """It is in a flow table; its backend has connections as long as it is there."""
    kernel = _Kernel(a=5)
    kernel.offloaded = 2
    drains = kernel.drains()
    drains.follow(_services(_draining(_A, 110)))
    kernel.now_s = 110.0
    assert drains.look() == Drained([], [], {(_BIND, _A): Cut(3, 2)})
    for kernel.now_s in range(111, 140):
        assert drains.look() == Drained([], [], {})
    assert kernel.cuts == 1
    kernel.now_s = 140.0
    assert drains.look() == Drained([], [], {})
    kernel.offloaded, kernel.now_s = 0, 170.0
    pair = [(_BIND, _A)]
    assert drains.look() == Drained(pair, pair, {(_BIND, _A): Cut(2, 0)})
    assert kernel.cuts == 3


def test_one_that_drains_no_more_is_not_cut() -> None:
    """Its deadline went with the order."""
    kernel = _Kernel(a=4)
    drains = kernel.drains()
    drains.follow(_services(_draining(_A, 110)))
    kernel.now_s = 120.0
    services = _services(Member(_A, Health.UP))
    drains.follow(services)
    assert drains.next_s() is None
    assert drains.look().cut == {}
