"""Rise and fall: when the results of probes change the health of a backend.

One bad probe is no reason to move connections, nor is one good probe of a backend that was down.
"""

from __future__ import annotations

from dataclasses import dataclass

from paraglider.config.model import Check
from paraglider.health.service import Health


@dataclass(frozen=True, slots=True)
class Track:
    """What probes have found: a health (unknown, up or down), and how many of the last results,
    in a row, speak for another one: ``2`` are two good ones, ``-2`` two bad ones, ``0`` none."""

    health: Health = Health.UNKNOWN
    streak: int = 0


NOTHING_FOUND = Track()


def advance(track: Track, check: Check, *, is_good: bool) -> Track:
    """Return the track after one more result.

    ``rise`` good ones in a row bring a backend up, ``fall`` bad ones down; all others change
    nothing but the streak, which begins anew with each health.
    """
    health, needed = (Health.UP, check.rise) if is_good else (Health.DOWN, check.fall)
    if track.health is health:
        return Track(health)
    streak = max(track.streak, 0) + 1 if is_good else min(track.streak, 0) - 1
    return Track(health) if abs(streak) >= needed else Track(track.health, streak)
