"""The board and memory: what an agent that starts takes from the rules of the one before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paraglider.config.model import Quorum
from paraglider.health.memory import Memory
from paraglider.health.service import Health, Member, Share
from tests.unit.health_boards import BIND, Boarded, endpoint_of, key_of, shop, web


@pytest.mark.parametrize(
    ("memory", "health"),
    [
        (Memory(), Health.UNKNOWN),
        (Memory(serving=frozenset([key_of("a")])), Health.UP),
        (Memory(down=frozenset([key_of("a")])), Health.DOWN),
        (Memory(down=frozenset([key_of("a")]), serving=frozenset([key_of("a")])), Health.DOWN),
        (Memory(disabled=frozenset([key_of("a")])), Health.DISABLED),
        (Memory(draining={key_of("a"): None}), Health.DRAINING),
    ],
)
def test_a_restarted_agent_knows_what_the_rules_remember(memory: Memory, health: Health) -> None:
    """Nobody is taken for unknown, or given connections, because the agent was away."""
    assert Boarded(web("ab"), memory=memory).health("a") is health


def test_a_deadline_outlives_the_agent() -> None:
    """It is of a clock that goes on for as long as the rules."""
    boarded = Boarded(web("ab"), memory=Memory(draining={key_of("a"): 10}))
    assert boarded.service().members[0].until_s == 10


def test_a_deadline_is_a_day_away_at_most() -> None:
    """Whatever the rules say: they may have been restored after a reboot, by an older release."""
    boarded = Boarded(web("ab"), memory=Memory(draining={key_of("a"): 1_766_000_000}))
    assert boarded.service().members[0].until_s == boarded.now_s + 86_400


@pytest.mark.parametrize(
    "memory",
    [
        Memory(draining={key_of("c"): None}),
        Memory(serving=frozenset([key_of("c")])),
        Memory(down=frozenset([key_of("c")])),
        Memory(disabled=frozenset([key_of("c")])),
    ],
)
def test_whoever_is_remembered_and_not_in_the_file_is_leaving(memory: Memory) -> None:
    """It may have connections."""
    boarded = Boarded(web("ab"), memory=memory)
    assert boarded.board.leaving() == [key_of("c")]
    assert boarded.health("c") is Health.DRAINING


def test_whoever_is_leaving_by_a_deadline_keeps_it_when_the_agent_restarts() -> None:
    """Somebody has ordered it."""
    boarded = Boarded(web("a"), memory=Memory(draining={key_of("b"): 10}))
    assert boarded.service().members[-1] == Member(
        endpoint_of("b"), Health.DRAINING, 10, is_leaving=True
    )


def test_whoever_left_before_the_agent_restarted_comes_back_without_an_order() -> None:
    """Nobody has ordered that it drains."""
    boarded = Boarded(web("a"), memory=Memory(draining={key_of("b"): None}))
    boarded.configure(web("ab"))
    assert boarded.serving() == "ab"


def test_a_frontend_that_is_only_remembered_is_leaving() -> None:
    """Of its privateip nothing is known."""
    boarded = Boarded(shop("a"), memory=Memory(draining={key_of("a"): None}))
    service = boarded.service()
    assert service.is_leaving
    assert service.name == str(BIND)


def test_what_is_remembered_counts_once() -> None:
    """Later it is old."""
    boarded = Boarded(web("a"), memory=Memory(down=frozenset([key_of("b")])))
    boarded.board.forget(key_of("b"))
    boarded.configure(web("ab"))
    assert boarded.health("b") is Health.UNKNOWN


@pytest.mark.parametrize(("served", "serving"), [("z", "z"), ("abc", "abc"), ("", "abc")])
def test_a_quorum_that_was_lost_stays_lost_when_the_agent_restarts(
    served: str, serving: str
) -> None:
    """Between its limits a frontend stays as it was, and the rules say how that is."""
    down = frozenset([key_of("d")])
    memory = Memory(down=down, serving=frozenset(map(key_of, served)))
    frontend = replace(web("abcd", "z"), quorum=Quorum(live=3, hysteresis=1))
    assert Boarded(frontend, memory=memory).serving() == serving


def test_a_frontend_that_comes_back_later_is_not_taken_for_lost() -> None:
    """Which of those that it had were primaries nobody knows any more."""
    frontend = replace(web("abc", "z"), quorum=Quorum(live=2, hysteresis=1))
    memory = Memory(serving=frozenset([key_of("a")]), down=frozenset([key_of("c")]))
    boarded = Boarded(shop("a"), memory=memory)
    boarded.configure(shop("a"), frontend)
    assert boarded.serving() == "ab"


def test_adopted_backends_have_their_full_share() -> None:
    """They have run all the time."""
    frontend = replace(web("ab"), slow_start_s=20.0)
    boarded = Boarded(frontend, memory=Memory(serving=frozenset([key_of("a")])))
    assert boarded.service().serving == (Share(endpoint_of("a")), Share(endpoint_of("b")))
