"""The board and probes: what they find, who serves because of it, and what can be shown of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paraglider.config.model import ReturnPath
from paraglider.health.board import Change
from paraglider.health.service import Health
from tests.unit.health_boards import (
    NO_CHECK,
    OTHER_BIND,
    STARTS_DOWN,
    Boarded,
    endpoint_of,
    key_of,
    shop,
    web,
)


def test_new_backends_serve_until_they_are_found_to_be_down() -> None:
    """Whoever starts a balancer wants to be served at once."""
    assert Boarded(web("abc")).serving() == "abc"


def test_new_backends_do_not_serve_where_the_file_says_so() -> None:
    """Some would rather wait until a backend has shown that it can."""
    boarded = Boarded(web("ab", check=STARTS_DOWN))
    boarded.probe("b", "++")
    assert boarded.serving() == "b"


def test_a_backend_that_went_down_does_not_serve() -> None:
    """The others take what it got."""
    boarded = Boarded(web("abc"))
    boarded.probe("b", "---")
    assert boarded.serving() == "ac"


def test_a_backend_that_came_up_serves_again() -> None:
    """In its place."""
    boarded = Boarded(web("abc"))
    boarded.probe("b", "---++")
    assert boarded.serving() == "abc"


def test_a_change_says_what_was_found() -> None:
    """It is what the log tells."""
    boarded = Boarded(web("a"))
    why = "3 bad probes in a row, the last: refused"
    expected = Change(key_of("a"), "web", Health.UNKNOWN, Health.DOWN, why)
    assert boarded.probe("a", "+---") == [expected]


def test_a_change_by_a_single_probe_says_what_that_found() -> None:
    """Those before it were of the other kind."""
    boarded = Boarded(web("a", check=replace(STARTS_DOWN, fall=1)))
    assert [change.why for change in boarded.probe("a", "+-")] == ["refused"]


def test_what_is_known_of_a_member_can_be_shown() -> None:
    """What its last probe said, how many in a row, and since when it is what it is."""
    boarded = Boarded(web("a"))
    boarded.now_s = 1010
    boarded.probe("a", "++")
    boarded.now_s = 1020
    boarded.probe("a", "--")
    standing = boarded.board.views()[0].members[endpoint_of("a")]
    found = (standing.health, standing.track.streak, standing.told, standing.since_s)
    assert found == (Health.UP, -2, "refused", 1010)


def test_a_backend_without_a_check_is_up() -> None:
    """Nobody looks, so nobody finds it down."""
    assert Boarded(web("a", check=NO_CHECK)).health("a") is Health.UP


@pytest.mark.parametrize("letter", ["x", "c"])
def test_results_of_strangers_change_nothing(letter: str) -> None:
    """A probe may end after its backend was taken from the file."""
    boarded = Boarded(web("abc"))
    boarded.configure(web("ab"))
    assert boarded.probe(letter, "---") == []


def test_a_frontend_to_which_nothing_happens_is_the_same_object() -> None:
    """Probes that find what was known, and what happens to others, cost nothing further on."""
    boarded = Boarded(web("ab"), shop("ab"))
    before = boarded.service(), boarded.service(OTHER_BIND)
    boarded.probe("a", "+-+")
    assert (boarded.service(), boarded.service(OTHER_BIND)) == before
    assert boarded.service(OTHER_BIND) is before[1]
    boarded.probe("a", "++")
    known = boarded.service()
    boarded.probe("a", "+++--")
    assert boarded.service() is known
    boarded.probe("a", "-")
    assert boarded.service() is not known
    assert boarded.service(OTHER_BIND) is before[1]


def test_a_probe_that_could_not_be_made_changes_no_health() -> None:
    """It is kept with the time since when, until one is made; neither good nor bad."""
    boarded = Boarded(web("ab"))
    boarded.probe("a", "++")
    boarded.probe("b", "--")
    for _ in range(5):
        boarded.board.fail(key_of("a"), "no files", boarded.now_s)
        boarded.board.fail(key_of("b"), "no files", boarded.now_s)
        boarded.now_s += 1.0
    standing = boarded.board.views()[0].members[endpoint_of("a")]
    assert (standing.health, standing.error, standing.error_since_s) == (
        Health.UP,
        "no files",
        1000.0,
    )
    assert boarded.health("b") is Health.UNKNOWN
    boarded.probe("b", "-")
    assert boarded.health("b") is Health.DOWN
    assert boarded.board.views()[0].members[endpoint_of("b")].error == ""


def test_an_error_of_a_check_ends_with_that_check() -> None:
    """Another check, none, an order that ends all probes, or its end in the file."""
    boarded = Boarded(web("abcd"))
    for letter in "abcd":
        boarded.board.fail(key_of(letter), "no files", boarded.now_s)
    boarded.board.disable(key_of("a"), boarded.now_s)
    boarded.board.fail(key_of("a"), "no files", boarded.now_s)
    boarded.configure(web("ad"))
    errors = [standing.error for standing in boarded.board.views()[0].members.values()]
    assert errors == ["", "no files", "", ""]
    boarded.configure(web("ad", check=NO_CHECK))
    errors = [standing.error for standing in boarded.board.views()[0].members.values()]
    assert errors == ["", "", "", ""]


def test_answers_of_a_frontend_that_leaves_keep_their_way() -> None:
    """Its connections run on as they were routed."""
    plain = replace(web("a"), return_path=ReturnPath.PLAIN)
    boarded = Boarded(plain, shop("b"))
    boarded.configure(shop("b"))
    services = boarded.board.services(boarded.now_s)
    assert {s.is_leaving: s.is_policy_routed for s in services} == {True: False, False: True}
