"""Reconcile: keep the rules of one variant as they are wanted, while others change theirs.

Owns what was applied last and whether somebody may have touched it. Three ways to the kernel:
everything from whatever state (`take_over`), the chains that a decision changes (`update`), and
what others took away or changed (`look`). Nothing here decides what the rules are, or when to try
again. The caller holds the rules lock for as long as it reconciles.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from paraglider.config.model import Family
from paraglider.errors import DidNotEndError, ParagliderError, UnavailableError
from paraglider.kernel.anchor_revival import revive_anchors
from paraglider.kernel.apply import Report, Step, apply_states, plan_step, put_anchor
from paraglider.kernel.changes import Changes
from paraglider.kernel.client_sets import names_of, put_client_sets, remove_client_sets
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Iptables, Variant, find_iptables
from paraglider.kernel.nat_anchor import TABLE, find_anchor
from paraglider.kernel.policy_routing import PolicyWatch, put_policy, remove_policy
from paraglider.kernel.removal import remove_anchor
from paraglider.rules.diff import differing_chains
from paraglider.rules.restore import check_restore, differing, plan_restore
from paraglider.rules.ruleset import TableName
from paraglider.rules.state import NOTHING, State, TableState

# Who looks after rules can look again, and must not be late for what comes meanwhile.
_LOCK_WAIT_S = 1
# How long to rest after a look, in lengths of that look: where others change rules all the time,
# reading all of them takes a tenth of a core, unless that would leave ours away for too long.
_REST_PER_LOOK = 9
_MOST_REST_S = 0.5
# The tables whose counters are somebody's totals: connections, and those that were refused.
_COUNTED = (TableName.NAT, TableName.FILTER)


@dataclass(frozen=True, slots=True)
class Repair:
    """What was not as applied, and is again: ``TABLE CHAIN`` for each chain; `by` names the
    programs that changed rules since the look before, where the kernel tells."""

    chains: Sequence[str]
    by: Sequence[str]
    took_s: float


class Reconciler:
    """Keeps the kernel's rules of one variant."""

    def __init__(
        self,
        *,
        host: Host,
        report: Report,
        listen: Callable[[Variant], Changes] = Changes,
        clock: Callable[[], float] = time.monotonic,
        policy: PolicyWatch | None = None,
    ) -> None:
        # The policy rules of this host, ours among them.
        self.policy = policy or PolicyWatch(report=report)
        self._host = host
        self._report = report
        self._listen = listen
        self._clock = clock
        self._variant: Variant | None = None
        self._changes: Changes | None = None
        self._wanted: Mapping[Family, State] = {}
        self._held: dict[Family, State] = {}
        # Names of sets that there may be.
        self._client_sets: frozenset[str] = frozenset()
        self._by: frozenset[str] = frozenset()
        self._revived: set[Family] = set()
        self._is_anchored = False
        self._is_due = False
        self._rest_until_s = 0.0

    def fileno(self) -> int:
        """Return the file that is readable when the kernel tells of a change, -1 where it never
        does."""
        return -1 if self._changes is None else self._changes.fileno()

    def next_s(self) -> float | None:
        """Return when `look` has something to do unless the kernel tells before, on the clock."""
        if self._is_due:
            return self._rest_until_s
        return None if self._changes is None else self._changes.next_s()

    def take_over(self, wanted: Mapping[Family, State], variant: Variant) -> bool:
        """Make the kernel hold exactly what is `wanted`, whatever it holds now; return whether
        anything had to be changed. Raises as `apply_states` does, with the rules as they were."""
        changes = self._changes
        if changes is None or variant is not self._variant:
            # Before the rules are read: what is changed from then on is heard of.
            changes = self._listen(variant)
        try:
            is_changed = apply_states(wanted, variant=variant, host=self._host, report=self._report)
        except BaseException:
            self._is_due = True
            if changes is not self._changes:
                changes.close()
            raise
        if changes is not self._changes:
            self.close()
            self._variant, self._changes = variant, changes
        self._wanted = dict(wanted)
        self._client_sets = names_of(wanted)
        self._held = {}
        self._is_anchored = all(
            find_anchor(family, self._host.run).nft_path for family in self._wanted
        )
        self._is_due, self._rest_until_s = True, 0.0
        return is_changed

    def update(self, wanted: Mapping[Family, State]) -> bool:
        """Write the chains that differ from what was applied last; return whether any did.

        Where others have changed rules meanwhile, or a family comes or goes, does what `take_over`
        does. LockHeldError where another program keeps the lock of iptables-legacy: nothing is
        changed then.
        """
        if self._variant is None or self._changes is None:
            raise RuntimeError("nothing was taken over")
        names = names_of(wanted)
        if wanted == self._wanted and names == self._client_sets:
            return False
        self._note_changes()
        if self._is_due or set(wanted) != set(self._held):
            return self._take_over_or_write_blindly(wanted, self._variant)
        self._client_sets |= names  # until it has come to its end
        if not names <= names_of(self._wanted):  # sets that our rules refer to cannot be destroyed
            put_client_sets(wanted, self._host)
        with contextlib.suppress(ParagliderError):  # `put_policy` finds the same
            put_policy(wanted)
        try:
            is_known = all(self._write(family, state) for family, state in wanted.items())
        except DidNotEndError:
            return self._write_blindly(wanted)
        if not is_known:
            return self.take_over(wanted, self._variant)
        self._wanted = dict(wanted)
        if names != self._client_sets:
            self._remove_other_sets(names)
        return True

    def _remove_other_sets(self, kept: frozenset[str]) -> None:
        """Destroy the sets that no rule of ours uses; what is left is destroyed next time."""
        try:
            remove_client_sets(host=self._host, kept=kept, report=self._report)
        except DidNotEndError as error:
            self._report(str(error))
        else:
            self._client_sets = kept

    def _take_over_or_write_blindly(self, wanted: Mapping[Family, State], variant: Variant) -> bool:
        try:
            return self.take_over(wanted, variant)
        except DidNotEndError:
            if set(wanted) != set(self._wanted):
                raise
            return self._write_blindly(wanted)

    def _write_blindly(self, wanted: Mapping[Family, State]) -> bool:
        """Write what differs from what was applied last, where the kernel's rules cannot be read: a
        backend that is down is out of the rules all the same. What others changed stays due."""
        self._is_due = True
        for family, state in wanted.items():
            before = self._held.get(family, self._wanted[family])
            step = plan_step(self._tools(family), before, state)
            if step.text:
                if not names_of({family: state}) <= names_of(self._wanted):
                    put_client_sets({family: state}, self._host)
                step.tools.apply_restore(step.text)
            self._held[family] = _as_written(before, state)
            self._wanted = {**self._wanted, family: state}
        return True

    def _write(self, family: Family, wanted: State) -> bool:
        """Write what differs in one family; return False, and write nothing, where chains of the
        kernel's that it is about are not as they were applied."""
        held, tools = self._held[family], self._tools(family)
        if wanted.tables == held.tables:
            return True
        before = held
        for name in _COUNTED:
            table = self._read_differing(tools, name, held.table(name), wanted.table(name))
            if table is None:
                return False
            before = replace(before, tables={**before.tables, name: table})
        step = plan_step(tools, before, wanted)
        if step.text and self._changes is not None:
            with self._changes.ours():
                tools.apply_restore(step.text)
        self._held[family] = _as_written(before, wanted)
        self._wanted = {**self._wanted, family: wanted}  # also if the other family fails
        return True

    def _read_differing(
        self, tools: Iptables, name: TableName, held: TableState, wanted: TableState
    ) -> TableState | None:
        """Return `held` with the kernel's counters where it differs from what is `wanted`; None
        where its rules are not as they were applied. Only what is about to be written is read: all
        of it may be a hundred thousand rules."""
        changed, obsolete = differing(held, wanted)
        there = {chain for chain in (*changed, *obsolete) if chain in held.chains}
        if not there:
            return held
        live = tools.read_chains(name, there)
        if any(live.get(chain) != held.chains[chain] for chain in there):
            return None
        return replace(held, chains={**held.chains, **live})

    def look(self) -> Repair | None:
        """Set right what others have changed since the last look; None where nothing was.

        LockHeldError or another ParagliderError where that could not be: it stays due.
        """
        self._note_changes()
        if not self._is_due or self._clock() < self._rest_until_s or self._variant is None:
            return None
        began_s = self._clock()
        chains = list[str]()
        self._is_due, by = False, self._by  # more may be heard while it looks
        try:
            for family in self._wanted:
                chains += self._set_right(family)
        except BaseException:
            self._is_due = True
            raise
        took_s = self._clock() - began_s
        self._rest_until_s = self._clock() + min(_REST_PER_LOOK * took_s, _MOST_REST_S)
        self._by -= by
        # What was written is read back by one more look.
        self._is_due |= bool(chains)
        return Repair(chains, sorted(by), took_s) if chains else None

    def _set_right(self, family: Family) -> list[str]:
        tools, wanted = self._tools(family), self._wanted[family]
        live = tools.read_state(wanted)
        is_anchored = put_anchor(Step(tools, live, wanted, ""), self._report)
        if family in self._revived:
            self._revived.discard(family)
            is_anchored = True
        chains = [f"nft {family.name.lower()} {TABLE}"] if is_anchored else []
        chains += differing_chains(live, wanted)
        step = plan_step(tools, live, wanted)
        if step.text:
            put_client_sets({family: wanted}, self._host)
            tools.apply_restore(step.text)
        self._held[family] = _as_written(live, wanted)
        return chains

    def put_policy(self) -> list[str]:
        """Set right what others have changed of our policy rules; return ``ip rule PRIORITY`` for
        each. Raises PermissionDenied or UnavailableError."""
        return [] if self._variant is None else put_policy(self._wanted)

    def hear(self) -> None:
        """Take in what the kernel tells on `fileno`; starts no program, and raises nothing."""
        if self._changes is not None and self._changes.is_writing:
            self._changes.hear()
            return
        # What cannot be revived is put back by the next look.
        with contextlib.suppress(ParagliderError, OSError):
            self._note_changes()

    def _note_changes(self) -> None:
        seen = self._changes.seen() if self._changes is not None else None
        if seen is None:
            return
        self._is_due = True
        self._by |= seen
        if self._variant is Variant.NFT and self._is_anchored:
            # Before anything else, and without a rest: until then connections are being reset.
            self._revived |= set(revive_anchors(self._wanted))

    def _tools(self, family: Family) -> Iptables:
        if self._variant is None:
            raise RuntimeError("nothing was taken over")
        return replace(
            find_iptables(self._variant, family, self._host.run), lock_wait_s=_LOCK_WAIT_S
        )

    def remove_known(self) -> None:
        """Take away the rules that were applied last, where the kernel's cannot be read; after
        `close`. What others changed of them meanwhile makes it fail. Raises UnavailableError where
        the kernel was not read since the last `take_over`, and as `apply_restore` does."""
        if not self._held or set(self._held) != set(self._wanted):
            raise UnavailableError("the rules in the kernel are not known")
        for family, held in self._held.items():
            tools = self._tools(family)
            text = plan_restore(held, NOTHING)
            check_restore(text)
            tools.apply_restore(text)
            remove_anchor(tools)
        remove_policy()
        remove_client_sets(host=self._host, report=self._report)

    def close(self) -> None:
        """Listen no more; the rules stay."""
        if self._changes is not None:
            self._changes.close()
        self._changes = None


def _as_written(before: State, wanted: State) -> State:
    """Return the state that the kernel has after `wanted` was written over `before`, as far as the
    next comparison looks: its jumps stand where they stood, or where they belong."""
    tables = {}
    for name, table in wanted.tables.items():
        there = before.table(name)
        tables[name] = replace(there, chains=table.chains, hooks=there.fit(table.hooks))
    return State(tables, before.existing)
