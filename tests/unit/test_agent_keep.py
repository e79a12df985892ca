"""The keeper: it looks when something may have changed, and says what it did once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paraglider.agent.keep import Keeper
from paraglider.errors import UnavailableError
from paraglider.kernel.apply import Look
from paraglider.kernel.changes import LEGACY_POLL_S, Changes
from paraglider.kernel.iptables import Variant

NOTHING = Look((), is_changed=False)


class _Feed(Changes):
    """Changes that a test makes up."""

    def __init__(self, *seen: bool) -> None:
        super().__init__(Variant.LEGACY)
        self.answers = list(seen)
        self.is_closed = False

    def seen(self) -> bool:
        return self.answers.pop(0)

    def close(self) -> None:
        self.is_closed = True


def keeper_of(
    feed: Changes, *, clock: Callable[[], float] = lambda: 0.0
) -> tuple[Keeper, list[str]]:
    """Return a keeper that listens to a feed, and what it reports."""
    said: list[str] = []
    return Keeper(said.append, listen=lambda _: feed, clock=clock), said


def test_it_looks_only_where_something_may_have_changed() -> None:
    """Reading all rules of a host costs something."""
    looks: list[int] = []
    keeper, said = keeper_of(_Feed(False, True, False))

    def put_back() -> Look:
        looks.append(1)
        return Look(["FORWARD"], is_changed=False)

    keeper.take_over(Variant.LEGACY, put_back)
    for expected in (0, 1, 1):
        keeper.look()
        assert len(looks) == expected
    assert said == ["somebody else changed FORWARD: our jump there is back in its place"]


def test_it_says_nothing_where_nothing_was_to_do() -> None:
    """Its own changes are changes, too."""
    keeper, said = keeper_of(_Feed(True))
    keeper.take_over(Variant.NFT, lambda: NOTHING)
    keeper.look()
    assert said == []


def test_what_keeps_it_from_looking_is_said_once_and_tried_again() -> None:
    """Also where no other change comes; and said again when it was well in between."""
    answers: list[Exception | None] = [UnavailableError("x")] * 2 + [None, UnavailableError("x")]

    def put_back() -> Look:
        if error := answers.pop(0):
            raise error
        return NOTHING

    keeper, said = keeper_of(_Feed(True, False, False, True))
    keeper.take_over(Variant.NFT, put_back)
    for expected in (1, 1, 1, 2):
        keeper.look()
        assert said == ["the rules cannot be looked after: x"] * expected
    assert answers == []


@pytest.mark.parametrize(("length_s", "next_s"), [(0.1, 1.0), (2.0, 2.0 + LEGACY_POLL_S)])
def test_it_rests_as_its_looks_are_long(length_s: float, next_s: float) -> None:
    """Nine times as long as a look, and 5 s at most: what changed meanwhile is not lost."""
    now = [0.0]
    looks: list[float] = []

    def put_back() -> Look:
        looks.append(now[0])
        now[0] += length_s
        return NOTHING

    keeper, _ = keeper_of(_Feed(True, True, False, False), clock=lambda: now[0])
    keeper.take_over(Variant.NFT, put_back)
    for time_s in (0.0, next_s / 2, next_s - 0.01, next_s + 0.01):
        now[0] = max(now[0], time_s)
        keeper.look()
    assert looks == [0.0, next_s + 0.01]


def test_a_look_that_failed_is_not_rested_from() -> None:
    """However long it waited for a lock, it is tried again at once."""
    now = [0.0]
    looks: list[float] = []

    def put_back() -> Look:
        looks.append(now[0])
        now[0] += 1
        raise OSError(24, "too many open files")

    keeper, said = keeper_of(_Feed(True, False), clock=lambda: now[0])
    keeper.take_over(Variant.NFT, put_back)
    keeper.look()
    keeper.look()
    assert looks == [0.0, 1.0]
    assert len(said) == 1


def test_what_somebody_meant_is_said_once() -> None:
    """Until it is as it was in between, or other rules are applied."""
    changed = Look((), is_changed=True)
    looks = [changed, changed, NOTHING, changed]
    keeper, said = keeper_of(_Feed(True, True, True, True))
    keeper.take_over(Variant.NFT, lambda: looks.pop(0))
    for expected in (1, 1, 1, 2):
        keeper.look()
        assert len(said) == expected
    assert "SIGHUP, or 'paraglider start'" in said[0]


def test_it_lets_go_of_what_it_looked_after() -> None:
    """When other rules come, and at the end."""
    feed = _Feed()
    keeper, _ = keeper_of(feed)
    keeper.take_over(Variant.NFT, lambda: NOTHING)
    keeper.close()
    assert feed.is_closed
    keeper.look()


@pytest.mark.parametrize(
    ("waited_s", "expected"), [(LEGACY_POLL_S - 1, False), (LEGACY_POLL_S, True)]
)
def test_where_nobody_tells_there_may_be_a_change_every_few_seconds(
    waited_s: float, expected: bool
) -> None:
    """The kernel tells nobody of a change of the legacy tables."""
    now = [100.0]
    changes = Changes(Variant.LEGACY, clock=lambda: now[0])
    now[0] += waited_s
    assert changes.seen() is expected
    assert changes.seen() is False
