"""Least connections: keeps the weights in proportion to the connections that backends have.

For frontends with `least-connections`, and where a backend may have so many and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from paraglider.config.model import Balance, Bind, Endpoint
from paraglider.health.least_connections import apply_steps, balance_shares
from paraglider.health.service import Pair, Service

# Between counts; a host with many connections is asked less often.
_COUNT_S = 2.0
_REST_PER_COUNT = 20


class LeastConnections:
    """Counts every two seconds or so, and remembers what follows from it."""

    def __init__(
        self,
        *,
        count: Callable[[Collection[Service]], Mapping[Pair, int]],
        clock: Callable[[], float],
    ) -> None:
        self._count = count
        self._clock = clock
        self._services: dict[Bind, Service] = {}
        self._steps: dict[Bind, dict[Endpoint, int]] = {}
        self._full: dict[Bind, frozenset[Endpoint]] = {}
        self._levelled: dict[int, tuple[Service, Service]] = {}
        self._next_s = 0.0

    def copy(self) -> LeastConnections:
        """Return one that knows the same, and goes its own way from here."""
        twin = LeastConnections(count=self._count, clock=self._clock)
        twin._services, twin._steps = dict(self._services), dict(self._steps)
        twin._full, twin._levelled = dict(self._full), dict(self._levelled)
        twin._next_s = self._next_s
        return twin

    def next_s(self) -> float | None:
        """Return when to look next, on the clock; None while there is no such frontend."""
        return self._next_s if self._services else None

    @property
    def full(self) -> Mapping[Bind, Collection[Endpoint]]:
        """Those that had as many connections as they may, when they were counted last."""
        return {bind: self._full_of(service) for bind, service in self._services.items()}

    def level(self, services: Sequence[Service]) -> Sequence[Service]:
        """Return `services` with the shares that were found last, and look after them from now on.

        Those that stay the same are the very objects of the last time.
        """
        self._services = {s.bind: s for s in services if _is_counted(s)}
        known, self._levelled = self._levelled, {}
        return [self._level(s, known) if s.bind in self._services else s for s in services]

    def _level(self, service: Service, known: Mapping[int, tuple[Service, Service]]) -> Service:
        serving = service.serving
        if service.balance is Balance.LEAST_CONNECTIONS:
            serving = apply_steps(serving, self._steps.get(service.bind, {}))
        full = self._full_of(service)
        serving = tuple(share for share in serving if share.backend not in full)
        _, found = known.get(id(service), (None, None))
        if found is None or found.serving != serving:
            found = replace(service, serving=serving)
        self._levelled[id(service)] = service, found
        return found

    def _full_of(self, service: Service) -> Collection[Endpoint]:
        known = self._full.get(service.bind, frozenset())
        return {s.backend for s in service.serving if s.most and s.backend in known}

    def look(self) -> bool:
        """Count, when it is time; return whether shares are others now."""
        began_s = self._clock()
        counts = self._count(self._services.values())
        open_at: dict[Bind, dict[Endpoint, int]] = {}
        for (bind, backend), number in counts.items():
            open_at.setdefault(bind, {})[backend] = number
        before, self._steps, self._full = (self._steps, self._full), {}, {}
        for bind, service in self._services.items():
            open_now = open_at.get(bind, {})
            if service.balance is Balance.LEAST_CONNECTIONS:
                steps = before[0].get(bind, {})
                self._steps[bind] = balance_shares(service.serving, open_now, steps)
            self._full[bind] = frozenset(
                share.backend
                for share in service.serving
                if share.most and open_now.get(share.backend, 0) >= share.most
            )
        ended_s = self._clock()
        self._next_s = ended_s + max(_COUNT_S, _REST_PER_COUNT * (ended_s - began_s))
        return (self._steps, self._full) != before


def _is_counted(service: Service) -> bool:
    is_least = service.balance is Balance.LEAST_CONNECTIONS and bool(service.serving)
    return is_least or any(share.most for share in service.serving)
