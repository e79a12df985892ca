"""Describe: what live rules do, told as the services that they came from.

The way back from `plan.py`: a state of the kernel in, frontends and their backends out. With it
`status` needs no file, an agent knows what the one before it knew, and both can tell whether the
rules are whole: planned again, what was described must give the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from paraglider.config.model import Endpoint, Family
from paraglider.health.service import FULL, Member, Pair, Service, Share
from paraglider.rules.plan import (
    DNAT_CHAIN,
    FORWARD_CHAIN,
    NOTE_CHAINS,
    SNAT_CHAIN,
    STRAY_CHAIN,
    plan_rulesets,
)
from paraglider.rules.restore import plan_restore
from paraglider.rules.ruleset import (
    CERTAIN,
    PREFIX,
    Chance,
    Dnat,
    Jump,
    Rule,
    Snat,
    TableName,
    Verdict,
)
from paraglider.rules.state import NOTHING, RuleLine, State, TableState, state_of_ruleset
from paraglider.rules.text import RuleSyntaxError, parse_rule


@dataclass(frozen=True, slots=True)
class Description:
    """What the kernel does for clients.

    `connections` counts, for each (bind, backend), the connections that were sent there since its
    rule was made. `is_whole` is false where rules are missing, changed or out of place.
    """

    services: tuple[Service, ...]
    connections: Mapping[Pair, int]
    is_whole: bool


def describe_states(states: Mapping[Family, State]) -> Description:
    """Return what `states` do. Of members, those are known that get connections, or of which the
    rules note why not; a backup that nobody needs is not."""
    services: list[Service] = []
    connections: dict[Pair, int] = {}
    for family in sorted(states):
        notes = _notes(states[family].table(TableName.MANGLE))
        for service, counts in _services(states[family]):
            noted = notes.get(service.bind, {})
            serving = [Member(s.backend) for s in service.serving if s.backend not in noted]
            services.append(replace(service, members=(*serving, *noted.values())))
            connections |= {(service.bind, backend): n for backend, n in counts.items()}
    is_whole = bool(services) and _is_same(states, services)
    return Description(tuple(services), connections, is_whole)


def _services(state: State) -> Iterator[tuple[Service, Mapping[Endpoint, int]]]:
    nat, passing = state.table(TableName.NAT), state.table(TableName.FILTER)
    sources = {
        rule.ct_original: rule.target.to
        for rule, _ in _parsed(nat.chains.get(SNAT_CHAIN, ()))
        if isinstance(rule.target, Snat)
    }
    binds = set()
    for rule, _ in _parsed(nat.chains.get(DNAT_CHAIN, ())):
        if not (isinstance(rule.target, Jump) and rule.destination and rule.destination_port):
            continue
        bind = Endpoint(rule.destination, rule.destination_port)
        binds.add(bind)
        spread = list(_parsed(nat.chains.get(rule.target.chain, ())))
        counts = {rule.target.to: n for rule, n in spread if isinstance(rule.target, Dnat)}
        name = rule.target.chain.removeprefix(PREFIX)
        # Without its source rule a frontend is not whole; shown with the bind in its place.
        privateip = sources.get(bind, bind.address)
        yield Service(name, bind, privateip, (), _shares(r for r, _ in spread)), counts
    for rule, _ in _parsed(passing.chains.get(FORWARD_CHAIN, ())):
        bind_left = rule.ct_original
        if rule.target is Verdict.ACCEPT and bind_left and bind_left not in binds:
            yield Service(str(bind_left), bind_left, bind_left.address, (), (), is_leaving=True), {}


def _shares(rules: Iterable[Rule]) -> tuple[Share, ...]:
    """Return the shares that `plan.py` made these rules of, from the last to the first."""
    shares = list[Share]()
    rest = 0
    for rule in reversed(list(rules)):
        if not isinstance(rule.target, Dnat):
            continue
        percent = FULL
        if isinstance(rule.statistic, Chance):
            chance = rule.statistic.of_certain / CERTAIN
            percent = min(FULL, max(1, round(chance * rest / (1 - chance))))
        rest += percent
        shares.append(Share(rule.target.to, percent))
    return tuple(reversed(shares))


def _notes(mangle: TableState) -> dict[Endpoint, dict[Endpoint, Member]]:
    """Return, for each bind, the backends that are noted as out of service."""
    notes: dict[Endpoint, dict[Endpoint, Member]] = {}
    for health, chain in NOTE_CHAINS.items():
        for rule, _ in _parsed(mangle.chains.get(chain, ())):
            if rule.ct_original and rule.source and rule.source_port:
                backend = Endpoint(rule.source, rule.source_port)
                member = Member(backend, health, rule.until_s)
                notes.setdefault(rule.ct_original, {})[backend] = member
    return notes


def _parsed(lines: tuple[RuleLine, ...]) -> Iterator[tuple[Rule, int]]:
    for line in lines:
        try:
            yield parse_rule(line.text), line.counters.packets
        except RuleSyntaxError:
            continue  # a stranger's rule: the comparison finds it


def _is_same(states: Mapping[Family, State], services: Iterable[Service]) -> bool:
    planned = {r.family: state_of_ruleset(r) for r in plan_rulesets(tuple(services))}
    return all(
        not plan_restore(
            states.get(family, NOTHING),
            _with_strays_of(states.get(family, NOTHING), planned.get(family, NOTHING)),
        )
        for family in Family
    )


def _with_strays_of(live: State, wanted: State) -> State:
    """Return `wanted` with the live chain of strays, if that has what is wanted and nothing of
    another kind: backups that nobody needs are there alone, and the order is the file's."""
    table = wanted.table(TableName.FILTER)
    there = live.table(TableName.FILTER).chains.get(STRAY_CHAIN, ())
    needed = {line.text for line in table.chains.get(STRAY_CHAIN, ())}
    is_superset = needed <= {line.text for line in there} and all(map(_is_stray, there))
    if STRAY_CHAIN not in table.chains or not is_superset:
        return wanted
    table = replace(table, chains={**table.chains, STRAY_CHAIN: there})
    return replace(wanted, tables={**wanted.tables, TableName.FILTER: table})


def _is_stray(line: RuleLine) -> bool:
    try:
        rule = parse_rule(line.text)
    except RuleSyntaxError:
        return False
    kept = Rule(
        source=rule.source,
        destination=rule.destination,
        is_tcp=True,
        source_port=rule.source_port,
        target=Verdict.DROP,
    )
    return rule == kept and None not in (rule.source, rule.destination, rule.source_port)
