"""Decision: a change of health on its way into the rules, and how it is logged.

Before the kernel holds it, a change is a plan and is logged as one; afterwards it is a fact.
"""

from __future__ import annotations

from dataclasses import dataclass

from paraglider.health.board import Change
from paraglider.health.service import Health


@dataclass(frozen=True, slots=True)
class Decision:
    """A change, the number of the write that brings it into the rules, and whether the log says
    that it is not there yet."""

    change: Change
    number: int
    is_promised: bool = False


def fact(change: Change) -> str:
    """Return the log line of a change that the rules hold."""
    verb = "stays" if change.before is change.after else "is"
    return f"{change.frontend}: {change.key[1]} {verb} {change.after}: {change.why}"


def promise(change: Change) -> str:
    """Return the log line of a change that the rules do not hold yet."""
    is_out = change.after in (Health.DOWN, Health.DRAINING, Health.DISABLED)
    where = "taken out of service" if is_out else "put into service"
    return f"{change.frontend}: {change.key[1]} will be {where} ({change.why})"
