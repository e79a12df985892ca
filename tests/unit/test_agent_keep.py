"""The keeper: it looks when something may have changed, and says what it did once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from paraglider.agent.keep import Keeper
from paraglider.errors import UnavailableError
from paraglider.kernel.changes import LEGACY_POLL_S, Changes
from paraglider.kernel.iptables import Variant


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

    def put_back() -> Sequence[str]:
        looks.append(1)
        return ["FORWARD"]

    keeper.take_over(Variant.LEGACY, put_back)
    for expected in (0, 1, 1):
        keeper.look()
        assert len(looks) == expected
    assert said == ["somebody else changed FORWARD: our jump there is back in its place"]


def test_it_says_nothing_where_nothing_was_to_do() -> None:
    """Its own changes are changes, too."""
    keeper, said = keeper_of(_Feed(True))
    keeper.take_over(Variant.NFT, list)
    keeper.look()
    assert said == []


def test_what_keeps_it_from_looking_is_said_once_and_tried_again() -> None:
    """Also where no other change comes; and said again when it was well in between."""
    answers: list[Exception | None] = [UnavailableError("x")] * 2 + [None, UnavailableError("x")]

    def put_back() -> Sequence[str]:
        if error := answers.pop(0):
            raise error
        return ()

    keeper, said = keeper_of(_Feed(True, False, False, True))
    keeper.take_over(Variant.NFT, put_back)
    for expected in (1, 1, 1, 2):
        keeper.look()
        assert said == ["the rules cannot be looked after: x"] * expected
    assert answers == []


def test_it_rests_as_its_looks_are_long() -> None:
    """A look of 1 s, and the next one 20 s after its end: what changed meanwhile is not lost."""
    now = [0.0]
    looks: list[float] = []

    def put_back() -> Sequence[str]:
        looks.append(now[0])
        now[0] += 1
        return ()

    keeper, _ = keeper_of(_Feed(True, True, False, False), clock=lambda: now[0])
    keeper.take_over(Variant.NFT, put_back)
    for time_s in (0.0, 10.0, 20.9, 21.0):
        now[0] = time_s
        keeper.look()
    assert looks == [0.0, 21.0]


def test_it_lets_go_of_what_it_looked_after() -> None:
    """When other rules come, and at the end."""
    feed = _Feed()
    keeper, _ = keeper_of(feed)
    keeper.take_over(Variant.NFT, list)
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
