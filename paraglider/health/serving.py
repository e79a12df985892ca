"""Serving: who of the members of a frontend gets new connections, and how much of them.

Primaries (members that are no backups) while enough of them are available; else backups; else what
the file says is to be done where nobody is left. Pure: standings in, shares out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paraglider.config.model import Endpoint, Frontend, NoBackend, Quorum
from paraglider.health.backend_state import BackendState
from paraglider.health.service import FULL, Share
from paraglider.health.slow_start import find_next_step_s, find_percent

BackendStates = Mapping[Endpoint, BackendState]


def has_quorum(quorum: Quorum, live: int, allowed: int, *, had_quorum: bool) -> bool:
    """Return whether enough primaries are available, as keepalived counts them
    (`update_quorum_state`): fewer are enough to stay than to come back.

    `live` primaries are available, `allowed` may serve as far as file and orders go. Other than
    there, more than all that are allowed are never asked for, or a hysteresis that leads beyond
    them could not be left again.
    """
    if not live:
        return False
    if had_quorum:
        return live >= quorum.live - quorum.hysteresis
    return live >= max(quorum.live, min(quorum.live + quorum.hysteresis, allowed))


def choose_serving(
    frontend: Frontend, backend_states: BackendStates, *, is_quorate: bool
) -> Sequence[Endpoint]:
    """Return who gets new connections, in the order of `standings`."""
    available = [
        backend for backend, backend_state in backend_states.items() if backend_state.is_available
    ]
    if is_quorate:
        return [backend for backend in available if not backend_states[backend].is_backup]
    backups = [backend for backend in available if backend_states[backend].is_backup]
    if backups or frontend.no_backend is NoBackend.REJECT:
        return backups
    allowed = [
        backend for backend, backend_state in backend_states.items() if backend_state.is_allowed
    ]
    return [backend for backend in allowed if not backend_states[backend].is_backup] or allowed


def share_out(
    serving: Sequence[Endpoint], backend_states: BackendStates, slow_start_s: float, now_s: float
) -> tuple[Share, ...]:
    """Return the shares of `serving`, the largest percentage of them always a full one."""
    percents = [_percent(backend_states[backend], slow_start_s, now_s) for backend in serving]
    if any(not backend_states[backend].is_available for backend in serving):
        percents = [FULL] * len(serving)  # who may be down must not get more than who came up
    largest = max(percents, default=FULL)
    return tuple(
        _share(backend, backend_states[backend], percent * FULL // largest)
        for backend, percent in zip(serving, percents, strict=True)
    )


def find_next_share_s(
    serving: Sequence[Endpoint], backend_states: BackendStates, slow_start_s: float, now_s: float
) -> float | None:
    """Return when a share of `serving` may grow by time alone, after `now_s`; None for never."""
    times_s = [
        find_next_step_s(rose_s, slow_start_s, now_s)
        for backend in serving
        if (rose_s := backend_states[backend].rose_s) is not None
    ]
    return min((time_s for time_s in times_s if time_s is not None), default=None)


def _share(endpoint: Endpoint, backend_state: BackendState, percent: int) -> Share:
    if backend_state.backend is None:
        return Share(endpoint, percent=percent)
    return Share(
        endpoint, backend_state.backend.weight, percent, backend_state.backend.max_connections
    )


def _percent(backend_state: BackendState, slow_start_s: float, now_s: float) -> int:
    return (
        FULL
        if backend_state.rose_s is None
        else find_percent(backend_state.rose_s, slow_start_s, now_s)
    )
