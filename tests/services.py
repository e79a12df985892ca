"""Services as most tests want them: one address and port, one privateip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Address, Bind, Endpoint, Ports, Protocol
from paraglider.health.service import Member, Service, Share


def bind_at(endpoint: Endpoint, protocol: Protocol = Protocol.TCP) -> Bind:
    """Return a bind of one address and port."""
    ports = Ports(endpoint.port, endpoint.port)
    return Bind(endpoint.family, ports, protocol, endpoint.address)


def source_of(address: Address) -> Source:
    """Return what backends see where that is one address."""
    return Source(SourceKind.ADDRESS, ((address, address),))


def privateip_of(service: Service) -> Address:
    """Return that address of a service."""
    return service.source.ranges[0][0]


def service_of(
    name: str,
    bind: Endpoint,
    privateip: Address,
    members: Sequence[Member],
    serving: Sequence[Share],
    **more: Any,
) -> Service:
    """Return a service; `more` are fields of it."""
    return Service(
        name, (bind_at(bind),), source_of(privateip), tuple(members), tuple(serving), **more
    )
