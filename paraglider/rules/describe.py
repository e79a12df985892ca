"""Describe: what live rules do, told as the configuration that they came from.

The way back from `plan.py`: a state of the kernel in, frontends and their backends out. With it
`status` needs no file, and can tell whether the rules are whole: planned again, what was described
must give the same state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from paraglider.config.model import Config, Endpoint, Family, Frontend
from paraglider.rules.plan import DNAT_CHAIN, SNAT_CHAIN, plan_rulesets
from paraglider.rules.restore import plan_restore
from paraglider.rules.ruleset import PREFIX, Dnat, Jump, Rule, Snat, TableName
from paraglider.rules.state import NOTHING, RuleLine, State, TableState, state_of_ruleset
from paraglider.rules.text import RuleSyntaxError, parse_rule


@dataclass(frozen=True, slots=True)
class Description:
    """What the kernel does for clients.

    `connections` counts, for each (frontend's name, backend), the connections that were sent there
    since its rule was made. `is_whole` is false where rules are missing, changed or out of place.
    """

    frontends: tuple[Frontend, ...]
    connections: Mapping[tuple[str, Endpoint], int]
    is_whole: bool


def describe_states(states: Mapping[Family, State]) -> Description:
    """Return what `states` do."""
    frontends: list[Frontend] = []
    connections: dict[tuple[str, Endpoint], int] = {}
    for family in sorted(states):
        nat = states[family].table(TableName.NAT)
        for frontend, counts in _frontends(nat):
            frontends.append(frontend)
            connections |= {(frontend.name, b): count for b, count in counts.items()}
    is_whole = bool(frontends) and _is_same(states, tuple(frontends))
    return Description(tuple(frontends), connections, is_whole)


def _frontends(nat: TableState) -> Iterator[tuple[Frontend, Mapping[Endpoint, int]]]:
    sources = {
        rule.ct_original: rule.target.to
        for rule, _ in _parsed(nat.chains.get(SNAT_CHAIN, ()))
        if isinstance(rule.target, Snat)
    }
    for rule, _ in _parsed(nat.chains.get(DNAT_CHAIN, ())):
        if not (isinstance(rule.target, Jump) and rule.destination and rule.destination_port):
            continue
        bind = Endpoint(rule.destination, rule.destination_port)
        counts = {
            spread.target.to: packets
            for spread, packets in _parsed(nat.chains.get(rule.target.chain, ()))
            if isinstance(spread.target, Dnat)
        }
        name = rule.target.chain.removeprefix(PREFIX)
        # Without its source rule a frontend is not whole; shown with the bind in its place.
        yield Frontend(name, bind, sources.get(bind, bind.address), tuple(counts)), counts


def _parsed(lines: tuple[RuleLine, ...]) -> Iterator[tuple[Rule, int]]:
    for line in lines:
        try:
            yield parse_rule(line.text), line.counters.packets
        except RuleSyntaxError:
            continue  # a stranger's rule: the comparison finds it


def _is_same(states: Mapping[Family, State], frontends: tuple[Frontend, ...]) -> bool:
    planned = {r.family: state_of_ruleset(r) for r in plan_rulesets(Config("", frontends))}
    return all(
        not plan_restore(states.get(family, NOTHING), planned.get(family, NOTHING))
        for family in Family
    )
