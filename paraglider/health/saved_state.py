"""Saved state: what the rules remember of the time before an agent started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Backend, Bind, Endpoint
from paraglider.health.backend_state import BackendState
from paraglider.health.frontend_state import FrontendState
from paraglider.health.rise_fall import Track
from paraglider.health.service import Health, Pair, bound_deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """Who was down, who drained (with the deadline, in seconds of the monotonic clock) or was
    disabled, and who got new connections."""

    down: frozenset[Pair] = frozenset()
    draining: Mapping[Pair, float | None] = field(default_factory=dict)
    disabled: frozenset[Pair] = frozenset()
    serving: frozenset[Pair] = frozenset()

    def members(self) -> list[Pair]:
        """Return all that is remembered, always in the same order."""
        found = self.down | self.draining.keys() | self.disabled | self.serving
        return sorted(found, key=lambda key: (str(key[0]), str(key[1])))


NO_SAVED_STATE = SavedState()
# What backends saw is not remembered; who is leaving has no use for it.
_UNKNOWN = Source(SourceKind.AUTO)


def recall_frontend_states(
    saved_state: SavedState, configured: Mapping[Bind, Mapping[Endpoint, Backend]], now_s: float
) -> dict[Bind, FrontendState]:
    """Return all that is remembered, for each bind, as if everybody had left.

    `configured` are those that are about to come back. A frontend that was served, but by none of
    its primaries, had no quorum.
    """
    states: dict[Bind, FrontendState] = {}
    for bind, backend in saved_state.members():
        state = states.setdefault(bind, FrontendState(binds=(bind,), source=_UNKNOWN))
        is_back = backend in configured.get(bind, {})
        state.backend_states[backend] = _recall(
            saved_state, (bind, backend), now_s, is_back=is_back
        )
    served: dict[Bind, set[Endpoint]] = {}
    for bind, backend in saved_state.serving:
        served.setdefault(bind, set()).add(backend)
    for bind in served.keys() & configured.keys():
        primaries = {e for e, backend in configured[bind].items() if not backend.is_backup}
        states[bind].is_quorate = not primaries.isdisjoint(served[bind])
    return states


def _recall(saved_state: SavedState, key: Pair, now_s: float, *, is_back: bool) -> BackendState:
    health = Health.UNKNOWN
    if key in saved_state.down:
        health = Health.DOWN
    elif key in saved_state.serving:
        health = Health.UP
    backend_state = BackendState(now_s, track=Track(health))
    if key in saved_state.disabled:
        return replace(backend_state, order=Health.DISABLED)
    until_s = saved_state.draining.get(key)
    if until_s is not None:
        return backend_state.drain(bound_deadline(until_s, now_s), now_s)
    if key in saved_state.draining and is_back:
        return backend_state.drain(None, now_s)
    return backend_state  # without a deadline it was leaving then, too, and nobody ordered it
