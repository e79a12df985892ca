"""Source: what backends see of the connections of a frontend.

One address is a rule of PARAGLIDER-SNAT, and so is a range, of which the kernel takes one for each
connection, and `auto`:

    -j SNAT --to-source 172.19.0.4 --random-fully
    -j SNAT --to-source 172.19.0.4-172.19.0.9 --random-fully
    -j MASQUERADE --random-fully

Several ranges are a chain of their own, chosen from by how many addresses they have. With `keep`
backends see the client, except of connections whose answers would not come back here: from a
backend itself, and from this host.

    -A PARAGLIDER-webS -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
    -A PARAGLIDER-webS -s BACKEND/32 -j MASQUERADE --random-fully
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from paraglider.config.clients import AddressRange, Source, SourceKind
from paraglider.config.model import Ports, Protocol
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


def source_target(service: Service) -> Target:
    """Return what becomes of the source of connections."""
    source = service.source
    match source.kind:
        case SourceKind.AUTO:
            return Masquerade()
        case SourceKind.KEEP:
            return Jump(own_chain(f"{service.name}S"))
    return _snat(source.ranges[0]) if len(source.ranges) == 1 else Jump(_chain_of(source))


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
    """Yield the chain of each source of several ranges that `services` have."""
    for source in dict.fromkeys(service.source for service in services):
        if len(source.ranges) > 1:
            yield Chain(_chain_of(source), tuple(_several(source.ranges)))


def _several(ranges: tuple[AddressRange, ...]) -> Iterator[Rule]:
    sizes = [int(last) - int(first) + 1 for first, last in ranges]
    rest = sum(sizes)
    for found, size in zip(ranges, sizes, strict=True):
        chance = Chance(CERTAIN * size // rest) if size < rest else None
        yield Rule(statistic=chance, target=_snat(found))
        rest -= size


def _snat(found: AddressRange) -> Snat:
    first, last = found
    return Snat(first, None if first == last else last)


def _from(area: Area, target: Target) -> Rule:
    return Rule(source=area.network, target=target)


def _chain_of(source: Source) -> str:
    return own_chain(f"{SEVERAL}{blake2b(str(source).encode(), digest_size=4).hexdigest()}")
