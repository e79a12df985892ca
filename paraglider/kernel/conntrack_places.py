"""Places: which service, and which of its backends, the ends of a connection belong to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from paraglider.config.model import Bind, Endpoint, Protocol
from paraglider.health.service import Pair, Service
from paraglider.kernel.conntrack_entry import Ends, endpoint_of


class Places:
    """The services of one family and protocol, and what of them an entry is of."""

    def __init__(self, services: Collection[Service], protocol: Protocol) -> None:
        self._areas = [
            (bind, service)
            for service in services
            for bind in service.binds
            if bind.protocol is protocol
        ]
        # Who takes new connections comes first; then the more exact one: an address, then an
        # interface, then any.
        self._areas.sort(key=_order)
        self._found: dict[tuple[bytes, bytes], list[Service]] = {}
        self._pairs: dict[Ends, Pair | None] = {}

    @property
    def binds(self) -> list[Bind]:
        """The binds that entries are sought of."""
        return [bind for bind, _ in self._areas]

    def pair(self, ends: Ends) -> Pair | None:
        """Return the bind and the backend of an entry, None of a stranger's."""
        if ends not in self._pairs:
            # Where it came in is not known any more: of several it is one that has its backend.
            services, to = self.services(ends), endpoint_of(*ends[2:])
            known = ((s.bind, backend) for s in services if (backend := _backend(s, to)))
            other = (services[0].bind, to) if services else None
            self._pairs[ends] = next(known, other)
        return self._pairs[ends]

    def services(self, ends: Ends) -> Sequence[Service]:
        """Return the services that the client connected to, or may have: the most exact first."""
        key = ends[:2]
        if key not in self._found:
            to = endpoint_of(*key)
            areas = [
                (bind, service)
                for bind, service in self._areas
                if bind.address in (None, to.address)
                and bind.ports.first <= to.port <= bind.ports.last
            ]
            is_exact = bool(areas) and areas[0][0].address is not None
            self._found[key] = [service for _, service in areas[: 1 if is_exact else None]]
        return self._found[key]


def _order(area: tuple[Bind, Service]) -> tuple[bool, bool, bool]:
    bind, service = area
    return service.is_leaving, bind.address is None, not bind.interface


def _backend(service: Service, found: Endpoint) -> Endpoint | None:
    for member in service.members:
        backend = member.backend
        last = backend.last_port or backend.port
        if backend.address == found.address and (
            not backend.port or backend.port <= found.port <= last
        ):
            return backend
    return None
