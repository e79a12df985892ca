"""Decision: a change of health on its way into the rules, and how it is logged.

Before the kernel holds it, a change is a plan and is logged as one; afterwards it is a fact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from paraglider.health.health_state import Change
from paraglider.health.service import Health


@dataclass(frozen=True, slots=True)
class Decision:
    """A change, the number of the write that brings it into the rules, and whether the log says
    that it is not there yet."""

    change: Change
    number: int
    is_promised: bool = False


class Decisions:
    """The changes that are on their way into the rules, in the order of their numbers. However many
    there are, each call takes as many steps as there are decisions."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._open: list[Decision] = []

    def add(self, change: Change, number: int) -> None:
        """A change was decided, which write `number` brings into the rules."""
        self._open.append(Decision(change, number))

    def settle(self, written: int) -> None:
        """The rules hold everything up to write `written`: log it as facts."""
        settled = [it for it in self._open if it.number <= written]
        self._open = [it for it in self._open if it.number > written]
        for it in settled:
            self._report(fact(it.change))

    def promise(self, why: str) -> None:
        """All that is open was tried in vain, and `why`: log it once."""
        for it in self._open:
            if not it.is_promised:
                self._report(f"{promise(it.change)}; not done yet: {why}")
        self._open = [replace(it, is_promised=True) for it in self._open]

    def promised(self, written: int) -> list[str]:
        """Return what the rules do not hold after write `written`."""
        return [promise(it.change) for it in self._open if it.number > written]


def fact(change: Change) -> str:
    """Return the log line of a change that the rules hold."""
    verb = "stays" if change.before is change.after else "is"
    return f"{change.frontend}: {change.key[1]} {verb} {change.after}: {change.why}"


def promise(change: Change) -> str:
    """Return the log line of a change that the rules do not hold yet."""
    is_out = change.after in (Health.DOWN, Health.DRAINING, Health.DISABLED)
    where = "taken out of service" if is_out else "put into service"
    return f"{change.frontend}: {change.key[1]} will be {where} ({change.why})"
