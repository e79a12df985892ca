"""Check errors: what the log says of checks that cannot be made.

Once for each frontend and reason, however many backends it concerns, and once when all of them are
probed again. `status` has every backend; this is for those who read the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from paraglider.health.service import Pair

# The same error is logged once in this time, and no more than so many errors.
_AGAIN_S = 60.0
_MAX_LOGGED = 20

_Kind = tuple[str, str]


class CheckErrors:
    """Which backends cannot be probed now, as far as the log has to know."""

    def __init__(self, report: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._kinds: dict[Pair, _Kind] = {}  # frontend and reason of each backend with an error
        self._counts: dict[_Kind, int] = {}
        self._logged_s: dict[_Kind, float] = {}  # in the last minute
        self._open: set[_Kind] = set()  # logged, and the end of it not yet

    def begin(self, pair: Pair, frontend: str, reason: str) -> None:
        """A probe of `pair` could not be made."""
        kind = frontend, reason
        if self._kinds.get(pair) == kind:
            return
        self._forget(pair)
        self._kinds[pair] = kind
        self._counts[kind] = self._counts.get(kind, 0) + 1
        now_s = self._clock()
        recent = {known: at for known, at in self._logged_s.items() if now_s - at < _AGAIN_S}
        if self._counts[kind] == 1 and kind not in recent and len(recent) < _MAX_LOGGED:
            recent[kind] = now_s
            self._open.add(kind)
            self._report(f"{frontend}: cannot probe {pair[1]}: {reason}; health unchanged")
        self._logged_s = recent

    def end(self, pair: Pair) -> None:
        """A probe of `pair` was made."""
        kind = self._kinds.get(pair)
        if kind is not None and self._forget(pair):
            self._report(f"{kind[0]}: probing works again (was: {kind[1]})")

    def keep(self, pairs: Collection[Pair]) -> None:
        """Forget all that are not probed any more."""
        for pair in self._kinds.keys() - set(pairs):
            self._forget(pair)

    def _forget(self, pair: Pair) -> bool:
        """Return whether this was the last one of an error that was logged."""
        kind = self._kinds.pop(pair, None)
        if kind is None:
            return False
        self._counts[kind] -= 1
        if self._counts[kind]:
            return False
        del self._counts[kind]
        was_open = kind in self._open
        self._open.discard(kind)
        return was_open
