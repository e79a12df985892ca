"""Diff: render the differences between live and wanted rules for people."""

from __future__ import annotations

from collections.abc import Iterator

from paraglider.rules.checksum import without_checksum
from paraglider.rules.ruleset import TableName
from paraglider.rules.state import LAST, HookLine, State, TableState


def diff_states(live: State, wanted: State) -> list[str]:
    """Return lines like those of ``diff -u``: ``-`` marks a rule in the kernel only, ``+`` a wanted
    rule only, and a space a rule in both. Equal chains are left out; equal states give no lines.

        nat PARAGLIDER-web
          -p tcp -j DNAT --to-destination 192.0.2.7:80
        + -p tcp -j DNAT --to-destination 192.0.2.8:80
    """
    lines: list[str] = []
    for title, before, after in _differences(live, wanted):
        lines += [title, *_compare(before, after)]
    return lines


def differing_chains(live: State, wanted: State) -> list[str]:
    """Return ``TABLE CHAIN`` for each of our chains that differs from the wanted one, and for each
    other chain whose jumps to ours differ."""
    return [title for title, _, _ in _differences(live, wanted)]


def _differences(live: State, wanted: State) -> Iterator[tuple[str, list[str], list[str]]]:
    for name in TableName:
        for chain, before, after in _pairs(live.table(name), wanted.table(name)):
            if before != after:
                yield f"{name.value} {chain}", before, after


def _pairs(live: TableState, wanted: TableState) -> Iterator[tuple[str, list[str], list[str]]]:
    jumps, hooks = live.jumps(wanted.chains), live.fit(wanted.hooks)
    for chain in sorted({hook.chain for hook in jumps | hooks}):
        yield chain, _hooks(jumps, chain), _hooks(hooks, chain)
    for chain in sorted({*live.chains, *wanted.chains}):
        yield chain, _rules(live, chain), _rules(wanted, chain)


def _hooks(hooks: frozenset[HookLine], chain: str) -> list[str]:
    return [f"{h.text}  ({_position(h)})" for h in sorted(hooks) if h.chain == chain]


def _position(hook: HookLine) -> str:
    return "last rule" if hook.position == LAST else f"rule {hook.position}"


def _rules(table: TableState, chain: str) -> list[str]:
    if chain not in table.chains:
        return []
    # An empty chain differs from a missing one.
    return [without_checksum(rule.text) for rule in table.chains[chain]] or [
        "(a chain without rules)"
    ]


def _compare(before: list[str], after: list[str]) -> Iterator[str]:
    import difflib  # imported only when a difference is shown

    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield from (f"  {line}" for line in before[i1:i2])
        else:
            yield from (f"- {line}" for line in before[i1:i2])
            yield from (f"+ {line}" for line in after[j1:j2])
