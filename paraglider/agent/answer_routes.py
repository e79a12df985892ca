"""Answer routes: policy rules of the host as they come and go, and ours kept beside them.

Owns when policy rules are read, and when those of ours are set right after a change by another
program. What they are follows from services and the host's rules (rules/policy_rules.py); who
writes services asks here for the latter.
"""

from __future__ import annotations

from collections.abc import Callable

from paraglider.agent.counters import Counters
from paraglider.agent.loop import Loop
from paraglider.kernel.reconcile import Reconciler
from paraglider.rules.policy_rules import Policy

# Between repairs: another program may delete ours again and again.
_REST_S = 0.5
# After a change, settings are read once more: wg-quick makes its rules, and then sets sysctls.
_SETTLE_S = 2.0


class AnswerRoutes:
    """Follows the policy rules of this host; `on_change` is called when the kernel tells of one."""

    def __init__(
        self,
        loop: Loop,
        reconciler: Reconciler,
        counters: Counters,
        *,
        report: Callable[[str], None],
        on_change: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._counters = counters
        self._report = report
        self._on_change = on_change
        self._feed: int | None = None
        self._rest_until_s = 0.0
        # When ours are to be looked after, and when all is read again; None while nothing changed.
        self._look_s: float | None = None
        self._reread_s: float | None = None

    @property
    def due_s(self) -> float | None:
        """When there is something to do, on the clock of the loop."""
        times = (self._look_s, self._reread_s)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def read(self) -> Policy:
        """Return the policy rules of this host, and hear of changes from now on."""
        if self._feed is None:
            self._feed = self._reconciler.policy.listen()
            if self._feed >= 0:
                self._loop.watch(self._feed, self._hear)
        return self._reconciler.policy.rules()

    def _hear(self) -> None:
        self._reconciler.policy.hear()
        self._reread_s = self._loop.clock() + _SETTLE_S
        self.look_again()
        self._on_change()

    def look_again(self) -> None:
        """Look after ours soon: what is wanted may be other rules now."""
        self._look_s = self._rest_until_s

    def is_due(self) -> bool:
        """Return whether it is time to look after ours."""
        return self._is_past(self.due_s)

    def _is_past(self, time_s: float | None) -> bool:
        return time_s is not None and time_s <= self._loop.clock()

    def repair(self) -> None:
        """Do what is due: set right what others have changed of ours, or read all again. Raises
        what keeps it from that."""
        if self._is_past(self._reread_s):
            self._reread_s = None
            self._reconciler.policy.hear()
            self._on_change()
        if not self._is_past(self._look_s):
            return
        repaired = self._reconciler.put_policy()
        self._look_s = None
        if not repaired:
            return
        rules = ", ".join(dict.fromkeys(repaired))
        self._rest_until_s = self._loop.clock() + _REST_S
        self._counters.repairs += 1
        self._counters.last_repair = rules
        self._report(f"another program changed {rules}: restored")

    def close(self) -> None:
        """Hear of nothing any more; the rules stay."""
        if self._feed is not None and self._feed >= 0:
            self._loop.forget(self._feed)
        self._feed = -1
        self._reconciler.policy.close()
