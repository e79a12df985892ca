"""Keep: put jumps of ours back that others have moved or removed.

Docker and firewalls put their own rules first when they start or reload. What else is changed about
our rules somebody may have meant, and the next start or SIGHUP decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from paraglider.errors import ParagliderError
from paraglider.kernel.apply import Look
from paraglider.kernel.changes import LEGACY_POLL_S, Changes
from paraglider.kernel.iptables import Variant

# How long to rest after a look, in lengths of that look: where others change rules all the time,
# reading all of them takes a tenth of a core at most. But nobody waits longer than with legacy.
_REST_PER_LOOK = 9
_MOST_REST_S = LEGACY_POLL_S

_IS_CHANGED = (
    "somebody has stopped what is balanced here, or changed rules of ours: they are left as they "
    "are until SIGHUP, or 'paraglider start'"
)


class Keeper:
    """Looks after the rules that were applied last."""

    def __init__(
        self,
        report: Callable[[str], None],
        *,
        listen: Callable[[Variant], Changes] = Changes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._listen = listen
        self._clock = clock
        self._changes: Changes | None = None
        self._put_back: Callable[[], Look]
        self._is_due = False
        self._rest_until_s = 0.0
        self._last_error = ""
        self._is_changed = False

    def take_over(self, variant: Variant, put_back: Callable[[], Look]) -> None:
        """Look after rules in `variant` from now on; `put_back` sets their jumps right."""
        self.close()
        self._is_changed = False
        self._changes = self._listen(variant)
        self._put_back = put_back

    def look(self) -> None:
        """Set the jumps right if somebody may have changed something since that was last done."""
        if self._changes is None:
            return
        self._is_due |= self._changes.seen()
        if self._is_due and self._clock() >= self._rest_until_s:
            self._set_right()

    def close(self) -> None:
        """Let go of what was looked after."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _set_right(self) -> None:
        began_s = self._clock()
        try:
            look = self._put_back()
        except (ParagliderError, OSError) as error:
            # It stays due: the next look tries again.
            if str(error) != self._last_error:
                self._report(f"the rules cannot be looked after: {error}")
            self._last_error = str(error)
            return
        ended_s = self._clock()
        self._rest_until_s = ended_s + min(_REST_PER_LOOK * (ended_s - began_s), _MOST_REST_S)
        self._is_due, self._last_error = False, ""
        if look.mended:
            chains = ", ".join(look.mended)
            self._report(f"somebody else changed {chains}: our jump there is back in its place")
        if look.is_changed and not self._is_changed:
            self._report(_IS_CHANGED)
        self._is_changed = look.is_changed
