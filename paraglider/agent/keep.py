"""Keep: put jumps of ours back that others have moved or removed.

Docker and firewalls put their own rules first when they start or reload. What else is changed about
our rules somebody may have meant, and the next start or SIGHUP decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paraglider.errors import ParagliderError
from paraglider.kernel.changes import Changes
from paraglider.kernel.iptables import Variant

PutBack = Callable[[], Sequence[str]]


class Keeper:
    """Looks after the rules that were applied last."""

    def __init__(
        self,
        report: Callable[[str], None],
        *,
        listen: Callable[[Variant], Changes] = Changes,
    ) -> None:
        self._report = report
        self._listen = listen
        self._changes: Changes | None = None
        self._put_back: PutBack = tuple
        self._last_error = ""

    def take_over(self, variant: Variant, put_back: PutBack) -> None:
        """Look after rules in `variant` from now on; `put_back` sets their jumps right, and returns
        the chains in which that was needed."""
        self.close()
        self._changes = self._listen(variant)
        self._put_back = put_back

    def look(self) -> None:
        """Set the jumps right if somebody may have changed something since the last look."""
        if self._changes is None or not self._changes.seen():
            return
        try:
            chains = self._put_back()
        except ParagliderError as error:
            if str(error) != self._last_error:
                self._report(f"the rules cannot be looked after: {error}")
            self._last_error = str(error)
            return
        self._last_error = ""
        if chains:
            self._report(
                f"somebody else changed {', '.join(chains)}: our jump there is back in its place"
            )

    def close(self) -> None:
        """Let go of what was looked after."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None
