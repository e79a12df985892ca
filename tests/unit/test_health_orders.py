"""The board and orders: who drains, is disabled, and what becomes of it afterwards."""

from __future__ import annotations

import pytest

from paraglider.health.service import Health, Member
from paraglider.rules.markers import UNTIL, plan_markers
from paraglider.rules.ruleset import Note
from tests.unit.health_states import NO_CHECK, Harness, endpoint_of, key_of, web


def test_a_draining_backend_gets_nothing_new() -> None:
    """It has a deadline if one was given."""
    harness = Harness(web("ab"))
    change = harness.state.drain(key_of("a"), 1_766_000_000, 1000)
    assert change
    assert harness.serving() == "b"
    member = Member(endpoint_of("a"), Health.DRAINING, 1_766_000_000)
    assert harness.service().members[0] == member


def test_a_new_deadline_takes_the_place_of_the_old_one() -> None:
    """It is a change though the health stays the same."""
    harness = Harness(web("ab"))
    harness.state.drain(key_of("a"), 10, 1000)
    change = harness.state.drain(key_of("a"), None, 1000)
    assert change
    assert harness.service().members[0].until_s is None


def test_a_deadline_is_kept_as_ordered_and_noted_in_whole_seconds() -> None:
    """The rules tell a successor when, at most a second late and never too early."""
    harness = Harness(web("ab"))
    harness.state.drain(key_of("a"), 10.25, 1000)
    service = harness.service()
    assert service.members[0].until_s == 10.25
    (chain,) = plan_markers([service])
    assert chain.rules[0].note == Note(UNTIL, "11")


def test_what_a_draining_backend_does_is_seen_when_it_comes_back() -> None:
    """Probes go on; who drained because it was ill may not be well."""
    harness = Harness(web("ab"))
    harness.state.drain(key_of("a"), None, 1000)
    found = harness.probe("a", "---")
    assert [(c.before, c.after) for c in found] == [(Health.UNKNOWN, Health.DOWN)]
    assert harness.health("a") is Health.DRAINING
    harness.state.undrain(key_of("a"), 1000)
    assert harness.health("a") is Health.DOWN


def test_a_disabled_backend_gets_neither_connections_nor_probes() -> None:
    """And a probe that was under way is not heard."""
    harness = Harness(web("ab"))
    harness.state.disable(key_of("a"), 1000)
    assert harness.serving() == "b"
    assert [key for key, _ in harness.state.probed()] == [key_of("b")]
    assert harness.probe("a", "---") == []


@pytest.mark.parametrize(
    ("results", "health"), [("++", Health.UNKNOWN), ("", Health.UNKNOWN), ("---", Health.DOWN)]
)
def test_an_enabled_backend_begins_anew_unless_it_was_down(results: str, health: Health) -> None:
    """What was found before is old."""
    harness = Harness(web("ab"))
    harness.probe("a", results)
    harness.state.disable(key_of("a"), 1000)
    harness.state.enable(key_of("a"), 1000)
    assert harness.health("a") is health


def test_an_enabled_backend_without_a_check_is_up() -> None:
    """As it was before."""
    harness = Harness(web("ab", check=NO_CHECK))
    harness.state.disable(key_of("a"), 1000)
    harness.state.enable(key_of("a"), 1000)
    assert harness.health("a") is Health.UP


def test_the_deadline_of_a_drain_ends_with_it() -> None:
    """Nothing is to be cut any more."""
    harness = Harness(web("ab"))
    harness.state.drain(key_of("a"), 10, 1000)
    harness.state.undrain(key_of("a"), 1000)
    assert harness.service().members[0] == Member(endpoint_of("a"))


@pytest.mark.parametrize("orders", ["undrain", "enable", "drain enable", "disable undrain"])
def test_an_order_ends_by_its_own_counterpart_alone(orders: str) -> None:
    """`enable` ends no drain, and `undrain` enables nobody."""
    harness = Harness(web("ab"))
    state, key = harness.state, key_of("a")
    calls = {
        "drain": lambda: state.drain(key, None, 1000),
        "undrain": lambda: state.undrain(key, 1000),
        "disable": lambda: state.disable(key, 1000),
        "enable": lambda: state.enable(key, 1000),
    }
    assert [calls[order]() for order in orders.split()][-1] is None


@pytest.mark.parametrize(("first", "last"), [("drain", "disable"), ("disable", "drain")])
def test_the_last_order_holds(first: str, last: str) -> None:
    """There is one at a time, as there is one note of it in the rules."""
    harness = Harness(web("ab"))
    for order in (first, last):
        if order == "drain":
            harness.state.drain(key_of("a"), 10, 1000)
        else:
            harness.state.disable(key_of("a"), 1000)
    member = harness.service().members[0]
    expected = {"disable": (Health.DISABLED, None), "drain": (Health.DRAINING, 10)}
    assert (member.health, member.until_s) == expected[last]


def test_orders_to_strangers_are_none() -> None:
    """Whoever asks has looked before who there is."""
    assert Harness(web("ab")).state.disable(key_of("x"), 1000) is None
