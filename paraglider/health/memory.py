"""Memory: what the rules remember of the time before an agent started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Backend, Bind, Endpoint
from paraglider.health.rise_fall import Track
from paraglider.health.roster import Roster
from paraglider.health.service import Health, Pair, bound_deadline
from paraglider.health.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Who was down, who drained (with the deadline, in seconds of the monotonic clock) or was
    disabled, and who got new connections."""

    down: frozenset[Pair] = frozenset()
    draining: Mapping[Pair, float | None] = field(default_factory=dict)
    disabled: frozenset[Pair] = frozenset()
    serving: frozenset[Pair] = frozenset()

    def members(self) -> list[Pair]:
        """Return all that is remembered, always in the same order."""
        found = self.down | self.draining.keys() | self.disabled | self.serving
        return sorted(found, key=lambda key: (str(key[0]), str(key[1])))


NO_MEMORY = Memory()
# What backends saw is not remembered; who is leaving has no use for it.
_UNKNOWN = Source(SourceKind.AUTO)


def recall_rosters(
    memory: Memory, configured: Mapping[Bind, Mapping[Endpoint, Backend]], now_s: float
) -> dict[Bind, Roster]:
    """Return all that is remembered, for each bind, as if everybody had left.

    `configured` are those that are about to come back. A frontend that was served, but by none of
    its primaries, had no quorum.
    """
    rosters: dict[Bind, Roster] = {}
    for bind, backend in memory.members():
        roster = rosters.setdefault(bind, Roster(binds=(bind,), source=_UNKNOWN))
        is_back = backend in configured.get(bind, {})
        roster.standings[backend] = _recall(memory, (bind, backend), now_s, is_back=is_back)
    served: dict[Bind, set[Endpoint]] = {}
    for bind, backend in memory.serving:
        served.setdefault(bind, set()).add(backend)
    for bind in served.keys() & configured.keys():
        primaries = {e for e, backend in configured[bind].items() if not backend.is_backup}
        rosters[bind].is_quorate = not primaries.isdisjoint(served[bind])
    return rosters


def _recall(memory: Memory, key: Pair, now_s: float, *, is_back: bool) -> Standing:
    health = Health.UNKNOWN
    if key in memory.down:
        health = Health.DOWN
    elif key in memory.serving:
        health = Health.UP
    standing = Standing(now_s, track=Track(health))
    if key in memory.disabled:
        return replace(standing, order=Health.DISABLED)
    until_s = memory.draining.get(key)
    if until_s is not None:
        return standing.drain(bound_deadline(until_s, now_s), now_s)
    if key in memory.draining and is_back:
        return standing.drain(None, now_s)
    return standing  # without a deadline it was leaving then, too, and nobody ordered it
