"""Leveler: keeps the shares of frontends with `least-connections` true to what backends have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from paraglider.config.model import Balance, Endpoint
from paraglider.health.leveling import apply_steps, level_shares
from paraglider.health.service import Pair, Service

# Between counts; a host with many connections is asked less often.
_COUNT_S = 2.0
_REST_PER_COUNT = 20


class Leveler:
    """Counts every two seconds or so, and remembers what follows from it."""

    def __init__(
        self,
        *,
        count: Callable[[Collection[Endpoint]], Mapping[Pair, int]],
        clock: Callable[[], float],
    ) -> None:
        self._count = count
        self._clock = clock
        self._services: dict[Endpoint, Service] = {}
        self._steps: dict[Endpoint, dict[Endpoint, int]] = {}
        self._levelled: dict[int, tuple[Service, Service]] = {}
        self._next_s = 0.0

    def next_s(self) -> float | None:
        """Return when to look next, on the clock; None while there is no such frontend."""
        return self._next_s if self._services else None

    def level(self, services: Sequence[Service]) -> Sequence[Service]:
        """Return `services` with the shares that were found last, and look after them from now on.

        Those that stay the same are the very objects of the last time.
        """
        self._services = {
            s.bind: s for s in services if s.balance is Balance.LEAST_CONNECTIONS and s.serving
        }
        known, self._levelled = self._levelled, {}
        return [self._level(s, known) if s.bind in self._services else s for s in services]

    def _level(self, service: Service, known: Mapping[int, tuple[Service, Service]]) -> Service:
        serving = apply_steps(service.serving, self._steps.get(service.bind, {}))
        _, found = known.get(id(service), (None, None))
        if found is None or found.serving != serving:
            found = replace(service, serving=serving)
        self._levelled[id(service)] = service, found
        return found

    def look(self) -> bool:
        """Count, when it is time; return whether shares are others now."""
        began_s = self._clock()
        counts = self._count(self._services)
        before, self._steps = self._steps, {}
        for bind, service in self._services.items():
            open_now = {backend: n for (at, backend), n in counts.items() if at == bind}
            self._steps[bind] = level_shares(service.serving, open_now, before.get(bind, {}))
        ended_s = self._clock()
        self._next_s = ended_s + max(_COUNT_S, _REST_PER_COUNT * (ended_s - began_s))
        return self._steps != before
