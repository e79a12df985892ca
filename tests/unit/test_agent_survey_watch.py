"""The survey watch: looks again without being asked, and never while a look is under way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from paraglider.agent.loop import Loop
from paraglider.agent.survey_watch import LOOK_S, SurveyWatch
from paraglider.kernel.finding import Finding

_DROP = Finding("forward-drop", "the chain x drops connections", "web")


class Host:
    """What a survey finds, and a clock, that a test turns."""

    def __init__(self) -> None:
        self.now_s, self.looks = 100.0, 0
        self.found: Sequence[Finding] = ()
        self.said: list[str] = []
        self.loop = Loop(clock=lambda: self.now_s)
        self.watch = SurveyWatch(self.loop, lambda: self._survey, self.said.append)

    def _survey(self) -> Sequence[Finding]:
        self.looks += 1
        return self.found

    def look(self) -> float:
        """Wait for the next look and its end; return how long the wait was."""
        next_s = self.watch.next_s()
        assert next_s is not None
        waited_s, self.now_s = next_s - self.now_s, next_s
        self.watch.look()
        assert self.watch.next_s() is None  # one at a time
        while self.watch.next_s() is None:
            self.loop.wait(self.now_s + 10)
        return waited_s


@pytest.fixture
def host() -> Iterator[Host]:
    """A host whose watch listens."""
    made = Host()
    made.watch.listen()
    yield made
    made.watch.close()
    made.loop.close()


def test_it_looks_again_without_being_asked(host: Host) -> None:
    """The kernel reports no change of a sysctl."""
    host.look()
    host.found = [_DROP]
    assert host.look() == LOOK_S
    host.found = []
    assert host.look() == LOOK_S
    assert host.said == [f"warning: {_DROP}", "resolved: web: the chain x drops connections"]


def test_what_was_changed_is_looked_at_sooner(host: Host) -> None:
    """And the next look that nothing asked for is a whole interval later."""
    host.look()
    host.watch.want()
    assert host.look() < LOOK_S
    assert host.look() == LOOK_S
    assert host.looks == 3
