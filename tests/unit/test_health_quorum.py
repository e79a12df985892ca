"""The board and quorums: when backups serve, and who does where nobody can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paraglider.config.model import NoBackend, Quorum
from tests.unit.health_states import Harness, key_of, web

SERVE_ALL = NoBackend.SERVE_ALL


def test_backups_serve_while_no_other_can() -> None:
    """All of them together."""
    harness = Harness(web("ab", "yz"))
    assert harness.serving() == "ab"
    harness.probe("a", "---")
    harness.probe("b", "---")
    assert harness.serving() == "yz"


def test_nobody_serves_where_all_are_down() -> None:
    """The rules then refuse."""
    harness = Harness(web("a", "z"))
    harness.probe("a", "---")
    harness.probe("z", "---")
    assert harness.serving() == ""


def test_all_serve_where_all_are_down_and_the_file_wants_that() -> None:
    """A check that is wrong then costs nothing; but whoever is out by order stays out."""
    harness = Harness(replace(web("abc", "z"), no_backend=SERVE_ALL))
    for letter in "abz":
        harness.probe(letter, "---")
    harness.state.disable(key_of("c"), 1000)
    assert harness.serving() == "ab"


def test_backups_serve_where_no_other_may() -> None:
    """They are the last that there are, even down."""
    harness = Harness(replace(web("a", "yz"), no_backend=SERVE_ALL))
    harness.state.drain(key_of("a"), None, 1000)
    for letter in "yz":
        harness.probe(letter, "---")
    assert harness.serving() == "yz"


@pytest.mark.parametrize(
    ("downs", "ups", "serving"),
    [
        ("a", "", "bcde"),
        ("ab", "", "cde"),
        ("abc", "", "de"),  # below live, but not below live - hysteresis
        ("abcd", "", "z"),
        ("abcd", "a", "z"),
        ("abcd", "ab", "z"),  # live, but not live + hysteresis
        ("abcd", "abc", "abce"),
    ],
)
def test_a_quorum_is_lost_late_and_reached_again_late(downs: str, ups: str, serving: str) -> None:
    """So that one backend that comes and goes does not move all connections each time."""
    harness = Harness(replace(web("abcde", "z"), quorum=Quorum(live=3, hysteresis=1)))
    for letter in downs:
        harness.probe(letter, "---")
    for letter in ups:
        harness.probe(letter, "++")
    assert harness.serving() == serving


def test_too_few_are_not_used() -> None:
    """One that would get the connections of three would not last."""
    harness = Harness(replace(web("abc"), quorum=Quorum(live=2)))
    harness.probe("a", "---")
    harness.probe("b", "---")
    assert harness.serving() == ""


def test_nobody_is_no_quorum() -> None:
    """Where the hysteresis is as large as the quorum, too."""
    harness = Harness(replace(web("a", "z"), quorum=Quorum(live=1, hysteresis=1)))
    harness.probe("a", "---")
    assert harness.serving() == "z"


def test_a_quorum_can_be_reached_by_all_that_there_are() -> None:
    """Also where live + hysteresis is more than that."""
    harness = Harness(replace(web("ab", "z"), quorum=Quorum(live=2, hysteresis=1)))
    for letter in "ab":
        harness.probe(letter, "---")
    for letter in "ab":
        harness.probe(letter, "++")
    assert harness.serving() == "ab"
