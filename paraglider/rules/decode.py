"""Decode: reconstruct the services from the live rules.

The inverse of `plan.py`: takes a state of the kernel and returns frontends and their backends.
`status` therefore needs no file, and a new agent recovers what the previous agent had planned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network

from paraglider.config.clients import AddressRange, Source, SourceKind
from paraglider.config.model import NAME_PATTERN, Address, Bind, Endpoint, Family, Ports
from paraglider.health.service import FULL, Member, Pair, Service, Share
from paraglider.rules.checksum import Chains, is_whole
from paraglider.rules.markers import MARKER_CHAINS, UNTIL
from paraglider.rules.parse import RuleSyntaxError, parse_rule
from paraglider.rules.plan import (
    DNAT_CHAIN,
    FORWARD_CHAIN,
    INPUT_CHAIN,
    LOCAL_CHAIN,
    SNAT_CHAIN,
)
from paraglider.rules.return_path import UPLINK_CHAIN
from paraglider.rules.ruleset import (
    CERTAIN,
    EVERY_MOST,
    PREFIX,
    Chance,
    CtState,
    Dnat,
    Jump,
    Network,
    Nth,
    Rule,
    SetMark,
    Snat,
    TableName,
    Verdict,
)
from paraglider.rules.source import SEVERAL
from paraglider.rules.state import RuleLine, State
from paraglider.rules.wanted import wanted_hooks

# Deeper than any tree of ours. Rules of other programs may contain a loop.
_MOST_DEPTH = 10
# The frontend's name within the name of a chain; the next character is never one of these.
_NAME = re.compile(NAME_PATTERN)
_UNKNOWN = Source(SourceKind.AUTO)


@dataclass(frozen=True, slots=True)
class Description:
    """The services, counters and marks that the live rules contain.

    `connections` counts, for each (bind, backend), the connections since its rule was created.
    `refused` counts, for each bind, the packets of refused connection attempts. `marks` are the
    marks of answers, by family and by the prefix of the address that clients connect to. `is_whole`
    is false where rules are missing, changed or out of place.
    """

    services: tuple[Service, ...]
    connections: Mapping[Pair, int]
    refused: Mapping[Bind, int]
    marks: Mapping[Family, Mapping[Network, int]]
    is_whole: bool


def decode_states(states: Mapping[Family, State]) -> Description:
    """Return the services in `states`. Their members are the backends that get connections and
    those with a marker that says why they get none; an unused backup is missing. Access rules are
    not decoded."""
    services: list[Service] = []
    connections: dict[Pair, int] = {}
    refused: dict[Bind, int] = {}
    marks: dict[Family, Mapping[Network, int]] = {}
    for family in sorted(states):
        live = _Live(family, states[family])
        markers = live.markers()
        marks[family] = live.marks()
        for service, counts in live.services():
            noted = markers.get(service.bind, {})
            serving = [Member(s.backend) for s in service.serving if s.backend not in noted]
            services.append(replace(service, members=(*serving, *noted.values())))
            connections |= {(service.bind, backend): n for backend, n in counts.items()}
            refused[service.bind] = live.count_refused(service.binds)
    is_whole = bool(services) and all(map(_is_whole, states.values()))
    return Description(tuple(services), connections, refused, marks, is_whole)


def _is_whole(state: State) -> bool:
    # A missing chain breaks the checksum, which does not cover the jumps to the chains.
    tables = ((name, state.table(name)) for name in TableName)
    return is_whole(state) and all(
        table.jumps(table.chains) == table.fit(wanted_hooks(name, table.chains))
        for name, table in tables
    )


class _Live:
    """The rules of one family."""

    def __init__(self, family: Family, state: State) -> None:
        self._family = family
        self._nat = state.table(TableName.NAT).chains
        self._filter = state.table(TableName.FILTER).chains
        self._mangle = state.table(TableName.MANGLE).chains

    def services(self) -> Iterator[tuple[Service, Mapping[Endpoint, int]]]:
        """Yield each service with the number of connections that each of its backends got."""
        found: dict[str, dict[Bind, str]] = {}
        for rule, _ in (*_leaves(self._nat, DNAT_CHAIN), *_leaves(self._nat, LOCAL_CHAIN)):
            bind = self._bind(rule, rule.destination, rule.destination_ports)
            if isinstance(rule.target, Jump) and bind is not None:
                named = _NAME.match(rule.target.chain.removeprefix(PREFIX))
                if named:
                    found.setdefault(named[0], {})[bind] = rule.target.chain
        for name, binds in found.items():
            flow = _Flow(self._nat)
            for chain in dict.fromkeys(binds.values()):
                flow.follow(chain, 1.0)
            source = self._source(next(iter(binds)))
            yield Service(name, tuple(binds), source, (), flow.shares()), flow.counts
        known = {bind for binds in found.values() for bind in binds}
        for rule, _ in _leaves(self._filter, FORWARD_CHAIN):
            left = self._bind(rule, rule.ct_address, rule.ct_ports)
            is_accept = rule.target is Verdict.ACCEPT and left is not None
            if is_accept and left and not any(_meets(left, bind) for bind in known):
                yield Service(str(left), (left,), _UNKNOWN, (), (), is_leaving=True), {}

    def _bind(
        self, rule: Rule, address: Address | Network | None, ports: Ports | None
    ) -> Bind | None:
        protocol = rule.protocol or rule.ct_protocol
        if protocol is None or ports is None or isinstance(address, Network):
            return None
        return Bind(self._family, ports, protocol, address, rule.interface)

    def _source(self, bind: Bind) -> Source:
        for rule, _ in _leaves(self._nat, SNAT_CHAIN):
            found = self._bind(rule, rule.ct_address, rule.ct_ports)
            if found is None or not _meets(found, bind):
                continue
            match rule.target:
                case Snat(to):
                    return Source(SourceKind.ADDRESS, ((to, to),))
                case Jump(chain) if chain.startswith(PREFIX + SEVERAL):
                    return Source(SourceKind.ADDRESS, self._ranges(chain))
                case Jump():
                    return Source(SourceKind.KEEP)
            return Source(SourceKind.AUTO)
        return _UNKNOWN  # its SNAT rule is missing

    def _ranges(self, chain: str) -> tuple[AddressRange, ...]:
        """Return the source addresses in a chain and in the chains below it, as ranges."""
        within = [name for name in self._nat if name.startswith(chain)]
        targets = (rule.target for name in within for rule, _ in _parsed(self._nat[name]))
        ranges: list[AddressRange] = []
        for address in sorted((t.to for t in targets if isinstance(t, Snat)), key=int):
            if ranges and int(ranges[-1][1]) + 1 == int(address):
                ranges[-1] = ranges[-1][0], address
            else:
                ranges.append((address, address))
        return tuple(ranges)

    def markers(self) -> dict[Bind, dict[Endpoint, Member]]:
        """Return, for each bind, the backends that have a marker as out of service."""
        markers: dict[Bind, dict[Endpoint, Member]] = {}
        for health, chain in MARKER_CHAINS.items():
            for rule, _ in _parsed(self._mangle.get(chain, ())):
                bind = self._bind(rule, rule.ct_address, rule.ct_ports)
                if bind is None or rule.source is None or isinstance(rule.source, Network):
                    continue
                first, last = rule.source_ports or (0, 0)
                backend = Endpoint(rule.source, first, last if last != first else 0)
                until_s = int(rule.note.value) if rule.note and rule.note.word == UNTIL else None
                markers.setdefault(bind, {})[backend] = Member(backend, health, until_s)
        return markers

    def marks(self) -> dict[Network, int]:
        """Return the mark of answers for each prefix of addresses that clients connect to."""
        return {
            rule.ct_address
            if isinstance(rule.ct_address, Network)
            else ip_network(rule.ct_address): rule.target.value
            for rule, _ in _parsed(self._mangle.get(UPLINK_CHAIN, ()))
            if isinstance(rule.target, SetMark) and rule.ct_address is not None
        }

    def count_refused(self, binds: Iterable[Bind]) -> int:
        """Return the number of packets that the refusing rules of `binds` have matched."""
        wanted, total = set(binds), 0
        for chain in (INPUT_CHAIN, FORWARD_CHAIN, LOCAL_CHAIN):
            for rule, count in _leaves(self._filter, chain):
                bind = self._bind(rule, rule.destination, rule.destination_ports)
                if rule.ct_state is CtState.NEW and bind in wanted:
                    total += count
        return total


def _meets(area: Bind, bind: Bind) -> bool:
    """Return whether both have the same protocol and address, and a common port."""
    return (
        (area.protocol, area.address) == (bind.protocol, bind.address)
        and area.ports.first <= bind.ports.last
        and bind.ports.first <= area.ports.last
    )


def _leaves(chains: Chains, chain: str) -> Iterator[tuple[Rule, int]]:
    """Yield the rules at the leaves of the dispatch tree below `chain` (dispatch.py), each with its
    packet counter."""
    below = f"{chain}-"
    seen, waiting = {chain}, [chain]
    while waiting:
        for rule, count in _parsed(chains.get(waiting.pop(0), ())):
            if not isinstance(rule.target, Jump) or not rule.target.chain.startswith(below):
                yield rule, count
            elif rule.target.chain not in seen:
                seen.add(rule.target.chain)
                waiting.append(rule.target.chain)


def _taken(rule: Rule, part: float, whole: float) -> float:
    """Return the fraction that a rule takes, where `part` of the chain's `whole` is left."""
    if rule.client_set:
        return 0.0  # returning clients do not count for the shares
    if rule.mark is not None:
        return whole * 0.5 ** rule.mark.mask.bit_count()
    match rule.statistic:
        case Nth(every, _):
            return part / every if every < EVERY_MOST else 0.0
        case Chance(of_certain):
            return part * of_certain / CERTAIN
    return part


class _Flow:
    """The fraction of connections that each backend gets from a chain, and its counter."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self._parts: dict[Endpoint, float] = {}
        self._counted: set[str] = set()
        self.counts: dict[Endpoint, int] = {}

    def follow(self, chain: str, part: float, depth: int = 0) -> None:
        """Add the fractions of the backends below `chain`, which gets `part` of all."""
        whole = part
        is_first = chain not in self._counted
        self._counted.add(chain)
        for rule, count in _parsed(self._chains.get(chain, ())):
            if not isinstance(rule.target, Dnat | Jump):
                continue
            taken = _taken(rule, part, whole)
            part -= taken
            if isinstance(rule.target, Dnat):
                backend = rule.target.to
                self._parts[backend] = self._parts.get(backend, 0.0) + taken
                # Several rules may jump to one chain: count its counters once.
                self.counts[backend] = self.counts.get(backend, 0) + count * is_first
            elif depth < _MOST_DEPTH:
                self.follow(rule.target.chain, taken, depth + 1)

    def shares(self) -> tuple[Share, ...]:
        """Return the share of each backend, as a percentage of the largest."""
        largest = max(self._parts.values(), default=1.0) or 1.0
        return tuple(
            Share(backend, percent=max(1, round(FULL * part / largest)))
            for backend, part in self._parts.items()
        )


def _parsed(lines: tuple[RuleLine, ...]) -> Iterator[tuple[Rule, int]]:
    for line in lines:
        try:
            yield parse_rule(line.text), line.counters.packets
        except RuleSyntaxError:
            continue  # a rule of another program: the checksum does not match then
