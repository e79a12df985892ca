"""Drains: what becomes of the connections of backends that get no new ones.

Counts them in conntrack, says who has none left, and cuts what is left at a deadline. Asked while
somebody drains; at other times it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paraglider.health.service import Health, Pair, Service
from paraglider.kernel.conntrack_entries import Cut

# Connections end when they end: a count a second is enough, and less where counting takes long.
_COUNT_S = 1.0
_REST_PER_COUNT = 20
# Between tries to cut what is in a flow table, which lets go of nothing that has packets.
_CUT_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Drained:
    """What a count has found: pairs of (bind, backend) that have none, of these the ones that have
    just come to none, and how many connections were cut, or could not be, of those whose time is
    over."""

    empty: Sequence[Pair]
    ended: Sequence[Pair]
    cut: Mapping[Pair, Cut]


class Drains:
    """Looks after backends that drain."""

    def __init__(
        self,
        *,
        count: Callable[[Collection[Service]], Mapping[Pair, int]],
        cut: Callable[[Collection[Service], Collection[Pair]], Mapping[Pair, Cut]],
        clock: Callable[[], float],
    ) -> None:
        self._count = count
        self._cut = cut
        self._clock = clock
        self._until_s: dict[Pair, float | None] = {}
        self._open: dict[Pair, int | None] = {}
        # When those are tried again that could not be cut.
        self._again_s: dict[Pair, float] = {}
        self._services: list[Service] = []
        self._next_s = 0.0

    def next_s(self) -> float | None:
        """Return when to look next, on the clock; None while nobody drains."""
        return self._next_s if self._open else None

    def follow(self, services: Iterable[Service]) -> None:
        """Look after the draining members of `services` from now on."""
        services = list(services)
        self._until_s = {
            (service.bind, member.backend): member.until_s
            for service in services
            for member in service.members
            if member.health is Health.DRAINING
        }
        if self._until_s.keys() - self._open.keys():
            self._next_s = self._clock()  # who has none is done at once
        self._open = {pair: self._open.get(pair) for pair in self._until_s}
        self._again_s = {p: again_s for p, again_s in self._again_s.items() if p in self._until_s}
        binds = {bind for bind, _ in self._until_s}
        self._services = [service for service in services if service.bind in binds]

    def look(self) -> Drained:
        """Count, and cut what is over its time; call it when `next_s` has come."""
        began_s = self._clock()
        counts = dict(self._count(self._services))
        over_time = dict.fromkeys(pair for pair in self._over_time() if counts.get(pair)).keys()
        cut = self._cut(self._services, over_time) if over_time else {}
        found_connections = {}
        for pair in over_time:
            found = cut.get(pair, Cut())
            counts[pair] = found.not_cut
            if found.cut or pair not in self._again_s:
                found_connections[pair] = found
            if found.not_cut:
                self._again_s[pair] = began_s + _CUT_AGAIN_S
        before = self._open
        self._open = {pair: counts.get(pair, 0) for pair in before}
        empty = [pair for pair, left in self._open.items() if not left]
        ended = [pair for pair in empty if before[pair] != 0]
        ended_s = self._clock()
        self._next_s = ended_s + max(_COUNT_S, _REST_PER_COUNT * (ended_s - began_s))
        return Drained(empty, ended, found_connections)

    def _over_time(self) -> list[Pair]:
        now_s = self._clock()
        return [
            pair
            for pair, until_s in self._until_s.items()
            if until_s is not None and max(until_s, self._again_s.get(pair, until_s)) <= now_s
        ]
