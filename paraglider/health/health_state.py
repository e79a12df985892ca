"""Health state: all that is known of the backends of all frontends, and which of them serve.

What the file says, what probes find and what is ordered comes in; services come out. It has no
clock and no timer: `now_s` (seconds of a monotonic clock) is given, and `next_change_s` says when
to ask again. It never touches a socket or a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from paraglider.config.model import Backend, Bind, Config, Endpoint, Frontend, OnDown
from paraglider.health.backend_state import BackendState
from paraglider.health.frontend_state import FrontendState
from paraglider.health.saved_state import NO_SAVED_STATE, SavedState, recall_frontend_states
from paraglider.health.service import Addresses, Health, Pair, Service, expand_backends


@dataclass(frozen=True, slots=True)
class Change:
    """A health that became another one, and why (words to follow a colon).

    A backend that goes down while it drains changes from up to down. Where both are draining, it
    is the reason or the deadline that became another one.
    """

    key: Pair
    frontend: str
    before: Health
    after: Health
    why: str


@dataclass(frozen=True, slots=True)
class FrontendView:
    """One frontend, to be shown. `frontend` is what the file says, None of one that is leaving;
    `is_quorate` whether so many of its primaries are there that they are used, and no backups."""

    name: str
    bind: Bind
    frontend: Frontend | None
    is_quorate: bool
    members: Mapping[Endpoint, BackendState]


class HealthState:
    """All frontends and backends, from the first `configure` on."""

    def __init__(self, saved_state: SavedState = NO_SAVED_STATE) -> None:
        self._saved_state: SavedState | None = saved_state
        self._states: dict[Bind, FrontendState] = {}  # in the order of the file, leaving ones last

    def configure(self, config: Config, addresses: Addresses, now_s: float) -> list[Change]:
        """Take in what the file says, and what its names stand for; return what that changes.

        A known backend that is no longer in the file is leaving until it is forgotten, and so is a
        bind that its frontend no longer has; one that comes back before that is as it was. The
        first time, nothing counts as a change.
        """
        backends = {f.bind: expand_backends(f, addresses) for f in config.frontends}
        saved_state, self._saved_state = self._saved_state, None
        if saved_state is not None:
            self._states = recall_frontend_states(saved_state, backends, now_s)
        self._follow_binds(config)
        before = {key: (state.name, backend_state) for key, state, backend_state in self._each()}
        old, self._states = self._states, {}
        taken = {bind for frontend in config.frontends for bind in frontend.binds}
        left = dict[Bind, FrontendState]()
        for frontend in config.frontends:
            bind = frontend.bind
            state = old.pop(bind, None) or FrontendState(
                binds=frontend.binds, source=frontend.source
            )
            left |= state.part(taken, now_s)
            state.enter(frontend, backends[bind], now_s)
            self._states[bind] = state
        for state in old.values():
            self._states |= state.part(taken, now_s)
        self._states |= left
        return [] if saved_state is not None else list(self._changes_since(before))

    def _follow_binds(self, config: Config) -> None:
        """Know each frontend of `config` that is there already by the bind that it has now: other
        binds of it may have come or gone. One that is leaving is it only where no other is."""
        live, gone = dict[Bind, Bind](), dict[Bind, Bind]()
        for key, state in self._states.items():
            (gone if state.frontend is None else live).update(dict.fromkeys(state.binds, key))
        for frontend in config.frontends:
            bind = frontend.bind
            known = [keys[b] for keys in (live, gone) for b in frontend.binds if b in keys]
            before = next((key for key in known if key in self._states), bind)
            if before != bind and live.get(bind) != bind:
                self._states[bind] = self._states.pop(before)

    def copy(self) -> HealthState:
        """Return a board that knows the same, and goes its own way from here."""
        health_state = HealthState()
        health_state._saved_state = self._saved_state
        health_state._states = {
            bind: replace(state, backend_states=dict(state.backend_states))
            for bind, state in self._states.items()
        }
        return health_state

    def note(self, key: Pair, *, is_good: bool, reason: str, now_s: float) -> Change | None:
        """Take in what a probe found; return the change if there is one."""
        if (found := self._find(key)) is None:
            return None
        state, before = found
        after = before.note(is_good=is_good, reason=reason, now_s=now_s)
        state.put(key[1], after)
        was, health = before.track, after.track.health
        if was.health is health:
            return None
        count = 1 + max(0, was.streak if is_good else -was.streak)
        quality = "good" if is_good else "bad"
        why = reason if count == 1 else f"{count} {quality} probes in a row, the last: {reason}"
        return Change(key, state.name, was.health, health, why)

    def fail(self, key: Pair, error: str, now_s: float) -> None:
        """Take in that a probe could not be made, and why: its health stays what it was."""
        if (found := self._find(key)) is not None:
            found[0].put(key[1], found[1].fail(error, now_s))

    def drain(self, key: Pair, until_s: float | None, now_s: float) -> Change | None:
        """Order that it gets no new connections, with a deadline (of the same clock) for those that
        it has, or None. The last order holds: one that was disabled drains then."""
        return self._order(key, "drain", lambda backend_state: backend_state.drain(until_s, now_s))

    def undrain(self, key: Pair, now_s: float) -> Change | None:
        """Order that it drains no more."""
        return self._order(key, "undrain", lambda s: s.release(Health.DRAINING, now_s))

    def disable(self, key: Pair, now_s: float) -> Change | None:
        """Order that it gets no new connections and no probes, unless it is leaving."""
        return self._order(key, "disable", lambda backend_state: backend_state.disable(now_s))

    def enable(self, key: Pair, now_s: float) -> Change | None:
        """Order that it is disabled no more. It begins as a new one does, or down if it was."""
        return self._order(key, "enable", lambda s: s.release(Health.DISABLED, now_s))

    def forget(self, key: Pair) -> None:
        """Take it that one that is leaving has no connections left."""
        if (found := self._find(key)) is None or not found[1].is_leaving:
            return
        state = found[0]
        state.drop(key[1])
        if state.frontend is None and not state.backend_states:
            del self._states[key[0]]

    def on_down(self, key: Pair) -> OnDown:
        """Return what becomes of its connections when it goes down."""
        state = self._states.get(key[0])
        return OnDown.KEEP if state is None or state.frontend is None else state.frontend.on_down

    def name_of(self, key: Pair) -> str:
        """Return the name of its frontend. Raises KeyError where there is none."""
        return self._states[key[0]].name

    def services(self, now_s: float) -> tuple[Service, ...]:
        """Return what all frontends are to do, in the order of the file, leaving ones last."""
        return tuple(state.service(now_s) for state in self._states.values())

    def next_change_s(self, now_s: float) -> float | None:
        """Return when `services` may differ though nothing has happened; None for never."""
        times_s = [state.next_change_s(now_s) for state in self._states.values()]
        return min((time_s for time_s in times_s if time_s is not None), default=None)

    def probed(self) -> list[tuple[Pair, Backend]]:
        """Return who is to be probed."""
        return [
            (key, backend_state.backend)
            for key, _, backend_state in self._each()
            if backend_state.is_probed and backend_state.backend
        ]

    def leaving(self) -> list[Pair]:
        """Return who is to be forgotten once it has no connections."""
        return [key for key, _, backend_state in self._each() if backend_state.is_leaving]

    def views(self) -> tuple[FrontendView, ...]:
        """Return what is known, in the order of `services`."""
        return tuple(
            FrontendView(r.name, bind, r.frontend, r.is_quorate, dict(r.backend_states))
            for bind, r in self._states.items()
        )

    def _order(
        self, key: Pair, order: str, obey: Callable[[BackendState], BackendState]
    ) -> Change | None:
        if (found := self._find(key)) is None:
            return None
        state, before = found
        after = obey(before)
        state.put(key[1], after)
        if (before.health, before.until_s) == (after.health, after.until_s):
            return None
        return Change(key, state.name, before.health, after.health, f"{order} was ordered")

    def _each(self) -> Iterator[tuple[Pair, FrontendState, BackendState]]:
        for bind, state in self._states.items():
            for backend, backend_state in state.backend_states.items():
                yield (bind, backend), state, backend_state

    def _find(self, key: Pair) -> tuple[FrontendState, BackendState] | None:
        bind, backend = key
        state = self._states.get(bind)
        if state is None or backend not in state.backend_states:
            return None
        return state, state.backend_states[backend]

    def _changes_since(self, before: Mapping[Pair, tuple[str, BackendState]]) -> Iterator[Change]:
        configured = {
            bind: frozenset(state.frontend.backends if state.frontend else ())
            for bind, state in self._states.items()
        }
        for key, state, after in self._each():
            if key not in before:
                continue
            name, was = before[key]
            if was.health is not after.health or was.is_leaving is not after.is_leaving:
                name = name if state.frontend is None else state.name
                why = _why(configured[key[0]], was, after)
                yield Change(key, name, was.health, after.health, why)


def _why(configured: Collection[Backend], was: BackendState, backend_state: BackendState) -> str:
    if was.backend is None:
        return "it is configured again"
    if backend_state.backend is not None:
        return "it is no longer checked"
    if was.backend in configured:
        return f"it is no longer an address of {was.backend.host}"
    return "it is no longer configured"
