"""Results in, health out: never on fewer than were asked for."""

from __future__ import annotations

from functools import reduce

import pytest

from paraglider.config.model import Check
from paraglider.health.rise_fall import Track, advance
from paraglider.health.service import Health

CHECK = Check(rise=2, fall=3)


def track_after(results: str, start: Health = Health.UNKNOWN, check: Check = CHECK) -> Track:
    """Return the track after good (``+``) and bad (``-``) probes."""
    return reduce(lambda t, r: advance(t, check, is_good=r == "+"), results, Track(start))


@pytest.mark.parametrize(
    ("start", "results", "health"),
    [
        (Health.UNKNOWN, "+", Health.UNKNOWN),
        (Health.UNKNOWN, "++", Health.UP),
        (Health.UNKNOWN, "--", Health.UNKNOWN),
        (Health.UNKNOWN, "---", Health.DOWN),
        (Health.UNKNOWN, "+-+--+", Health.UNKNOWN),
        (Health.UP, "--", Health.UP),
        (Health.UP, "---", Health.DOWN),
        (Health.UP, "--+--", Health.UP),
        (Health.DOWN, "+", Health.DOWN),
        (Health.DOWN, "++", Health.UP),
        (Health.DOWN, "+-+-+", Health.DOWN),
    ],
)
def test_so_many_in_a_row_change_the_health(start: Health, results: str, health: Health) -> None:
    """`rise` good ones bring it up, `fall` bad ones down, and one of the other kind starts over."""
    assert track_after(results, start).health is health


@pytest.mark.parametrize(
    ("start", "results", "streak"),
    [
        (Health.UNKNOWN, "+", 1),
        (Health.UNKNOWN, "+-", -1),
        (Health.UP, "++", 0),
        (Health.UP, "+--", -2),
        (Health.UP, "--+", 0),
        (Health.DOWN, "--", 0),
        (Health.DOWN, "-+", 1),
        (Health.UP, "---", 0),
    ],
)
def test_a_streak_counts_what_speaks_for_another_health(
    start: Health, results: str, streak: int
) -> None:
    """So that it can be told how far a backend is from being taken out, or put back."""
    assert track_after(results, start).streak == streak


def test_one_result_is_enough_where_one_is_asked_for() -> None:
    """Each then decides."""
    assert track_after("-+", check=Check(rise=1, fall=1)).health is Health.UP


def test_a_check_that_got_stricter_or_looser_counts_the_next_result() -> None:
    """Two bad ones were not enough of three; of two they are with the next one."""
    almost = track_after("--", Health.UP)
    assert advance(almost, Check(fall=2), is_good=False).health is Health.DOWN
