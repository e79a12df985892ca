"""The board and memory: what an agent that starts takes from the rules of the one before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paraglider.config.model import Quorum
from paraglider.health.saved_state import SavedState
from paraglider.health.service import Health, Member, Share
from tests.unit.health_states import BIND, Harness, endpoint_of, key_of, shop, web


@pytest.mark.parametrize(
    ("saved_state", "health"),
    [
        (SavedState(), Health.UNKNOWN),
        (SavedState(serving=frozenset([key_of("a")])), Health.UP),
        (SavedState(down=frozenset([key_of("a")])), Health.DOWN),
        (SavedState(down=frozenset([key_of("a")]), serving=frozenset([key_of("a")])), Health.DOWN),
        (SavedState(disabled=frozenset([key_of("a")])), Health.DISABLED),
        (SavedState(draining={key_of("a"): None}), Health.DRAINING),
    ],
)
def test_a_restarted_agent_knows_what_the_rules_remember(
    saved_state: SavedState, health: Health
) -> None:
    """Nobody is taken for unknown, or given connections, because the agent was away."""
    assert Harness(web("ab"), saved_state=saved_state).health("a") is health


def test_a_deadline_outlives_the_agent() -> None:
    """It is of a clock that goes on for as long as the rules."""
    harness = Harness(web("ab"), saved_state=SavedState(draining={key_of("a"): 10}))
    assert harness.service().members[0].until_s == 10


def test_a_deadline_is_a_day_away_at_most() -> None:
    """Whatever the rules say: they may have been restored after a reboot, by an older release."""
    harness = Harness(web("ab"), saved_state=SavedState(draining={key_of("a"): 1_766_000_000}))
    assert harness.service().members[0].until_s == harness.now_s + 86_400


@pytest.mark.parametrize(
    "saved_state",
    [
        SavedState(draining={key_of("c"): None}),
        SavedState(serving=frozenset([key_of("c")])),
        SavedState(down=frozenset([key_of("c")])),
        SavedState(disabled=frozenset([key_of("c")])),
    ],
)
def test_whoever_is_remembered_and_not_in_the_file_is_leaving(saved_state: SavedState) -> None:
    """It may have connections."""
    harness = Harness(web("ab"), saved_state=saved_state)
    assert harness.state.leaving() == [key_of("c")]
    assert harness.health("c") is Health.DRAINING


def test_whoever_is_leaving_by_a_deadline_keeps_it_when_the_agent_restarts() -> None:
    """Somebody has ordered it."""
    harness = Harness(web("a"), saved_state=SavedState(draining={key_of("b"): 10}))
    assert harness.service().members[-1] == Member(
        endpoint_of("b"), Health.DRAINING, 10, is_leaving=True
    )


def test_whoever_left_before_the_agent_restarted_comes_back_without_an_order() -> None:
    """Nobody has ordered that it drains."""
    harness = Harness(web("a"), saved_state=SavedState(draining={key_of("b"): None}))
    harness.configure(web("ab"))
    assert harness.serving() == "ab"


def test_a_frontend_that_is_only_remembered_is_leaving() -> None:
    """Of its privateip nothing is known."""
    harness = Harness(shop("a"), saved_state=SavedState(draining={key_of("a"): None}))
    service = harness.service()
    assert service.is_leaving
    assert service.name == str(BIND)


def test_what_is_remembered_counts_once() -> None:
    """Later it is old."""
    harness = Harness(web("a"), saved_state=SavedState(down=frozenset([key_of("b")])))
    harness.state.forget(key_of("b"))
    harness.configure(web("ab"))
    assert harness.health("b") is Health.UNKNOWN


@pytest.mark.parametrize(("served", "serving"), [("z", "z"), ("abc", "abc"), ("", "abc")])
def test_a_quorum_that_was_lost_stays_lost_when_the_agent_restarts(
    served: str, serving: str
) -> None:
    """Between its limits a frontend stays as it was, and the rules say how that is."""
    down = frozenset([key_of("d")])
    saved_state = SavedState(down=down, serving=frozenset(map(key_of, served)))
    frontend = replace(web("abcd", "z"), quorum=Quorum(live=3, hysteresis=1))
    assert Harness(frontend, saved_state=saved_state).serving() == serving


def test_a_frontend_that_comes_back_later_is_not_taken_for_lost() -> None:
    """Which of those that it had were primaries nobody knows any more."""
    frontend = replace(web("abc", "z"), quorum=Quorum(live=2, hysteresis=1))
    saved_state = SavedState(serving=frozenset([key_of("a")]), down=frozenset([key_of("c")]))
    harness = Harness(shop("a"), saved_state=saved_state)
    harness.configure(shop("a"), frontend)
    assert harness.serving() == "ab"


def test_adopted_backends_have_their_full_share() -> None:
    """They have run all the time."""
    frontend = replace(web("ab"), slow_start_s=20.0)
    harness = Harness(frontend, saved_state=SavedState(serving=frozenset([key_of("a")])))
    assert harness.service().serving == (Share(endpoint_of("a")), Share(endpoint_of("b")))
