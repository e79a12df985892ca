"""Dispatch: the chains in which a packet finds the rule that is for its address and port.

Owns how many rules that takes: a handful in one chain, more in a tree of chains, ten to a chain. A
packet that finds nothing comes back from wherever it was sent to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import count, groupby

from paraglider.config.model import Address, Ports, Protocol
from paraglider.rules.ruleset import Chain, Jump, Network, Rule, Target, own_chain
from paraglider.rules.spread import WIDTH

# Of an address, to tell networks apart: eight of them in a chain.
_BITS = 3
# nf_tables follows 16 jumps (NFT_JUMP_STACK_SIZE), and addresses of IPv6 can be chosen so that each
# network has but one more in it.
_MOST_DEPTH = 4
# Whichever address comes after all that are named, as these go before it.
_ANY = 1 << 128


@dataclass(frozen=True, slots=True)
class Place:
    """Some ports of an address or network (None: whichever), and what becomes of packets there.
    Those of the same `target` may be told of in one rule where their ports join, unless
    `is_apart`. `interface` is where they come in, if that matters."""

    protocol: Protocol
    address: Address | Network | None
    ports: Ports
    target: Target
    is_apart: bool = False
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """What a rule matches: every place in it, and perhaps more. None is whatever it may be."""

    protocol: Protocol | None
    network: Address | Network | None
    ports: Ports | None
    interface: str = ""


# Makes the rule for an area.
RuleFor = Callable[[Area, Target], Rule]


class Dispatch:
    """The chains below one, called `name`, a hyphen and a number, as they come to be needed."""

    def __init__(self, name: str) -> None:
        self._names = (own_chain(f"{name}-{number}") for number in count())
        self.chains: list[Chain] = []

    def rules(self, places: Iterable[Place], rule_for: RuleFor) -> list[Rule]:
        """Return the rules that lead to each of `places`, to be put into a chain."""
        return self._rules(_join(sorted(places, key=_order)), rule_for)

    def _rules(self, places: Sequence[Place], rule_for: RuleFor, depth: int = 0) -> list[Rule]:
        if len(places) <= WIDTH:
            return [rule_for(_area_of([place]), place.target) for place in places]
        rules = []
        for part in _parts(places, is_deep=depth >= _MOST_DEPTH):
            chain = next(self._names)
            rules.append(rule_for(_area_of(part), Jump(chain)))
            self.chains.append(Chain(chain, tuple(self._rules(part, rule_for, depth + 1))))
        return rules


def _order(place: Place) -> tuple[str, str, int, int]:
    return place.protocol.value, place.interface, _number(place), place.ports.first


def _join(places: Sequence[Place]) -> list[Place]:
    """Return the places in order, those that can be told of in one rule in one piece."""
    joined: list[Place] = []
    for place in places:
        last = joined[-1] if joined else None
        if last is not None and _joins(last, place):
            joined[-1] = replace(last, ports=Ports(last.ports.first, place.ports.last))
        else:
            joined.append(place)
    return joined


def _joins(last: Place, place: Place) -> bool:
    return (
        last.ports.last + 1 == place.ports.first
        and last.address == place.address
        and last.target == place.target
        and last.protocol is place.protocol
        and last.interface == place.interface
        and not (last.is_apart or place.is_apart)
    )


def _parts(places: Sequence[Place], *, is_deep: bool) -> Iterator[Sequence[Place]]:
    """Yield parts whose areas do not overlap: protocols, then networks, then ranges of ports; below
    a certain depth just so many at a time."""
    first, last = places[0], places[-1]
    if first.protocol is not last.protocol and not is_deep:
        yield from _split(places, lambda place: place.protocol.number)
    elif first.interface != last.interface:
        yield from _halves(places)
    elif first.address != last.address and not is_deep:
        differing = (_number(first) ^ _number(last)).bit_length()
        yield from _split(places, lambda place: _number(place) >> max(0, differing - _BITS))
    else:
        size = WIDTH
        while size * WIDTH < len(places):
            size *= WIDTH
        yield from (places[start : start + size] for start in range(0, len(places), size))


def _halves(places: Sequence[Place]) -> Iterator[Sequence[Place]]:
    # Interfaces are few.
    size = -(-len(places) // 2)
    yield places[:size]
    yield places[size:]


def _split(places: Sequence[Place], key: Callable[[Place], int]) -> Iterator[Sequence[Place]]:
    yield from (list(part) for _, part in groupby(places, key))


def _number(place: Place) -> int:
    if place.address is None:
        return _ANY
    return int(
        place.address.network_address if isinstance(place.address, Network) else place.address
    )


def _area_of(places: Sequence[Place]) -> Area:
    """Return the smallest area around `places`: a network that has all of them, and the ports from
    the lowest to the highest."""
    protocols = {place.protocol for place in places}
    ports = Ports(min(p.ports.first for p in places), max(p.ports.last for p in places))
    protocol = places[0].protocol if len(protocols) == 1 else None
    interfaces = {place.interface for place in places}
    interface = places[0].interface if len(interfaces) == 1 else ""
    return Area(protocol, _network_of(places), ports if protocol else None, interface)


def _network_of(places: Sequence[Place]) -> Address | Network | None:
    addresses = [place.address for place in places if place.address is not None]
    if len(addresses) < len(places):
        return None
    if len(set(addresses)) == 1:
        (alone,) = set(addresses)
        return None if isinstance(alone, Network) and alone.prefixlen == 0 else alone
    low = min((a.network_address if isinstance(a, Network) else a for a in addresses), key=int)
    high = max((a.broadcast_address if isinstance(a, Network) else a for a in addresses), key=int)
    differing = (int(low) ^ int(high)).bit_length()
    if differing == low.max_prefixlen:
        return None
    return ip_network(f"{low}/{low.max_prefixlen - differing}", strict=False)
