"""Flow: a balanced connection as other programs' rules see it, hook by hook.

Pure. A value that is not known (the client's address, always) is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from paraglider.config.clients import SourceKind
from paraglider.config.model import Address, Family, Protocol
from paraglider.health.service import Service
from paraglider.kernel.routes import Route

# More than that are not looked at: firewalls seldom tell backends apart.
_MOST = 200
# Where NAT stands among the chains of a hook, and where connections begin to be tracked
# (linux/netfilter_ipv4.h).
DST_NAT, SRC_NAT, CONNTRACK = -100, 100, -200


class Hook(StrEnum):
    """Where rules are met (nft(8))."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet, as far as it is known. `state` is the connection's: new, established, or invalid
    where it is not tracked yet. `original` is what the client sent it to."""

    family: Family
    protocol: Protocol
    state: str
    is_reply: bool
    is_translated: bool
    source: Address | None = None
    destination: Address | None = None
    source_port: int | None = None
    destination_port: int | None = None
    comes_in_at: str | None = None
    goes_out_at: str | None = None
    original: Address | None = None
    original_port: int | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """Connections to one backend through one bind. `clients_at` and `backend_at` are interfaces,
    '' where unknown; `seen_as` is the one address that the backend sees, None if it varies; `own`
    the one that this host has on the way to it."""

    frontend: str
    family: Family
    protocol: Protocol
    bind: Address | None
    bind_port: int
    backend: Address
    backend_port: int
    is_local: bool
    clients_at: str = ""
    backend_at: str = ""
    source: SourceKind = SourceKind.AUTO
    seen_as: Address | None = None
    own: Address | None = None

    def hooks(self, *, is_reply: bool) -> tuple[Hook, ...]:
        """Return the hooks that its packets pass, in order."""
        if not self.is_local:
            return (Hook.PREROUTING, Hook.FORWARD, Hook.POSTROUTING)
        if is_reply:
            return (Hook.OUTPUT, Hook.POSTROUTING)
        return (Hook.PREROUTING, Hook.INPUT)

    def packet(self, hook: Hook, priority: int, *, is_reply: bool) -> Packet:
        """Return its first packet, or the backend's answer, as a chain there sees it."""
        is_early = hook in (Hook.PREROUTING, Hook.OUTPUT)
        is_tracked = not is_early or priority >= CONNTRACK
        tracked = "established" if is_reply else "new"
        packet = Packet(
            self.family,
            self.protocol,
            tracked if is_tracked else "invalid",
            is_reply=is_reply,
            is_translated=is_tracked and (is_reply or not is_early or priority > DST_NAT),
            original=self.bind if is_tracked else None,
            original_port=self.bind_port if is_tracked else None,
        )
        return self._answer(packet, hook, priority) if is_reply else self._first(packet, hook)

    def _first(self, packet: Packet, hook: Hook) -> Packet:
        is_in = hook in (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD)
        packet = replace(
            packet,
            comes_in_at=(self.clients_at or None) if is_in else None,
            goes_out_at=(self.backend_at or None) if hook in _LEAVING else None,
        )
        if packet.is_translated:
            return replace(packet, destination=self.backend, destination_port=self.backend_port)
        return replace(packet, destination=self.bind, destination_port=self.bind_port)

    def _answer(self, packet: Packet, hook: Hook, priority: int) -> Packet:
        is_in = hook in (Hook.PREROUTING, Hook.FORWARD)
        is_early = hook in (Hook.PREROUTING, Hook.OUTPUT)
        packet = replace(
            packet,
            source=self.backend,
            source_port=self.backend_port,
            comes_in_at=(self.backend_at or None) if is_in else None,
            destination=self.seen_as if is_early and priority <= DST_NAT else None,
        )
        if hook is Hook.POSTROUTING and priority > SRC_NAT:
            return replace(packet, source=self.bind, source_port=self.bind_port)
        return packet


_LEAVING = (Hook.FORWARD, Hook.POSTROUTING)


def flows_of(
    services: Iterable[Service],
    routes: Mapping[Address, Route],
    interfaces: Mapping[Address, str],
) -> list[Flow]:
    """Return the flows of `services`; `routes` lead to their backends, `interfaces` are where this
    host has its addresses."""
    found = (flow for s in services if not s.is_leaving for flow in _flows(s, routes, interfaces))
    return list(islice(dict.fromkeys(found), _MOST))


def _flows(
    service: Service, routes: Mapping[Address, Route], interfaces: Mapping[Address, str]
) -> Iterator[Flow]:
    ranges = service.source.ranges
    seen_as = ranges[0][0] if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else None
    for bind in service.binds:
        at = bind.interface or (interfaces.get(bind.address, "") if bind.address else "")
        for member in service.members:
            route = routes.get(member.backend.address)
            if route is None:
                continue  # nobody can tell which way it would go
            yield Flow(
                service.name,
                service.family,
                bind.protocol,
                bind.address,
                bind.ports.first,
                member.backend.address,
                member.backend.port or bind.ports.first,
                route.is_local,
                "" if at == "lo" else at,
                "" if route.is_local else route.interface,
                service.source.kind,
                seen_as,
                route.source,
            )
