"""The connection watch: the last good count, and since when most connections get no answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address

from paraglider.agent.connection_watch import ConnectionWatch
from paraglider.config.model import Endpoint
from paraglider.errors import UnavailableError
from paraglider.health.service import Member, Pair, Service
from paraglider.kernel.conntrack import Count
from tests.services import service_of

_BACKEND = Endpoint(ip_address("10.0.0.11"), 80)
_AT = Endpoint(ip_address("192.0.2.10"), 80)
_WEB = service_of("web", _AT, ip_address("10.0.0.4"), [Member(_BACKEND)], ())
_PAIR = (_WEB.bind, _BACKEND)


class _Kernel:
    """Connections of one backend, and a clock, that a test turns."""

    def __init__(self) -> None:
        self.now_s, self.takes_s, self.asked = 100.0, 0.0, 0
        self.count, self.error = Count(), ""
        self.said: list[str] = []
        self.watch = ConnectionWatch(
            count=self._count, report=self.said.append, clock=lambda: self.now_s
        )

    def _count(self, services: Collection[Service]) -> Mapping[Pair, Count]:
        assert services == [_WEB]
        self.asked += 1
        self.now_s += self.takes_s
        if self.error:
            raise UnavailableError(self.error)
        return {_PAIR: self.count}

    def look(self, count: Count) -> Mapping[Pair, float]:
        """Look when it is time; return for how long who has been half-open."""
        self.now_s = max(self.now_s, self.watch.next_s())
        self.count = count
        self.watch.look(lambda: [_WEB])
        return self.watch.half_open_for_s()


def test_it_is_known_for_how_long_most_connections_have_been_half_open() -> None:
    """From the first look that found it; a look that finds them answered ends it."""
    kernel = _Kernel()
    assert kernel.look(Count(established=3, unanswered=2)) == {}
    assert kernel.look(Count(established=3, unanswered=2, syn_recv=2)) == {_PAIR: 0.0}
    assert kernel.look(Count(unanswered=1)) == {_PAIR: 5.0}
    assert kernel.look(Count(syn_recv=1)) == {_PAIR: 10.0}
    assert kernel.look(Count(established=1, syn_recv=1)) == {}
    assert kernel.look(Count(unanswered=1)) == {_PAIR: 0.0}
    assert kernel.look(Count()) == {}


def test_it_looks_when_it_is_time() -> None:
    """A count that takes long is followed by a rest, fifty times as long."""
    kernel = _Kernel()
    kernel.look(Count())
    kernel.watch.look(lambda: [_WEB])
    assert (kernel.asked, kernel.watch.next_s()) == (1, 105.0)
    kernel.takes_s = 1.0
    kernel.look(Count())
    assert kernel.watch.next_s() == 106.0 + 50.0


def test_the_last_good_count_stands_while_the_kernel_does_not_tell() -> None:
    """It is told once, and once that it is over; for how long is counted on."""
    kernel = _Kernel()
    kernel.look(Count(established=1, unanswered=4, ended=9))
    kernel.error = "cannot read the connections: no"
    assert kernel.look(Count()) == {_PAIR: 5.0}
    assert kernel.watch.count([_WEB]) == {_PAIR: Count(established=1, unanswered=4, ended=9)}
    assert kernel.watch.tracked([_WEB]) == {_PAIR: 14}
    assert kernel.watch.error == "cannot read the connections: no"
    kernel.error = ""
    kernel.look(Count(established=2))
    assert kernel.watch.tracked([_WEB]) == {_PAIR: 2}
    assert kernel.watch.tracked([]) == {}
    assert kernel.watch.error == ""
    assert kernel.said == [
        "cannot read the connections: no; keeping the last counts",
        "counting connections works again",
    ]
