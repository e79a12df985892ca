"""Tries: later each time, told once, counted at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from paraglider.agent.counters import Counters
from paraglider.agent.tries import Backoff, Tries
from paraglider.errors import UnavailableError


def test_tries_come_later_each_time_and_not_later_than_half_a_minute() -> None:
    """From half a second on."""
    backoff, now_s, waits = Backoff(), 100.0, []
    for _ in range(9):
        backoff.fail(now_s)
        waits.append(backoff.next_s - now_s)
        now_s = backoff.next_s
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert backoff.since_s == 100.0


def test_a_change_makes_it_try_soon() -> None:
    """Half a second after the last try at the soonest, however many changes there are."""
    backoff = Backoff()
    for now_s in (10.0, 10.5, 11.5, 13.5):
        backoff.fail(now_s)
    assert not backoff.is_due(14.0)
    backoff.hasten()
    assert backoff.is_due(14.0)
    assert not backoff.is_due(13.9)


def test_a_thousand_failures_are_no_overflow() -> None:
    """It waits half a minute, and no longer."""
    backoff = Backoff()
    for _ in range(2000):
        backoff.fail(1.0)
    assert backoff.next_s == 31.0


@dataclass
class _World:
    now_s: float = 0.0
    said: list[str] = field(default_factory=list)
    counters: Counters = field(default_factory=lambda: Counters(started_s=0.0))

    def tries(self) -> Tries:
        return Tries(report=self.said.append, counters=self.counters, clock=lambda: self.now_s)


def _fail_with(text: str) -> None:
    raise UnavailableError(text)


def test_a_failure_is_told_once_and_counted_when_it_ends() -> None:
    """However often it fails; what it is about is in the record meanwhile."""
    dependencies = _World()
    tries = dependencies.tries()
    for _ in range(12):
        assert not tries.attempt("cannot count", lambda: _fail_with("no socket"))
        dependencies.now_s += 3.0
    assert dependencies.said == ["cannot count: no socket\ntrying again"]
    assert (dependencies.counters.trouble, dependencies.counters.sync_failures) == (
        "cannot count: no socket",
        12,
    )
    assert (tries.failing_since_s("cannot count"), tries.why("cannot count")) == (
        0.0,
        "cannot count: no socket",
    )
    assert tries.attempt("cannot count", lambda: None)
    assert dependencies.said[1:] == ["cannot count: works again after 12 failed tries in 36 s"]
    assert (dependencies.counters.trouble, tries.failing_since_s("cannot count")) == ("", None)


def test_another_cause_is_told_too_but_not_each_time_it_changes() -> None:
    """Two that take turns, and one with a number in it that is always another."""
    dependencies = _World()
    tries = dependencies.tries()
    for turn in range(6):
        tries.attempt("cannot cut", partial(_fail_with, "ab"[turn % 2]))
    assert len(dependencies.said) == 2
    for turn in range(100):
        tries.attempt("cannot cut", partial(_fail_with, str(turn)))
    assert len(dependencies.said) == 5


def test_what_works_says_nothing() -> None:
    """And may be done at once."""
    dependencies = _World()
    tries = dependencies.tries()
    assert tries.attempt("cannot cut", lambda: None)
    assert tries.may("cannot cut")
    assert dependencies.said == []
