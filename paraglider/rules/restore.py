"""Restore: the input for ``iptables-restore --noflush`` that leads from one state to another.

Pure. Only chains that differ are written, each whole; a rule that stays keeps its counters, so that
totals never go backwards. Two equal states give no text, and so no write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from paraglider.config.quote import printable
from paraglider.errors import ParagliderError
from paraglider.rules.names import owner_of
from paraglider.rules.parse import RuleSyntaxError, parse_rule
from paraglider.rules.ruleset import GUEST_CHAINS, REPLY_CHAIN, TableName
from paraglider.rules.state import (
    LAST,
    Counters,
    HookLine,
    RuleLine,
    State,
    TableState,
    leads_to_us,
)
from paraglider.rules.text import render_rule

# iptables-restore commits table by table. Coming up, connections must be able to pass (filter) and
# conntrack must be pinned (mangle) before nat sends anyone a new way; going down, nat goes first.
_UP = tuple(TableName)
_DOWN = (TableName.NAT, TableName.MANGLE, TableName.FILTER, TableName.RAW, TableName.SECURITY)

# What iptables-restore cannot be told in one line: a comment of two, a chain named with a quote.
_UNTELLABLE = re.compile(r'\n|\S"\S*$')

_OWN = r"PARAGLIDER-[A-Za-z0-9][A-Za-z0-9_-]{0,16}"
_FRAME_LINE = re.compile(
    rf"\*({'|'.join(TableName)})|COMMIT|:{_OWN} - \[0:0\]"
    rf"|-I (?:[A-Z]+|{'|'.join(GUEST_CHAINS)}) 1 -j {_OWN}"
    rf"|-A [A-Z]+ -j {REPLY_CHAIN}"
    # What goes may bear any name that begins as ours do, and stand anywhere.
    r'|-[FX] "?PARAGLIDER-\S*|-D \S+ [0-9]+'
)
_RULE_LINE = re.compile(rf"(?:\[[0-9]+:[0-9]+\] )?-A {_OWN} (.+)")
_Kept = dict[tuple[str, str], Counters]
_DELETE_LINE = re.compile(r"-D \S+ (.+)")


def plan_restore(current: State, wanted: State, *, by_position: bool = False) -> str:
    """Return what to feed to iptables-restore to make `current` into `wanted`; '' if it is.

    The input is meant for ``--noflush --counters``: it names no chain that is not ours, except to
    insert or delete the jumps that lead to ours. Jumps are deleted by their text, which cannot hit
    a rule of somebody else; by position where iptables does not find its own text again.
    """
    order = _DOWN if wanted.is_empty else _UP
    return "".join(
        _table_section(name, current.table(name), wanted.table(name), by_position=by_position)
        for name in order
    )


def differing(current: TableState, wanted: TableState) -> tuple[list[str], list[str]]:
    """Return the chains that have to be written, and those that have to go."""
    changed = [c for c in sorted(wanted.chains) if wanted.chains[c] != current.chains.get(c)]
    return changed, sorted(set(current.chains) - set(wanted.chains))


def _table_section(
    name: TableName, current: TableState, wanted: TableState, *, by_position: bool
) -> str:
    changed, obsolete = differing(current, wanted)
    lines = [f":{chain} - [0:0]" for chain in changed]
    gone, come = current.jumps(wanted.chains), _missing_jumps(current, wanted)
    lines += _hook_lines(gone, come, by_position=by_position)
    kept = _counters(current, (*changed, *obsolete))
    for chain in changed:
        lines += _chain_lines(chain, wanted.chains[chain], kept)
    lines += [f"-F {_quoted(chain)}" for chain in obsolete]
    lines += [f"-X {_quoted(chain)}" for chain in obsolete]
    return "\n".join([f"*{name.value}", *lines, "COMMIT", ""]) if lines else ""


def _missing_jumps(current: TableState, wanted: TableState) -> frozenset[HookLine]:
    """Return the wanted jumps, without a stranger's that is there already (where what was before is
    put back, it is wanted too)."""
    there = {(hook.chain, hook.text) for hook in current.hooks}
    hooks = current.fit(wanted.hooks)
    return frozenset(h for h in hooks if h.is_plain or (h.chain, h.text) not in there)


def _hook_lines(
    current: frozenset[HookLine], wanted: frozenset[HookLine], *, by_position: bool
) -> list[str]:
    # A built-in chain whose jump is missing, doubled or no longer first is set right as a whole:
    # deleting by text takes the first such rule, and deleting one changes the others' positions.
    lines = []
    for chain in sorted({hook.chain for hook in current ^ wanted}):
        # From the last to the first, so that positions still to come stay as they are.
        gone = sorted((hook for hook in current if hook.chain == chain), reverse=True)
        by_number = by_position or any(_UNTELLABLE.search(hook.text) for hook in gone)
        # One that stands last is sorted last, and has no number: what comes before it is gone then.
        lines += [
            f"-D {chain} {hook.position if by_number and hook.position else hook.text}"
            for hook in gone
        ]
        come = sorted(hook for hook in wanted if hook.chain == chain)
        lines += [f"{_where(hook)} {hook.text}" for hook in come]
    return lines


def _where(hook: HookLine) -> str:
    return f"-A {hook.chain}" if hook.position == LAST else f"-I {hook.chain} {hook.position}"


def _quoted(chain: str) -> str:
    """Return a chain's name as iptables-restore reads it; ours need nothing, a stranger's may."""
    escaped = chain.replace("\\", "\\\\").replace('"', '\\"')
    return chain if escaped == chain else f'"{escaped}"'


def _chain_lines(chain: str, rules: Sequence[RuleLine], kept: _Kept) -> list[str]:
    """Return the lines of a chain; what was counted goes on, once for each of `kept`."""
    owner = owner_of(chain)
    lines = [
        f"{_prefix(kept.pop((owner, _identity(rule)), None))}-A {chain} {rule.text}"
        for rule in rules
    ]
    return [line.rstrip() for line in lines]  # a stranger's rule may be nothing but a counter


def _prefix(counters: Counters | None) -> str:
    return f"[{counters.packets}:{counters.size_bytes}] " if counters and counters.packets else ""


def _counters(current: TableState, chains: Iterable[str]) -> _Kept:
    """Return what was counted in those `chains`, added up where a backend had several rules."""
    kept: _Kept = {}
    for chain in chains:
        for rule in current.chains.get(chain, ()):
            key = owner_of(chain), _identity(rule)
            kept[key] = kept.get(key, Counters()).plus(rule.counters)
    return kept


def _identity(rule: RuleLine) -> str:
    """What makes two rules one to a person who counts: for a backend, that it leads there; whether
    it is every third or every second connection depends on its neighbours."""
    head, mark, backend = rule.text.partition("-j DNAT ")
    return backend if mark else head


def is_complete(current: State, wanted: State) -> bool:
    """Return whether all that is wanted is there and nothing else of ours, wherever in a built-in
    chain the jumps stand. Those in guest chains are extra."""

    def jumps(hooks: frozenset[HookLine]) -> list[tuple[str, str]]:
        built_in = [h for h in hooks if h.chain not in GUEST_CHAINS]
        return sorted((hook.chain, hook.text) for hook in built_in if hook.is_plain)

    return all(
        now.chains == then.chains and jumps(now.hooks) == jumps(now.fit(then.hooks))
        for now, then in ((current.table(name), wanted.table(name)) for name in TableName)
    )


def check_restore(text: str) -> None:
    """Raise ParagliderError where a restore input holds a line that we would never say."""
    try:
        lint_restore(text)
    except RuleSyntaxError as error:
        raise ParagliderError(
            f"refused to give this to iptables-restore, please report it: {error}"
        ) from error


def lint_restore(text: str) -> None:
    """Raise RuleSyntaxError at the first line of a restore input that we would never say.

    The last door before the kernel: whatever went wrong before, nothing but rules in our own
    chains, and the jumps to them, comes through.
    """
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if text and not _is_ours(line):
            raise RuleSyntaxError(f"line {number} is not of our grammar: {printable(line)}")


def _is_ours(line: str) -> bool:
    if _FRAME_LINE.fullmatch(line):
        return True
    if found := _RULE_LINE.fullmatch(line):
        return render_rule(parse_rule(found[1])) == found[1]
    found = _DELETE_LINE.fullmatch(line)
    return found is not None and leads_to_us(found[1])
