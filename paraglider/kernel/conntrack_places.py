"""Places: which service, and which of its backends, the ends of a connection belong to."""

from __future__ import annotations

from collections.abc import Collection

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
        # The more exact one first: an address, then an interface, then any.
        self._areas.sort(key=lambda area: (area[0].address is None, not area[0].interface))
        self._found: dict[tuple[bytes, bytes], Service | None] = {}
        self._pairs: dict[Ends, Pair | None] = {}

    @property
    def binds(self) -> list[Bind]:
        """The binds that entries are sought of."""
        return [bind for bind, _ in self._areas]

    def find(self, ends: Ends) -> Service | None:
        """Return the service that the client connected to."""
        key = ends[:2]
        if key not in self._found:
            self._found[key] = self._find(endpoint_of(*key))
        return self._found[key]

    def _find(self, to: Endpoint) -> Service | None:
        return next(
            (
                service
                for bind, service in self._areas
                if bind.address in (None, to.address)
                and bind.ports.first <= to.port <= bind.ports.last
            ),
            None,
        )

    def pair(self, ends: Ends) -> Pair | None:
        """Return the bind and the backend of an entry, None of a stranger's."""
        if ends not in self._pairs:
            service = self.find(ends)
            self._pairs[ends] = None if service is None else (service.bind, _backend(service, ends))
        return self._pairs[ends]


def _backend(service: Service, ends: Ends) -> Endpoint:
    found = endpoint_of(*ends[2:])
    for member in service.members:
        backend = member.backend
        last = backend.last_port or backend.port
        if backend.address == found.address and (
            not backend.port or backend.port <= found.port <= last
        ):
            return backend
    return found
