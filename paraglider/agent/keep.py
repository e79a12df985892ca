"""Keep: put jumps of ours back that others have moved or removed.

Docker and firewalls put their own rules first when they start or reload. What else is changed about
our rules somebody may have meant, and the next start or SIGHUP decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from paraglider.errors import ParagliderError
from paraglider.kernel.changes import Changes
from paraglider.kernel.iptables import Variant

PutBack = Callable[[], Sequence[str]]

# How long to rest after a look, in lengths of that look: where others change rules all the time,
# reading all of them takes 5 % of a core at most.
_REST_PER_LOOK = 20


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
        self._put_back: PutBack = tuple
        self._is_due = False
        self._rest_until_s = 0.0
        self._last_error = ""

    def take_over(self, variant: Variant, put_back: PutBack) -> None:
        """Look after rules in `variant` from now on; `put_back` sets their jumps right, and returns
        the chains in which that was needed."""
        self.close()
        self._changes = self._listen(variant)
        self._put_back = put_back

    def look(self) -> None:
        """Set the jumps right if somebody may have changed something since that was last done."""
        if self._changes is None:
            return
        self._is_due |= self._changes.seen()
        began_s = self._clock()
        if not self._is_due or began_s < self._rest_until_s:
            return
        try:
            self._set_right()
        finally:
            ended_s = self._clock()
            self._rest_until_s = ended_s + _REST_PER_LOOK * (ended_s - began_s)

    def close(self) -> None:
        """Let go of what was looked after."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _set_right(self) -> None:
        try:
            chains = self._put_back()
        except ParagliderError as error:
            # It stays due: the next look tries again.
            if str(error) != self._last_error:
                self._report(f"the rules cannot be looked after: {error}")
            self._last_error = str(error)
            return
        self._is_due, self._last_error = False, ""
        if chains:
            self._report(
                f"somebody else changed {', '.join(chains)}: our jump there is back in its place"
            )
