"""Describe: what live rules do, told as the services that they came from.

The way back from `plan.py`: a state of the kernel in, frontends and their backends out. With it
`status` needs no file, and an agent knows what the one before it knew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from paraglider.config.model import Address, Endpoint, Family, Ports
from paraglider.health.service import FULL, Member, Pair, Service, Share
from paraglider.rules.notes import NOTE_CHAINS, UNTIL
from paraglider.rules.parse import RuleSyntaxError, parse_rule
from paraglider.rules.plan import DNAT_CHAIN, FORWARD_CHAIN, SNAT_CHAIN
from paraglider.rules.ruleset import (
    CERTAIN,
    EVERY_MOST,
    PREFIX,
    Chance,
    Dnat,
    Jump,
    Network,
    Nth,
    Rule,
    Snat,
    TableName,
    Verdict,
)
from paraglider.rules.seal import Chains, is_sealed
from paraglider.rules.state import RuleLine, State, TableState
from paraglider.rules.wanted import HOOK_LINES

# Deeper than any tree of ours: a stranger may have made a loop.
_MOST_DEPTH = 8


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
    is_whole = bool(services) and all(map(_is_whole, states.values()))
    return Description(tuple(services), connections, is_whole)


def _is_whole(state: State) -> bool:
    tables = ((state.table(name), wanted) for name, wanted in HOOK_LINES.items())
    return is_sealed(state) and all(
        table.jumps(table.chains) == table.fit(wanted) for table, wanted in tables
    )


def _services(state: State) -> Iterator[tuple[Service, Mapping[Endpoint, int]]]:
    nat, passing = state.table(TableName.NAT).chains, state.table(TableName.FILTER).chains
    sources = [
        (rule, rule.target.to) for rule in _leaves(nat, SNAT_CHAIN) if isinstance(rule.target, Snat)
    ]
    binds = set()
    for rule in _leaves(nat, DNAT_CHAIN):
        bind = _endpoint(rule.destination, rule.destination_ports)
        if not isinstance(rule.target, Jump) or bind is None:
            continue
        binds.add(bind)
        flow = _Flow(nat)
        flow.follow(rule.target.chain, 1.0)
        name = rule.target.chain.removeprefix(PREFIX)
        # Without its source rule a frontend is not whole; shown with the bind in its place.
        privateip = next((to for source, to in sources if _covers(source, bind)), bind.address)
        yield Service(name, bind, privateip, (), flow.shares()), flow.counts
    for rule in _leaves(passing, FORWARD_CHAIN):
        left = _endpoint(rule.ct_address, rule.ct_ports)
        if rule.target is Verdict.ACCEPT and left and left not in binds:
            yield Service(str(left), left, left.address, (), (), is_leaving=True), {}


def _endpoint(address: Address | Network | None, ports: Ports | None) -> Endpoint | None:
    """Return the one address and port, None where they are more."""
    if address is None or ports is None or ports.first != ports.last:
        return None
    return None if isinstance(address, Network) else Endpoint(address, ports.first)


def _covers(source: Rule, bind: Endpoint) -> bool:
    ports = source.ct_ports
    return (
        source.ct_address == bind.address
        and ports is not None
        and ports.first <= bind.port <= ports.last
    )


def _leaves(chains: Chains, chain: str) -> Iterator[Rule]:
    """Yield the rules that a dispatch leads to, from `chain` on (dispatch.py)."""
    below = f"{chain}-"
    seen, waiting = {chain}, [chain]
    while waiting:
        for rule, _ in _parsed(chains.get(waiting.pop(), ())):
            if not isinstance(rule.target, Jump) or not rule.target.chain.startswith(below):
                yield rule
            elif rule.target.chain not in seen:
                seen.add(rule.target.chain)
                waiting.append(rule.target.chain)


def _taken(rule: Rule, part: float, whole: float) -> float:
    """Return how much a rule takes of the `part` that is left of the `whole` in a chain."""
    if rule.mark is not None:
        return whole * 0.5 ** rule.mark.mask.bit_count()
    match rule.statistic:
        case Nth(every, _):
            return part / every if every < EVERY_MOST else 0.0
        case Chance(of_certain):
            return part * of_certain / CERTAIN
    return part


class _Flow:
    """How much of what comes to a chain goes to which backend."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self._parts: dict[Endpoint, float] = {}
        self.counts: dict[Endpoint, int] = {}

    def follow(self, chain: str, part: float, depth: int = 0) -> None:
        """Follow `part` of all into `chain`."""
        whole = part
        for rule, count in _parsed(self._chains.get(chain, ())):
            if not isinstance(rule.target, Dnat | Jump):
                continue
            taken = _taken(rule, part, whole)
            part -= taken
            if isinstance(rule.target, Dnat):
                backend = rule.target.to
                self._parts[backend] = self._parts.get(backend, 0.0) + taken
                self.counts[backend] = self.counts.get(backend, 0) + count
            elif depth < _MOST_DEPTH:
                self.follow(rule.target.chain, taken, depth + 1)

    def shares(self) -> tuple[Share, ...]:
        """Return the shares, in percent of the largest."""
        largest = max(self._parts.values(), default=1.0) or 1.0
        return tuple(
            Share(backend, percent=max(1, round(FULL * part / largest)))
            for backend, part in self._parts.items()
        )


def _notes(mangle: TableState) -> dict[Endpoint, dict[Endpoint, Member]]:
    """Return, for each bind, the backends that are noted as out of service."""
    notes: dict[Endpoint, dict[Endpoint, Member]] = {}
    for health, chain in NOTE_CHAINS.items():
        for rule, _ in _parsed(mangle.chains.get(chain, ())):
            bind = _endpoint(rule.ct_address, rule.ct_ports)
            backend = _endpoint(rule.source, rule.source_ports)
            if bind and backend:
                until_s = int(rule.note.value) if rule.note and rule.note.word == UNTIL else None
                notes.setdefault(bind, {})[backend] = Member(backend, health, until_s)
    return notes


def _parsed(lines: tuple[RuleLine, ...]) -> Iterator[tuple[Rule, int]]:
    for line in lines:
        try:
            yield parse_rule(line.text), line.counters.packets
        except RuleSyntaxError:
            continue  # a stranger's rule: the comparison finds it
