"""Invalid packets: what a backend sends that conntrack calls INVALID.

    -A PARAGLIDER-STRAY -s BACKEND/32 -d PRIVATEIP/32 -p tcp -j DROP

Without the second address where backends see several, one that the kernel chooses, or the client.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from paraglider.config.model import Address, Ports, Protocol
from paraglider.health.service import Service
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.ruleset import Rule, Target, Verdict


def invalid_rules(services: Sequence[Service], invalid: Dispatch) -> Iterator[Rule]:
    """Yield the rules of the chain; those below it are put into `stray`."""
    # The backends of each address that they see, in the order of the file.
    backends: dict[Address | None, dict[Address, None]] = {}
    for service in services:
        ranges = service.source.ranges
        seen = ranges[0][0] if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else None
        addresses = {member.backend.address: None for member in service.members}
        backends.setdefault(seen, {}).update(addresses)
    for privateip, addresses in backends.items():
        places = [Place(Protocol.TCP, a, Ports(1, 65535), Verdict.DROP) for a in addresses]
        yield from invalid.rules(places, partial(_stray, privateip))


def _stray(privateip: Address | None, area: Area, target: Target) -> Rule:
    return Rule(source=area.network, destination=privateip, protocol=Protocol.TCP, target=target)
