"""Spread: the chains that give each connection of one frontend its backend.

Owns how many rules that takes. A packet should meet few, however many backends there are: up to
ten stand in one chain, as in the original program, and more make a tree of chains, ten or so to
a chain. A packet that jumps to the first chain does not come back from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from hashlib import blake2b

from paraglider.config.model import Balance, Endpoint, Family, Protocol
from paraglider.health.service import FULL, Service, Share
from paraglider.rules.affinity import Affinity
from paraglider.rules.names import node_names
from paraglider.rules.owners import plan_owners
from paraglider.rules.ruleset import (
    CERTAIN,
    EVERY_MOST,
    Chain,
    Chance,
    Dnat,
    Jump,
    Nth,
    Recent,
    Rule,
    Statistic,
    Verdict,
    own_chain,
)
from paraglider.rules.slots import plan_slots
from paraglider.rules.weighted_round_robin import find_places, plan_cycle

# Rules in a chain, where that can be chosen. Fewer make more chains, and iptables-legacy takes time
# for each; more make more rules that a packet meets.
WIDTH = 10
_MOST_WAYS = 16
_LEAST_LEAF = 5
# The first letter of what follows the name of the frontend in the name of a chain.
_LETTERS = {Protocol.TCP: "ABCDEFGHIJKLMNO", Protocol.UDP: "UVW"}
# The same, of chains that remember who came (affinity.py).
_AFFINITY_LETTERS = {Protocol.TCP: "PQRST", Protocol.UDP: "XYZ"}

# Where a connection may go, with its weight.
_Way = tuple[Dnat | Jump, int]


def spread_chain(service: Service, protocol: Protocol) -> str:
    """Return the name of the chain that spreads connections: the frontend's, and one letter more
    for UDP where it has TCP as well."""
    has_both = len({bind.protocol for bind in service.binds}) > 1
    return own_chain(f"{service.name}U" if has_both and protocol is Protocol.UDP else service.name)


def plan_spread(service: Service, protocol: Protocol, *, randomize_start: bool) -> list[Chain]:
    """Return the chains that spread connections over those who serve; those below the first bear
    the name of the frontend and two characters more.

    `starts_anywhere` is for a kernel whose counters begin anew whenever anybody changes the table.
    """
    first = spread_chain(service, protocol)
    shares = service.serving
    spread = _Spread(service, protocol)
    rules: list[Rule] = []
    if service.balance in (Balance.RANDOM, Balance.LEAST_CONNECTIONS):
        rules = spread.by_chance(spread.ways(shares))
    elif service.balance is Balance.SOURCE_HASH and shares:
        owners = plan_owners(service.home, shares)
        rules = plan_slots(service, [spread.to(owner) for owner in owners], spread.node)
    else:
        slow = [share for share in shares if share.percent < FULL]
        full = [share for share in shares if share.percent == FULL]
        rest = sum(share.weight * FULL for share in full)
        weighted_round_robin = spread.in_turn(
            [spread.to(s.backend) for s in full], [s.weight for s in full]
        )
        rules = [*spread.by_chance(spread.ways(slow), rest), *weighted_round_robin]
        if randomize_start and len(weighted_round_robin) > 1:
            rules.insert(
                0, spread.anew(_mark_of(service, protocol), service.family, weighted_round_robin)
            )
    if shares:
        rules = [*spread.find_known(), *rules]
    else:
        # The end of nat: no other rule translates it; filter refuses it.
        rules = [Rule(protocol=Protocol.TCP, target=Verdict.ACCEPT)]
    chains = [Chain(first, tuple(rules)), *spread.chains]
    if protocol is Protocol.TCP:
        return chains
    return [Chain(c.name, tuple(_of(protocol, rule) for rule in c.rules)) for c in chains]


def _of(protocol: Protocol, rule: Rule) -> Rule:
    return rule if rule.protocol is None else replace(rule, protocol=protocol)


def _rule(target: Dnat | Jump, statistic: Statistic | None = None) -> Rule:
    # A port needs its protocol. A way on does not, as all that comes here has it; and each match
    # makes a rule longer, where no cache holds all rules of many backends.
    protocol = Protocol.TCP if isinstance(target, Dnat) else None
    return Rule(protocol=protocol, statistic=statistic, target=target)


class _Spread:
    """The chains below the first, as they come to be needed."""

    def __init__(self, service: Service, protocol: Protocol) -> None:
        letters = _AFFINITY_LETTERS[protocol]
        self._affinity = Affinity(service, letters) if service.affinity_s else None
        self._known: dict[Endpoint, Jump] = {}
        self._names = node_names(service.name, _LETTERS[protocol])
        # Ports are mapped only where all binds have one and the same range.
        self._base = service.binds[0].ports.first
        self.chains: list[Chain] = []

    def to(self, backend: Endpoint) -> Dnat | Jump:
        """Return the target that leads to a backend."""
        way = Dnat(backend, self._base if backend.last_port else 0)
        if self._affinity is None:
            return way
        if backend not in self._known:
            chain = self._affinity.remember(way)
            self.chains.append(chain)
            self._known[backend] = Jump(chain.name)
        return self._known[backend]

    def find_known(self) -> list[Rule]:
        """Return rules for clients that come back, none where that makes no difference."""
        if self._affinity is None:
            return []
        rules, chains = self._affinity.find(self.to)
        self.chains += chains
        return rules

    def ways(self, shares: Sequence[Share]) -> list[_Way]:
        """Return the way to each, with how much of all it gets."""
        return [(self.to(share.backend), share.weight * share.percent) for share in shares]

    def node(self, rules: Sequence[Rule]) -> Jump:
        """Put rules into a chain of their own."""
        name = next(self._names)
        self.chains.append(Chain(name, tuple(rules)))
        return Jump(name)

    # Random choice, weights 5, 1 and 1: five in seven to A, half of what is left to B.
    #
    #   -A PARAGLIDER-web -p tcp -m statistic --mode random --probability 0.71428571409 -j DNAT A
    #   -A PARAGLIDER-web -p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT B
    #   -A PARAGLIDER-web -p tcp -j DNAT C

    def by_chance(self, ways: Sequence[_Way], rest: int = 0) -> list[Rule]:
        """Return rules that choose one of `ways` at random, beside a `rest` that follows."""
        ways = self._group(ways)
        rest += sum(weight for _, weight in ways)
        rules = []
        for target, weight in ways:
            chance = Chance(max(1, CERTAIN * weight // rest)) if weight < rest else None
            rules.append(_rule(target, chance))
            rest -= weight
        return rules

    def _group(self, ways: Sequence[_Way]) -> Sequence[_Way]:
        while len(ways) > WIDTH:
            groups = [ways[first : first + WIDTH] for first in range(0, len(ways), WIDTH)]
            ways = [(self.node(self.by_chance(g)), sum(w for _, w in g)) for g in groups]
        return ways

    # Counters that began anew would give the first backend every connection on a host whose rules
    # change all the time. The first packet that they count is taken aside: unless it is the first
    # since these rules were written, which nothing but a mark can tell, it goes anywhere.
    #
    #   -A PARAGLIDER-web -m statistic --mode nth --every 4294967295 --packet 0 -j ...webAb
    #   -A ...webAb -p tcp -m recent --rcheck --name MARK --mask 0.0.0.0 --rsource -j ...webAa
    #   -A ...webAb -p tcp -m recent --set --name MARK --mask 0.0.0.0 --rsource -j RETURN
    #   -A ...webAa ...by chance...

    def anew(self, mark: str, family: Family, weighted_round_robin: Sequence[Rule]) -> Rule:
        """Return the rule that does so; in a tree, anywhere is the first of any branch."""
        anywhere = self.node(self.by_chance(list(_weighed(weighted_round_robin))))
        checked, put = Recent(mark, family), Recent(mark, family, is_set=True)
        aside = self.node(
            [
                Rule(protocol=Protocol.TCP, recent=checked, target=anywhere),
                Rule(protocol=Protocol.TCP, recent=put, target=Verdict.RETURN),
            ]
        )
        return _rule(aside, Nth(EVERY_MOST, 0))

    # Exact turns, in the order of the file. Every third connection goes to A, every second of what
    # is left to B, the rest to C. --packet 0: of those that a rule sees, the first is the one.
    #
    #   -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 3 --packet 0 -j DNAT A
    #   -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 2 --packet 0 -j DNAT B
    #   -A PARAGLIDER-web -p tcp -j DNAT C

    def in_turn(self, targets: Sequence[Dnat | Jump], weights: Sequence[int]) -> list[Rule]:
        """Return rules that give each target its turns."""
        return self._turns(targets, plan_cycle(weights)) if targets else []

    def _turns(self, targets: Sequence[Dnat | Jump], cycle: Sequence[int]) -> list[Rule]:
        line = _line_up(cycle)
        if line is not None:
            return [_rule(targets[index], nth) for nth, index in line]
        # A hundred backends: ten ways, in turn, each to ten of them, in turn, the first way to
        # A1, A11, A21... Of 101, the last is first taken out: every 101st connection is its own.
        alone, ways = _plan_ways(len(cycle))
        size = len(cycle)
        rules = [
            _rule(targets[cycle[place]], Nth(place + 1, place))
            for place in range(size - 1, size - alone - 1, -1)
        ]
        for way in range(ways):
            part = cycle[way : size - alone : ways]
            is_one = len(set(part)) == 1
            target = targets[part[0]] if is_one else self.node(self._turns(targets, part))
            rules.append(_rule(target, Nth(ways - way, 0) if way < ways - 1 else None))
        return rules


def _weighed(weighted_round_robin: Sequence[Rule]) -> Iterator[_Way]:
    """Yield the ways of one chain of turns, each with how much of all goes there."""
    left = CERTAIN
    for rule in weighted_round_robin:
        taken = left // rule.statistic.every if isinstance(rule.statistic, Nth) else left
        left -= taken
        if isinstance(rule.target, Dnat | Jump):
            yield rule.target, max(1, taken)


def _mark_of(service: Service, protocol: Protocol) -> str:
    """Return a name that no other rules have had, before or beside these."""
    text = repr((service.name, protocol, service.bind, service.serving))
    return f"paraglider-{blake2b(text.encode(), digest_size=8).hexdigest()}"


def _line_up(cycle: Sequence[int]) -> list[tuple[Nth | None, int]] | None:
    """Return the turns of one chain: what takes which; None where they are more than fit.

    A backend with evenly spaced places in the cycle is taken out of it by one rule, the rarest
    first; others place by place. What is left at the end goes to one, without a condition.
    """
    left = list(cycle)
    line: list[tuple[Nth | None, int]] = []
    if len(set(left)) > WIDTH:
        return None
    while len(found := _by_rarity(left)) > 1:
        if len(line) + len(found) > WIDTH:
            return None
        even = ((index, find_places(left, index)) for index in found[:-1])
        index, places = next(((i, p) for i, p in even if p), (found[0], None))
        if places is None:
            first = left.index(index)
            line.append((Nth(len(left), first), index))
            del left[first]
        else:
            line.append((Nth(*places), index))
            left = [other for other in left if other != index]
    return [*line, (None, left[0])]


def _by_rarity(cycle: Sequence[int]) -> list[int]:
    return sorted(set(cycle), key=lambda index: (cycle.count(index), index))


@cache
def _plan_ways(size: int) -> tuple[int, int]:
    """Return (alone, ways): how many of `size` places are taken out, and how many ways the others
    go, so that a packet meets few rules."""
    return min(
        (
            (alone, ways)
            for alone in range(min(size - 1, _MOST_WAYS))
            for ways in range(2, _MOST_WAYS + 1)
            if _is_split(size - alone, ways)
        ),
        key=lambda split: _cost(size, *split),
        default=(0, size),
    )


def _is_split(size: int, ways: int) -> bool:
    return size % ways == 0 and (size == ways or size // ways >= _LEAST_LEAF)


def _cost(size: int, alone: int, ways: int) -> float:
    """Return how many rules a packet meets on its way, about; a jump counts as one more."""
    below = (size - alone) // ways
    return alone + (ways + 1) / 2 + (1 + _least_cost(below) if below > 1 else 0)


@cache
def _least_cost(size: int) -> float:
    return (size + 1) / 2 if size <= WIDTH else _cost(size, *_plan_ways(size))
