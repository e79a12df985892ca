"""The board and probes: what they find, who serves because of it, and what can be shown of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paraglider.config.model import ReturnPath
from paraglider.health.health_state import Change
from paraglider.health.service import Health
from tests.unit.health_states import (
    NO_CHECK,
    OTHER_BIND,
    STARTS_DOWN,
    Harness,
    endpoint_of,
    key_of,
    shop,
    web,
)


def test_new_backends_serve_until_they_are_found_to_be_down() -> None:
    """Whoever starts a balancer wants to be served at once."""
    assert Harness(web("abc")).serving() == "abc"


def test_new_backends_do_not_serve_where_the_file_says_so() -> None:
    """Some would rather wait until a backend has shown that it can."""
    harness = Harness(web("ab", check=STARTS_DOWN))
    harness.probe("b", "++")
    assert harness.serving() == "b"


def test_a_backend_that_went_down_does_not_serve() -> None:
    """The others take what it got."""
    harness = Harness(web("abc"))
    harness.probe("b", "---")
    assert harness.serving() == "ac"


def test_a_backend_that_came_up_serves_again() -> None:
    """In its place."""
    harness = Harness(web("abc"))
    harness.probe("b", "---++")
    assert harness.serving() == "abc"


def test_a_change_says_what_was_found() -> None:
    """It is what the log tells."""
    harness = Harness(web("a"))
    why = "3 bad probes in a row, the last: refused"
    expected = Change(key_of("a"), "web", Health.UNKNOWN, Health.DOWN, why)
    assert harness.probe("a", "+---") == [expected]


def test_a_change_by_a_single_probe_says_what_that_found() -> None:
    """Those before it were of the other kind."""
    harness = Harness(web("a", check=replace(STARTS_DOWN, fall=1)))
    assert [change.why for change in harness.probe("a", "+-")] == ["refused"]


def test_what_is_known_of_a_member_can_be_shown() -> None:
    """What its last probe said, how many in a row, and since when it is what it is."""
    harness = Harness(web("a"))
    harness.now_s = 1010
    harness.probe("a", "++")
    harness.now_s = 1020
    harness.probe("a", "--")
    state = harness.state.views()[0].members[endpoint_of("a")]
    found = (
        state.health,
        state.track.streak,
        state.reason,
        state.since_s,
    )
    assert found == (Health.UP, -2, "refused", 1010)


def test_a_backend_without_a_check_is_up() -> None:
    """Nobody looks, so nobody finds it down."""
    assert Harness(web("a", check=NO_CHECK)).health("a") is Health.UP


@pytest.mark.parametrize("letter", ["x", "c"])
def test_results_of_strangers_change_nothing(letter: str) -> None:
    """A probe may end after its backend was taken from the file."""
    harness = Harness(web("abc"))
    harness.configure(web("ab"))
    assert harness.probe(letter, "---") == []


def test_a_frontend_to_which_nothing_happens_is_the_same_object() -> None:
    """Probes that find what was known, and what happens to others, cost nothing further on."""
    harness = Harness(web("ab"), shop("ab"))
    before = harness.service(), harness.service(OTHER_BIND)
    harness.probe("a", "+-+")
    assert (harness.service(), harness.service(OTHER_BIND)) == before
    assert harness.service(OTHER_BIND) is before[1]
    harness.probe("a", "++")
    known = harness.service()
    harness.probe("a", "+++--")
    assert harness.service() is known
    harness.probe("a", "-")
    assert harness.service() is not known
    assert harness.service(OTHER_BIND) is before[1]


def test_a_probe_that_could_not_be_made_changes_no_health() -> None:
    """It is kept with the time since when, until one is made; neither good nor bad."""
    harness = Harness(web("ab"))
    harness.probe("a", "++")
    harness.probe("b", "--")
    for _ in range(5):
        harness.state.fail(key_of("a"), "no files", harness.now_s)
        harness.state.fail(key_of("b"), "no files", harness.now_s)
        harness.now_s += 1.0
    state = harness.state.views()[0].members[endpoint_of("a")]
    assert (state.health, state.error, state.error_since_s) == (
        Health.UP,
        "no files",
        1000.0,
    )
    assert harness.health("b") is Health.UNKNOWN
    harness.probe("b", "-")
    assert harness.health("b") is Health.DOWN
    assert harness.state.views()[0].members[endpoint_of("b")].error == ""


def test_an_error_of_a_check_ends_with_that_check() -> None:
    """Another check, none, an order that ends all probes, or its end in the file."""
    harness = Harness(web("abcd"))
    for letter in "abcd":
        harness.state.fail(key_of(letter), "no files", harness.now_s)
    harness.state.disable(key_of("a"), harness.now_s)
    harness.state.fail(key_of("a"), "no files", harness.now_s)
    harness.configure(web("ad"))
    errors = [state.error for state in harness.state.views()[0].members.values()]
    assert errors == ["", "no files", "", ""]
    harness.configure(web("ad", check=NO_CHECK))
    errors = [state.error for state in harness.state.views()[0].members.values()]
    assert errors == ["", "", "", ""]


def test_answers_of_a_frontend_that_leaves_keep_their_way() -> None:
    """Its connections run on as they were routed."""
    plain = replace(web("a"), return_path=ReturnPath.PLAIN)
    harness = Harness(plain, shop("b"))
    harness.configure(shop("b"))
    services = harness.state.services(harness.now_s)
    assert {s.is_leaving: s.is_policy_routed for s in services} == {True: False, False: True}
