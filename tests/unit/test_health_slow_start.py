"""The board and time: how the share of a backend that came back grows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paraglider.config.model import NoBackend, Quorum
from tests.unit.health_states import Harness, key_of, web

SERVE_ALL = NoBackend.SERVE_ALL


@pytest.mark.parametrize(
    ("after_s", "percent"), [(0, 1), (0.9, 1), (1, 5), (10.5, 50), (19, 95), (20, 100), (99, 100)]
)
def test_a_backend_that_came_back_starts_slowly(after_s: float, percent: int) -> None:
    """In a line, in steps."""
    harness = Harness(replace(web("ab"), slow_start_s=20.0))
    harness.probe("a", "---++")
    harness.now_s += after_s
    assert harness.percents() == {"a": percent, "b": 100}


@pytest.mark.parametrize("results", ["", "++"])
def test_a_backend_that_was_not_down_does_not_start_slowly(results: str) -> None:
    """Nobody else would take what it leaves."""
    harness = Harness(replace(web("ab"), slow_start_s=20.0))
    harness.probe("a", results)
    assert harness.percents() == {"a": 100, "b": 100}


def test_a_backend_that_was_enabled_does_not_start_slowly() -> None:
    """Whoever orders that it serves wants it to."""
    harness = Harness(replace(web("ab"), slow_start_s=20.0))
    harness.probe("a", "---++")
    harness.state.disable(key_of("a"), 1000)
    harness.state.enable(key_of("a"), 1000)
    assert harness.percents() == {"a": 100, "b": 100}


def test_of_those_that_start_slowly_the_first_gets_a_full_share() -> None:
    """Somebody must take what the others leave."""
    harness = Harness(replace(web("ab"), slow_start_s=20.0))
    harness.probe("a", "---++")
    harness.probe("b", "---")
    harness.now_s += 4
    harness.probe("b", "++")
    harness.now_s += 4
    assert harness.percents() == {"a": 100, "b": 50}


def test_where_all_must_serve_nobody_starts_slowly() -> None:
    """Those that are down would get more than the one that is up."""
    frontend = replace(web("ab"), slow_start_s=20.0, no_backend=SERVE_ALL, quorum=Quorum(live=2))
    harness = Harness(frontend)
    harness.probe("a", "---++")
    harness.probe("b", "---")
    assert harness.percents() == {"a": 100, "b": 100}


@pytest.mark.parametrize(("after_s", "next_s"), [(0, 1001), (1, 1002), (19.5, 1020), (20, None)])
def test_the_board_says_when_a_share_grows(after_s: float, next_s: float | None) -> None:
    """Whoever asks has the timer."""
    harness = Harness(replace(web("ab"), slow_start_s=20.0))
    harness.probe("a", "---++")
    assert harness.state.next_change_s(1000 + after_s) == next_s


def test_nothing_changes_by_time_where_nobody_starts_slowly() -> None:
    """Nobody has to wake up."""
    harness = Harness(web("ab"))
    harness.probe("a", "---++")
    assert harness.state.next_change_s(harness.now_s) is None
