"""Restore: the input for ``iptables-restore --noflush`` that leads from one state to another.

Pure. Only chains that differ are written, each whole; a rule that stays keeps its counters, so that
totals never go backwards. Two equal states give no text, and so no write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from paraglider.config.model import Family
from paraglider.rules.ruleset import Ruleset, TableName
from paraglider.rules.state import (
    NOTHING,
    Counters,
    HookLine,
    RuleLine,
    State,
    TableState,
    leads_to_us,
    state_of_ruleset,
)
from paraglider.rules.text import RuleSyntaxError, parse_rule, render_rule

# iptables-restore commits table by table. Coming up, connections must be able to pass (filter) and
# conntrack must be pinned (mangle) before nat sends anyone a new way; going down, nat goes first.
_UP = (TableName.FILTER, TableName.MANGLE, TableName.NAT)
_DOWN = (TableName.NAT, TableName.MANGLE, TableName.FILTER)

_OWN = r"PARAGLIDER-[A-Za-z0-9][A-Za-z0-9_-]{0,16}"
_FRAME_LINE = re.compile(
    rf"\*(filter|mangle|nat)|COMMIT|:{_OWN} - \[0:0\]|-I [A-Z]+ 1 -j {_OWN}"
    # What goes may bear any name that begins as ours do: an older version made it, or somebody.
    r"|-[FX] PARAGLIDER-\S{1,17}"
)
_RULE_LINE = re.compile(rf"(?:\[[0-9]+:[0-9]+\] )?-A {_OWN} (.+)")
_DELETE_LINE = re.compile(r"-D \S+ (.+)")


def plan_restore(current: State, wanted: State) -> str:
    """Return what to feed to iptables-restore to make `current` into `wanted`; '' if it is.

    The input is meant for ``--noflush --counters``: it names no chain that is not ours, except to
    insert or delete the jumps that lead to ours.
    """
    order = _DOWN if wanted.is_empty else _UP
    sections = (_table_section(name, current.table(name), wanted.table(name)) for name in order)
    return "".join(sections)


def render_rulesets(rulesets: Iterable[Ruleset]) -> Iterator[tuple[str, str]]:
    """Yield, for each ruleset, a comment that names the program and what it would be given on a
    host that has nothing of ours yet."""
    for ruleset in rulesets:
        program = "iptables-restore" if ruleset.family is Family.IPV4 else "ip6tables-restore"
        yield f"# {program} --noflush", plan_restore(NOTHING, state_of_ruleset(ruleset))


def _table_section(name: TableName, current: TableState, wanted: TableState) -> str:
    changed = [c for c in sorted(wanted.chains) if wanted.chains[c] != current.chains.get(c)]
    obsolete = sorted(set(current.chains) - set(wanted.chains))
    lines = [f":{chain} - [0:0]" for chain in changed]
    lines += _hook_lines(current.hooks, wanted.hooks)
    for chain in changed:
        lines += _chain_lines(chain, wanted.chains[chain], current.chains.get(chain, ()))
    lines += [f"-F {chain}" for chain in obsolete]
    lines += [f"-X {chain}" for chain in obsolete]
    return "\n".join([f"*{name.value}", *lines, "COMMIT", ""]) if lines else ""


def _hook_lines(current: frozenset[HookLine], wanted: frozenset[HookLine]) -> list[str]:
    # A built-in chain whose jump is missing, doubled or no longer first is set right as a whole:
    # deleting by text takes the first such rule, and deleting one changes the others' positions.
    chains = {hook.chain for hook in current ^ wanted}
    gone = sorted(hook for hook in current if hook.chain in chains)
    come = sorted(hook for hook in wanted if hook.chain in chains)
    deletions = [f"-D {hook.chain} {hook.text}" for hook in gone]
    return deletions + [f"-I {hook.chain} {hook.position} {hook.text}" for hook in come]


def _chain_lines(chain: str, rules: Sequence[RuleLine], before: Sequence[RuleLine]) -> list[str]:
    kept = _counters_by_identity(before)
    return [f"{_prefix(kept.get(_identity(rule)))}-A {chain} {rule.text}" for rule in rules]


def _prefix(counters: Counters | None) -> str:
    return f"[{counters.packets}:{counters.size_bytes}] " if counters and counters.packets else ""


def _counters_by_identity(rules: Sequence[RuleLine]) -> Mapping[str, Counters]:
    return {_identity(rule): rule.counters for rule in rules}


def _identity(rule: RuleLine) -> str:
    """What makes two rules one to a person who counts: for a backend, that it leads there; whether
    it is every third or every second connection depends on its neighbours."""
    head, mark, backend = rule.text.partition("-j DNAT ")
    return backend if mark else head


def lint_restore(text: str) -> None:
    """Raise RuleSyntaxError at the first line of a restore input that we would never say.

    The last door before the kernel: whatever went wrong before, nothing but rules in our own
    chains, and the jumps to them, comes through.
    """
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if text and not _is_ours(line):
            raise RuleSyntaxError(f"line {number} is not of our grammar: {line!r}")


def _is_ours(line: str) -> bool:
    if _FRAME_LINE.fullmatch(line):
        return True
    if found := _RULE_LINE.fullmatch(line):
        return render_rule(parse_rule(found[1])) == found[1]
    found = _DELETE_LINE.fullmatch(line)
    return found is not None and leads_to_us(found[1])
