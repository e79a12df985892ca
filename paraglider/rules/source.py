"""Source: what backends see of the connections of a frontend.

One address is a rule of PARAGLIDER-SNAT, and so is `auto`:

    -j SNAT --to-source 172.19.0.4 --random-fully
    -j MASQUERADE --random-fully

Several are a chain of their own, which takes one by chance for each connection, and of more than
sixteen two such choices, one behind the other. The kernel would take a range in one rule, but
chooses by who connects to whom there: one client would have one address at each backend, and with
it no more ports than before.

    -A PARAGLIDER-SOURCES-0123abcd -m statistic --mode random --probability 0.50000000000 -j SNAT A
    -A PARAGLIDER-SOURCES-0123abcd -j SNAT B

With `keep` backends see the client, except of connections whose answers would not come back here:
from a backend itself, and from this host.

    -A PARAGLIDER-webS -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
    -A PARAGLIDER-webS -s BACKEND/32 -j MASQUERADE --random-fully
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from string import ascii_uppercase

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Address, Ports, Protocol
from paraglider.health.service import Service
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.ruleset import (
    CERTAIN,
    Chain,
    Chance,
    Jump,
    Masquerade,
    Rule,
    Snat,
    Target,
    own_chain,
)

SEVERAL = "SOURCES-"
# A file has 256 addresses at most.
_WIDTH = 16

# What a connection may get, with how many of all do.
_Way = tuple[Snat | Jump, int]


def source_target(service: Service) -> Target:
    """Return what becomes of the source of connections."""
    source = service.source
    match source.kind:
        case SourceKind.AUTO:
            return Masquerade()
        case SourceKind.KEEP:
            return Jump(own_chain(f"{service.name}S"))
    addresses = _addresses_of(source)
    return Snat(addresses[0]) if len(addresses) == 1 else Jump(_chain_of(source))


def plan_source(service: Service) -> list[Chain]:
    """Return the chain of one frontend whose backends see the client; none for others."""
    if service.source.kind is not SourceKind.KEEP:
        return []
    dispatch = Dispatch(f"{service.name}S")
    addresses = dict.fromkeys(member.backend.address for member in service.members)
    places = [Place(Protocol.TCP, a, Ports(1, 65535), Masquerade()) for a in addresses]
    own = Rule(is_from_host=True, target=Masquerade())
    rules = (own, *dispatch.rules(places, _from))
    return [Chain(own_chain(f"{service.name}S"), rules), *dispatch.chains]


def plan_sources(services: Iterable[Service]) -> Iterator[Chain]:
    """Yield the chains of each source of several addresses that `services` have."""
    for source in dict.fromkeys(service.source for service in services):
        ways: list[_Way] = [(Snat(address), 1) for address in _addresses_of(source)]
        chain = _chain_of(source)
        if len(ways) > _WIDTH:
            groups = [ways[first : first + _WIDTH] for first in range(0, len(ways), _WIDTH)]
            names = [f"{chain}{letter}" for letter in ascii_uppercase[: len(groups)]]
            for name, group in zip(names, groups, strict=True):
                yield Chain(name, tuple(_by_chance(group)))
            ways = [(Jump(n), len(group)) for n, group in zip(names, groups, strict=True)]
        if len(ways) > 1:
            yield Chain(chain, tuple(_by_chance(ways)))


def _by_chance(ways: Sequence[_Way]) -> Iterator[Rule]:
    rest = sum(weight for _, weight in ways)
    for target, weight in ways:
        chance = Chance(CERTAIN * weight // rest) if weight < rest else None
        yield Rule(statistic=chance, target=target)
        rest -= weight


def _addresses_of(source: Source) -> list[Address]:
    return [first + n for first, last in source.ranges for n in range(int(last) - int(first) + 1)]


def _from(area: Area, target: Target) -> Rule:
    return Rule(source=area.network, target=target)


def _chain_of(source: Source) -> str:
    return own_chain(f"{SEVERAL}{blake2b(str(source).encode(), digest_size=4).hexdigest()}")
