"""Ways: each bind of each golden case, for packets that come there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from paraglider.config.model import Address, Bind, Endpoint, Family
from paraglider.health.service import Service
from tests.golden.case_files import GoldenCase
from tests.walker import Packet, Walker

_CLIENT = {
    Family.IPV4: Endpoint(ip_address("203.0.113.9"), 51000),
    Family.IPV6: Endpoint(ip_address("2001:db8:ffff::9"), 51000),
}
# What backends see of this host where it chooses, and one of its addresses for a bind of any.
_OWN = {Family.IPV4: ip_address("10.0.0.4"), Family.IPV6: ip_address("fd00:2::4")}


@dataclass(frozen=True)
class Way:
    """Where clients of one service come to: the first port of `bind`."""

    case: GoldenCase
    service: Service
    bind: Bind

    def __str__(self) -> str:
        return f"{self.case.name} {self.bind}"

    @property
    def to(self) -> Endpoint:
        """The address and port that clients send to."""
        address = self.bind.address or _OWN[self.service.family]
        return Endpoint(address, self.bind.ports.first)

    @property
    def sources(self) -> list[Address]:
        """The addresses of this host that backends may see."""
        ranges = self.service.source.ranges or [(_OWN[self.service.family],) * 2]
        return [first + n for first, last in ranges for n in range(int(last) - int(first) + 1)]

    def client(self, number: int = 0) -> Endpoint:
        """Return one of many clients."""
        first = _CLIENT[self.service.family]
        return Endpoint(first.address + number, first.port)

    def lands_at(self, backend: Endpoint) -> Endpoint:
        """Return where a backend has connections to the first port."""
        return Endpoint(backend.address, backend.port or self.to.port)

    def packet(self, source: Endpoint, destination: Endpoint, **more: Any) -> Packet:
        """Return a packet that comes in where the bind is."""
        protocol, interface = self.bind.protocol, self.bind.interface
        return Packet(source, destination, protocol=protocol, interface=interface, **more)

    def walker(self) -> Walker:
        """Return a host with the rules of the case, on which no packet was yet."""
        ruleset = next(r for r in self.case.rulesets() if r.family is self.service.family)
        return Walker(
            ruleset, local=[str(self.to.address), *map(str, (*self.case.local, *self.sources))]
        )


def ways_of(case: GoldenCase) -> Iterator[Way]:
    """Yield every bind of every service of a case."""
    for service in case.services():
        for bind in service.binds:
            yield Way(case, service, bind)
