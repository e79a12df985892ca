"""Slow start: the share of a backend that has come back, from 1 % up to an equal one.

It grows in a line, but in steps: each step is a change of the rules.

    20 s: 1 % at once, 5 % after 1 s, 10 % after 2 s, ... 95 % after 19 s, 100 % after 20 s
     3 s: 1 % at once, 30 % after 1 s, 65 % after 2 s, 100 % after 3 s
"""

from __future__ import annotations

from paraglider.health.service import FULL

_MAX_STEPS = 20
_MIN_STEP_S = 1.0
_ROUND_TO = FULL // _MAX_STEPS


def find_percent(began_s: float, slow_start_s: float, now_s: float) -> int:
    """Return the share (1 to 100) at `now_s` of what came back at `began_s`."""
    times_s = _step_times(began_s, slow_start_s)
    done = sum(time_s <= now_s for time_s in times_s)
    return max(1, FULL * done // len(times_s) // _ROUND_TO * _ROUND_TO)


def find_next_step_s(began_s: float, slow_start_s: float, now_s: float) -> float | None:
    """Return when the share grows next, after `now_s`; None once it is whole."""
    return next((time_s for time_s in _step_times(began_s, slow_start_s) if time_s > now_s), None)


def _step_times(began_s: float, slow_start_s: float) -> list[float]:
    # Both functions compare with these very numbers: at the time of a step it has been taken.
    steps = max(1, min(_MAX_STEPS, int(slow_start_s / _MIN_STEP_S)))
    return [began_s + slow_start_s * ((step + 1) / steps) for step in range(steps)]
