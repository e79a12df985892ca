"""Writer: brings what was decided into the kernel, and keeps it there.

Owns when the rules are written, looked after and tried again, and whose connections are counted or
cut. What fails is told once, stays due, and keeps nothing else from being done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paraglider.agent.answer_routes import AnswerRoutes
from paraglider.agent.counters import Counters
from paraglider.agent.drains import Drains
from paraglider.agent.least_connections import LeastConnections
from paraglider.agent.listing import listed
from paraglider.agent.loop import Loop
from paraglider.agent.status import Overdue
from paraglider.agent.tries import Tries
from paraglider.config.model import Address, Bind, Endpoint, Family, Protocol
from paraglider.health.service import Pair, Service, backend_addresses
from paraglider.kernel.conntrack import (
    Count,
    count_by_phase,
    count_connections,
    cut_connections,
)
from paraglider.kernel.conntrack_entries import Cut, add_up
from paraglider.kernel.iptables import Variant
from paraglider.kernel.reconcile import Reconciler
from paraglider.rules.state import State
from paraglider.rules.wanted import Planner

# A flow table lets go of what has had no packet for so long (nf_flow_table's time-outs).
_OFFLOADED_RETRY_S = 30.0
# What it does, as its failures are told.
_CHANGE = "cannot change the rules"
_CUT = "cannot cut connections"
_OFFLOADED = "offloaded to an nftables flow table"
_COUNT = "cannot count connections"
_REPAIR = "cannot check the rules"
_ROUTES = "cannot check policy rules"


@dataclass(frozen=True, slots=True)
class Connections:
    """How connections are counted, cut and, where they are stale, forgotten (in conntrack, but for
    tests)."""

    count: Callable[[Collection[Service]], Mapping[Pair, int]] = count_connections
    count_by_phase: Callable[[Collection[Service]], Mapping[Pair, Count]] = count_by_phase
    cut: Callable[[Collection[Service], Collection[Pair]], Mapping[Pair, Cut]] = cut_connections
    forget_stale: Callable[[Collection[Service]], Cut] = lambda _: Cut()


class Writer:
    """Writes services into the kernel; `local` returns which of some addresses are this host's."""

    def __init__(  # noqa: PLR0913 - each works for itself
        self,
        loop: Loop,
        reconciler: Reconciler,
        connections: Connections,
        counters: Counters,
        report: Callable[[str], None],
        *,
        local: Callable[[Iterable[Address]], Collection[Address]] = lambda _: (),
        on_policy: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._local = local
        self._reconciler = reconciler
        self._connections = connections
        self._counters = counters
        self._report = report
        self._tries = Tries(report=report, counters=counters, clock=loop.clock)
        self._routes = AnswerRoutes(
            loop, reconciler, counters, report=report, on_change=self._hear_policy
        )
        self._on_policy = on_policy
        self._drains = Drains(
            count=connections.count,
            cut=connections.cut,
            clock=loop.clock,
        )
        self._least_connections = LeastConnections(count=connections.count, clock=loop.clock)
        self._planner = Planner(randomize_start=False)
        self._to_cut: set[Pair] = set()
        self._services: Sequence[Service] = ()
        self._has_stale = False
        # When what could not be cut, because it is offloaded, is tried again.
        self._offloaded_until_s: float | None = None
        # How many decisions there were, how many of them the rules hold, and since when not all.
        self._decided = self._written = 0
        self._due_s: float | None = None
        self._feed = -1

    def _hear_policy(self) -> None:
        self.want()
        self._on_policy()

    @property
    def is_due(self) -> bool:
        """Whether something that was decided is not in the rules yet."""
        return self._written != self._decided

    @property
    def decided(self) -> int:
        """The number of the last decision."""
        return self._decided

    @property
    def written(self) -> int:
        """The number of the last decision that the rules hold."""
        return self._written

    def overdue(self) -> Overdue | None:
        """Return what the kernel should hold and does not, for longest; None where there is no such
        thing. The reason is '' where it was not tried yet."""
        now_s, repair_s = self._loop.clock(), self._tries.failing_since_s(_REPAIR)
        if self._due_s is not None and (repair_s is None or self._due_s <= repair_s):
            what, why = "a decided change is not in the rules", self._tries.why(_CHANGE)
            return Overdue(what, now_s - self._due_s, why)
        if repair_s is not None:
            what, why = "changes by other programs are not undone", self._tries.why(_REPAIR)
            return Overdue(what, now_s - repair_s, why)
        return None

    @property
    def full(self) -> Mapping[Bind, Collection[Endpoint]]:
        """Those that are to get no connection because they have as many as they may."""
        return self._least_connections.full

    def take_over(self, services: Sequence[Service], variant: Variant) -> bool:
        """Make the kernel hold what `services` ask for, from whatever state; return whether
        anything had to be changed. Raises what keeps it from that; all is as it was then."""
        planner, least_connections = (
            Planner(randomize_start=variant is Variant.LEGACY),
            self._least_connections.copy(),
        )
        number, began_s = self._decided, self._loop.clock()
        wanted = self._plan(planner, least_connections, services)
        is_changed = self._reconciler.take_over(wanted, variant)
        self._planner = planner
        self._note_written(services, least_connections, number, began_s)
        self._listen()
        return is_changed

    def _plan(
        self, planner: Planner, least_connections: LeastConnections, services: Sequence[Service]
    ) -> Mapping[Family, State]:
        local = self._local(backend_addresses(services))
        return planner.plan(least_connections.level(services), local, self._routes.read())

    def _note_written(
        self,
        services: Sequence[Service],
        least_connections: LeastConnections,
        number: int,
        began_s: float,
    ) -> None:
        self._least_connections, self._services, self._written = least_connections, services, number
        # What was decided meanwhile is not older than that.
        self._due_s = began_s if self.is_due else None
        self._drains.follow(services)
        self._has_stale = True

    def want(self) -> None:
        """Something was decided: the next `sync` writes it."""
        self._decided += 1
        if self._due_s is None:
            self._due_s = self._loop.clock()
        self._tries.hasten(_CHANGE)

    def want_now(self) -> None:
        """The same, without waiting for the time of the next try."""
        self.want()
        self._tries.try_now(_CHANGE)

    def want_cut(self, pair: Pair) -> None:
        """Cut the connections of a (bind, backend), once the rules send it no more."""
        self._to_cut.add(pair)
        self._offloaded_until_s = None

    def keep(self, pair: Pair) -> None:
        """Cut them not, after all."""
        self._to_cut.discard(pair)

    def sync(self, services: Callable[[], Sequence[Service]]) -> None:
        """Write what is due, then cut who is to be cut. `services` is asked if that is needed."""
        if self.is_due and self._tries.may(_CHANGE):
            self._tries.attempt(_CHANGE, lambda: self._write(services()))
        if self._to_cut and not self.is_due and self._may_cut():
            self._tries.attempt(_CUT, self._cut)
        if self._has_stale and not self.is_due and self._may_cut():
            self._tries.attempt(_CUT, self._forget_stale)

    def _write(self, services: Sequence[Service]) -> None:
        # More may be decided while it is written.
        number, began_s, least_connections = (
            self._decided,
            self._loop.clock(),
            self._least_connections.copy(),
        )
        self._reconciler.update(self._plan(self._planner, least_connections, services))
        self._note_written(services, least_connections, number, began_s)
        self._routes.look_again()
        self._offloaded_until_s = None

    def _forget_stale(self) -> None:
        found = Cut()
        if any(b.protocol is Protocol.UDP for s in self._services for b in s.binds):
            found = self._connections.forget_stale(self._services)
        if found.cut:
            flows = "flow" if found.cut == 1 else "flows"
            self._report(f"forgot {found.cut} UDP {flows} that no longer fit the configuration")
        self._has_stale = self._is_left(found, "UDP flows")

    def _cut(self) -> None:
        found = add_up(self._connections.cut(self._services, self._to_cut).values())
        listed = ", ".join(sorted({str(backend) for _, backend in self._to_cut}))
        if found.cut:
            self._report(f"{found.cut} connection{'s' * (found.cut != 1)} of {listed} cut")
        if not self._is_left(found, f"connections of {listed}"):
            self._to_cut.clear()

    def _is_left(self, found: Cut, what: str) -> bool:
        """Return whether some could not be cut, which is told once and tried again later."""
        if not found.not_cut:
            self._offloaded_until_s = None
            return False
        if self._offloaded_until_s is None:
            self._report(f"{found.not_cut} {what} could not be cut: they are {_OFFLOADED}")
        self._offloaded_until_s = self._loop.clock() + _OFFLOADED_RETRY_S
        return True

    def look(self) -> Sequence[Pair]:
        """Put right what others have changed, and look at those that drain; return who of them has
        no connections."""
        if self._tries.may(_REPAIR):
            self._tries.attempt(_REPAIR, self._repair)
        if self._routes.is_due() and not self.is_due and self._tries.may(_ROUTES):
            self._tries.attempt(_ROUTES, self._routes.repair)
        if self._is_time(self._least_connections.next_s()):
            self._tries.attempt(_COUNT, self._level)
        empty = list[Pair]()
        if self._is_time(self._drains.next_s()):
            self._tries.attempt(_COUNT, lambda: empty.extend(self._drain()))
        return empty

    def _is_time(self, next_s: float | None) -> bool:
        """Return whether it is time to count; only what is in the rules is worth it."""
        is_past = next_s is not None and next_s <= self._loop.clock()
        return is_past and self._tries.may(_COUNT) and not self.is_due

    def _level(self) -> None:
        if self._least_connections.look():
            self.want()

    def _repair(self) -> None:
        repair = self._reconciler.look()
        if repair is None:
            return
        chains = ", ".join(repair.chains)
        by = ", ".join(repair.by) or "another program"
        self._counters.repairs += 1
        self._counters.last_repair = chains
        took_ms = 1000 * repair.took_s
        self._report(f"repaired {chains} after a change by {by} ({took_ms:.0f} ms)")

    def _drain(self) -> Sequence[Pair]:
        drained = self._drains.look()
        for (bind, backend), found in drained.cut.items():
            ended = f"{found.cut} connection{'s' * (found.cut != 1)} cut"
            if found.not_cut:
                ended += f", {found.not_cut} could not be cut: they are {_OFFLOADED}"
            self._report(f"{self._name_of(bind)}: {backend}: drain deadline reached, {ended}")
        empty: dict[str, list[Endpoint]] = {}
        for bind, backend in drained.ended:
            empty.setdefault(self._name_of(bind), []).append(backend)
        for name, backends in empty.items():
            self._report(f"{name}: {listed(backends)}: no connections left")
        return drained.empty

    def _name_of(self, bind: Bind) -> str:
        """Return the name of the frontend that has `bind`, or had it."""
        return next((s.name for s in self._services if s.bind == bind), str(bind))

    def next_s(self) -> float | None:
        """Return when there is something to do, on the clock of the loop."""
        times = {
            _CHANGE: 0.0 if self.is_due else None,
            _CUT: self._cut_s(),
            _COUNT: None if self.is_due else _earlier(self._drains, self._least_connections),
            _REPAIR: self._reconciler.next_s(),
            _ROUTES: None if self.is_due else self._routes.due_s,
        }
        due = (
            max(time_s, self._tries.next_s(what))
            for what, time_s in times.items()
            if time_s is not None
        )
        return min(due, default=None)

    def _cut_s(self) -> float | None:
        is_wanted = (self._to_cut or self._has_stale) and not self.is_due
        return (self._offloaded_until_s or 0.0) if is_wanted else None

    def _may_cut(self) -> bool:
        is_past = self._loop.clock() >= (self._offloaded_until_s or 0.0)
        return is_past and self._tries.may(_CUT)

    def count(self, services: Collection[Service]) -> Mapping[Pair, int]:
        """Return how many connections each (bind, backend) of `services` has."""
        return self._connections.count(services)

    def remove_known(self) -> None:
        """Take away the rules that were applied last, without reading any."""
        self._reconciler.remove_known()

    def close(self) -> None:
        """Look after the rules no more; they stay."""
        self._unlisten()
        self._routes.close()
        self._reconciler.close()

    def _listen(self) -> None:
        """Wake up when the kernel tells of a change."""
        feed = self._reconciler.fileno()
        if feed != self._feed:
            self._unlisten()
            if feed >= 0:
                self._loop.watch(feed, self._hear)
            self._feed = feed

    def _hear(self) -> None:
        # Also while a look fails, or a program runs: what is not read keeps the loop awake.
        self._reconciler.hear()
        self._tries.hasten(_REPAIR)
        self._tries.hasten(_CHANGE)

    def _unlisten(self) -> None:
        if self._feed >= 0:
            self._loop.forget(self._feed)
        self._feed = -1


def _earlier(drains: Drains, least_connections: LeastConnections) -> float | None:
    times = (drains.next_s(), least_connections.next_s())
    return min((time_s for time_s in times if time_s is not None), default=None)
