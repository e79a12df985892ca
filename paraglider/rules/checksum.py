"""Checksum: a number in the pin (markers.py) that shows whether our rules are unchanged.

The checksum is the sum of one digest per chain, so that a change of one chain needs only the digest
of that chain. It detects accidents; an attacker who can write rules can also write the checksum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from paraglider.rules.markers import PIN_CHAIN
from paraglider.rules.parse import RuleSyntaxError, parse_rule
from paraglider.rules.ruleset import CtState, Note, Rule, TableName, Verdict
from paraglider.rules.state import RuleLine, State
from paraglider.rules.text import render_rule

Chains = Mapping[str, tuple[RuleLine, ...]]

_WORD = "whole"
_SIZE_BYTES = 8


def digest_chain(table: TableName, chain: str, rules: Sequence[RuleLine]) -> int:
    """Return the 64-bit digest of one chain."""
    text = "\n".join([f"{table.value} {chain}", *(rule.text for rule in rules)])
    return int.from_bytes(blake2b(text.encode(), digest_size=_SIZE_BYTES).digest())


def add_digests(digests: Iterable[int]) -> int:
    """Return the sum of `digests` modulo 2**64; their order does not matter."""
    return sum(digests) % (1 << 8 * _SIZE_BYTES)


def plan_checksummed_pin(digest: int) -> tuple[RuleLine, ...]:
    """Return the rules of the pin; `digest`, the sum over all other chains, is its checksum."""
    note = Note(_WORD, f"{digest:0{2 * _SIZE_BYTES}x}")
    rule = Rule(ct_state=CtState.INVALID, note=note, target=Verdict.RETURN)
    return (RuleLine(render_rule(rule)),)


def digest_state(state: State) -> int:
    """Return the sum of the digests of all chains of `state` except the pin."""
    return add_digests(
        digest_chain(name, chain, rules)
        for name, table in state.tables.items()
        for chain, rules in table.chains.items()
        if chain != PIN_CHAIN
    )


def is_whole(state: State) -> bool:
    """Return whether the pin is there and its checksum matches the chains."""
    return state.table(TableName.MANGLE).chains.get(PIN_CHAIN) == plan_checksummed_pin(
        digest_state(state)
    )


def without_checksum(line: str) -> str:
    """Return the text of a rule; that of the pin without its checksum."""
    if f" {_WORD}-" not in line:
        return line
    try:
        rule = parse_rule(line)
    except RuleSyntaxError:
        return line
    is_seal = rule.note is not None and rule.note.word == _WORD
    return render_rule(Rule(ct_state=rule.ct_state, target=rule.target)) if is_seal else line
