"""Tries: what fails is tried again, later each time, and told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from paraglider.agent.counters import Counters
from paraglider.errors import ParagliderError, explain

_FIRST_S, _MOST_S = 0.5, 30.0
# Of other words that a failure may have while it lasts.
_MOST_TOLD = 5


@dataclass(slots=True)
class Backoff:
    """When to try again: half a second after the first failure, twice as long after each further
    one, 30 s at most. It has no clock: `now_s` is given."""

    failures: int = 0
    since_s: float = 0.0
    next_s: float = 0.0
    _last_s: float = 0.0

    def fail(self, now_s: float) -> None:
        """A try has just failed."""
        if not self.failures:
            self.since_s = now_s
        self.failures += 1
        self._last_s = now_s
        self.next_s = now_s + min(_FIRST_S * 2.0 ** min(self.failures - 1, 10), _MOST_S)

    def hasten(self) -> None:
        """Something changed, so that a try may work: it need not wait longer than after the first
        failure. Changes without an end do not make it a loop."""
        self.next_s = min(self.next_s, self._last_s + _FIRST_S)

    def told_end(self, now_s: float) -> str:
        """Return the words for a try that has worked after failures."""
        tries = f"{self.failures} failed tr{'ies' if self.failures > 1 else 'y'}"
        return f"works again after {tries} in {now_s - self.since_s:.0f} s"

    def is_due(self, now_s: float) -> bool:
        """Return whether it may be tried."""
        return now_s >= self.next_s


@dataclass(slots=True)
class _Failing:
    backoff: Backoff = field(default_factory=Backoff)
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.texts[-1]


class Tries:
    """Several kinds of action, each known by the words that say what cannot be done."""

    def __init__(
        self, *, report: Callable[[str], None], counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._report = report
        self._counters = counters
        self._clock = clock
        self._failing: dict[str, _Failing] = {}

    def attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Do `action`; return whether it worked. A failure is logged when it begins, and counted
        when it ends."""
        try:
            action()
        except (ParagliderError, OSError) as error:
            self._note_failure(what, error)
            return False
        self._note_success(what)
        return True

    def may(self, what: str) -> bool:
        """Return whether it is time for what may have failed before."""
        return self._clock() >= self.next_s(what)

    def next_s(self, what: str) -> float:
        """Return when `what` may be tried, on the clock."""
        failing = self._failing.get(what)
        return failing.backoff.next_s if failing else 0.0

    def failing_since_s(self, what: str) -> float | None:
        """Return since when it has failed, on the clock; None where it has not."""
        failing = self._failing.get(what)
        return failing.backoff.since_s if failing else None

    def why(self, what: str) -> str:
        """Return the words of its last failure, '' where it does not fail."""
        failing = self._failing.get(what)
        return failing.text if failing else ""

    def try_now(self, what: str) -> None:
        """Let it be tried at once."""
        if failing := self._failing.get(what):
            failing.backoff.next_s = 0.0

    def hasten(self, what: str) -> None:
        """Something changed: try soon."""
        if failing := self._failing.get(what):
            failing.backoff.hasten()

    def _note_failure(self, what: str, error: Exception) -> None:
        self._counters.sync_failures += 1
        failing = self._failing.setdefault(what, _Failing())
        failing.backoff.fail(self._clock())
        text = f"{what}: {explain(error)}"
        is_new = text not in failing.texts
        failing.texts = [*(t for t in failing.texts if t != text), text]
        if is_new and len(failing.texts) <= _MOST_TOLD:
            self._report(f"{text}\ntrying again")
        del failing.texts[:-_MOST_TOLD]
        self._counters.trouble = text

    def _note_success(self, what: str) -> None:
        failing = self._failing.pop(what, None)
        if failing is None:
            return
        self._report(f"{what}: {failing.backoff.told_end(self._clock())}")
        self._counters.trouble = next((f.text for f in self._failing.values()), "")
