"""Connection watch: counts the connections every few seconds, and knows who gets no answer.

Owns the last good count, which others may have without asking the kernel again, and since when most
of a backend's connections are half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from paraglider.errors import ParagliderError, explain
from paraglider.health.service import Pair, Service
from paraglider.kernel.conntrack import Count

_LOOK_S = 5.0
# A count of 100,000 connections takes half a second: a fiftieth of the time at most.
_REST_PER_LOOK = 50


class ConnectionWatch:
    """Looks every five seconds, and less often where counting takes long."""

    def __init__(
        self,
        *,
        count: Callable[[Collection[Service]], Mapping[Pair, Count]],
        report: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._count = count
        self._report = report
        self._clock = clock
        self._next_s = 0.0
        self._counts: Mapping[Pair, Count] = {}
        self._half_open_s: dict[Pair, float] = {}
        self.error = ""

    def next_s(self) -> float:
        """Return when to look next."""
        return self._next_s

    def look(self, services: Callable[[], Collection[Service]]) -> None:
        """Count, when it is time."""
        began_s = self._clock()
        if began_s >= self._next_s:
            self.count(services())
            ended_s = self._clock()
            self._next_s = ended_s + max(_LOOK_S, _REST_PER_LOOK * (ended_s - began_s))

    def count(self, services: Collection[Service]) -> Mapping[Pair, Count]:
        """Return the connections of `services`, those of all; where the kernel does not tell, the
        last that it did. `error` is why it did not, and is reported when it begins and ends."""
        try:
            self._counts = self._count(services)
        except (ParagliderError, OSError) as error:
            if not self.error:
                self._report(f"{explain(error)}; keeping the last counts")
            self.error = explain(error)
            return self._counts
        if self.error:
            self._report("counting connections works again")
        self.error = ""
        now_s = self._clock()
        self._half_open_s = {
            pair: self._half_open_s.get(pair, now_s)
            for pair, count in self._counts.items()
            if count.half_open > count.established
        }
        return self._counts

    def tracked(self, services: Collection[Service]) -> Mapping[Pair, int]:
        """Return how many connections of `services` the kernel knew when they were counted last,
        those that have ended among them."""
        binds = {service.bind for service in services}
        return {pair: count.tracked for pair, count in self._counts.items() if pair[0] in binds}

    def half_open_for_s(self) -> Mapping[Pair, float]:
        """Return for how long most connections of a pair have been half-open."""
        now_s = self._clock()
        return {pair: now_s - since_s for pair, since_s in self._half_open_s.items()}
