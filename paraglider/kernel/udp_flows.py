"""UDP flows: forgotten where the present configuration would not make them.

A flow has no end to wait for, and a sender that does not pause keeps its entry for ever: the old
backend, the old source, and an access that is refused now. Its next packet after this is a new
flow's. Connections of TCP are never touched: they run on as they were made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from paraglider.config.clients import Access, Network, Source, SourceKind, merge_networks
from paraglider.config.model import Address, Endpoint, Protocol
from paraglider.health.service import Health, Service
from paraglider.kernel.conntrack_entries import Cut, Entries, add_up, entries_of
from paraglider.kernel.conntrack_entry import Entry, endpoint_of
from paraglider.kernel.netlink import Netlink

# Those that keep no flow; one that drains keeps its own, to its deadline.
_OUT = (Health.DOWN, Health.DISABLED)


class Flow(NamedTuple):
    """A translated flow: where the client sends `to`, the `backend` that answers, the address of
    the client, and the one that the backend has `seen`."""

    to: Endpoint
    backend: Endpoint
    client: Address
    seen: Address


class UdpFlows:
    """Knows what the services that are in force now, and those before, make of a flow.

    `is_local` says whether this host has an address, `source_for` which it has in the network of
    another one.
    """

    def __init__(
        self,
        *,
        is_local: Callable[[Address], bool],
        source_for: Callable[[Address], Address | None],
        open_netlink: Callable[[], Netlink] = Netlink,
    ) -> None:
        self._is_local = is_local
        self._source_for = source_for
        self._open_netlink = open_netlink
        self._before = set[Source]()

    def know(self, services: Collection[Service]) -> None:
        """Take it that `services` were in force."""
        self._before |= {service.source for service in services}

    def forget_stale(self, services: Collection[Service]) -> Cut:
        """Forget the flows at the binds of `services` that these would not make: to a backend that
        is down (and does not serve all the same), disabled or gone, or to another port of it; from
        another source; of a client that is refused; and those that began before there was a
        frontend, and are translated by nobody. Those of a service that is leaving are stale.

        Raises UnavailableError or PermissionDenied; the same is stale then the next time.
        """
        judges = [_Judge(service, self._has_source) for service in services]
        parts = (
            entries.forget(self._is_stale(entries, judges), is_translated=False)
            for entries in entries_of(services, self._open_netlink, protocols=[Protocol.UDP])
        )
        found = add_up(parts)
        self._before = {service.source for service in services}
        return found

    def _is_stale(self, entries: Entries, judges: Sequence[_Judge]) -> Callable[[Entry], bool]:
        judge_of = {id(judge.service): judge for judge in judges}

        def is_stale(entry: Entry) -> bool:
            services = entries.places.services(entry.ends)
            to, backend = endpoint_of(*entry.ends[:2]), endpoint_of(*entry.ends[2:])
            if to == backend:
                # As it was sent: to this host itself, or, if a bind is of any address, just through
                # it.
                is_ours = not services[0].is_leaving and not to.address.is_loopback
                return is_ours and self._is_local(to.address)
            clients = entries.form.read_clients(entry)
            # Where it came in is not known any more: of several services one has made it.
            return clients is None or not any(
                judge_of[id(service)].would_make(Flow(to, backend, *clients))
                for service in services
            )

        return is_stale

    def _has_source(self, service: Service, flow: Flow) -> bool:
        """Return whether backends see `flow` as `service` has it now."""
        if self._is_local(flow.backend.address) and flow.seen == flow.client:
            return True  # it does not leave this host: nat POSTROUTING does not meet it
        match service.source.kind:
            case SourceKind.ADDRESS:
                return _has(service.source, flow.seen)
            case SourceKind.KEEP if not self._is_masqueraded(service, flow):
                return flow.seen == flow.client
        return self._is_local(flow.seen) and not self._was_given(flow)

    def _is_masqueraded(self, service: Service, flow: Flow) -> bool:
        """Return whether a backend that sees clients does not see this one (rules/source.py)."""
        backends = {member.backend.address for member in service.members}
        return flow.client in backends or self._is_local(flow.client)

    def _was_given(self, flow: Flow) -> bool:
        """Return whether the source of `flow` was named by a file before, and is not the one that
        the kernel would choose. It is asked for no other: what it chooses may not be what
        `source_for` finds, and a flow must not be forgotten at every change for that."""
        was_named = any(_has(source, flow.seen) for source in self._before)
        return was_named and flow.seen != self._source_for(flow.backend.address)


def _has(source: Source, address: Address) -> bool:
    ranges = [
        (int(first), int(last)) for first, last in source.ranges if first.version == address.version
    ]
    return any(first <= int(address) <= last for first, last in ranges)


class _Judge:
    """Says what a service would make of flows."""

    def __init__(self, service: Service, has_source: Callable[[Service, Flow], bool]) -> None:
        self.service = service
        self._has_source = has_source
        serving = [share.backend for share in service.serving]
        able = [m.backend for m in service.members if not (m.is_leaving or m.health in _OUT)]
        self._backends = [*serving, *able]
        self._allow, self._deny = _Networks(service.access.allow), _Networks(service.access.deny)

    def would_make(self, flow: Flow) -> bool:
        """Return whether a packet like the first of `flow` would begin the same."""
        service = self.service
        return (
            not service.is_leaving
            and any(self._leads_to(backend, flow) for backend in self._backends)
            and self._lets_in(service.access, flow.client)
            and self._has_source(service, flow)
        )

    def _leads_to(self, backend: Endpoint, flow: Flow) -> bool:
        port = backend.port or flow.to.port
        if backend.last_port:
            port += flow.to.port - self.service.binds[0].ports.first
        return (backend.address, port) == (flow.backend.address, flow.backend.port)

    def _lets_in(self, access: Access, client: Address) -> bool:
        is_allowed = not access.allow or client in self._allow
        return is_allowed and client not in self._deny


class _Networks:
    """Thousands of networks, in which an address is looked up."""

    def __init__(self, networks: Collection[Network]) -> None:
        self._merged = merge_networks(networks)
        self._firsts = [int(network.network_address) for network in self._merged]

    def __contains__(self, address: Address) -> bool:
        at = bisect_right(self._firsts, int(address)) - 1
        return at >= 0 and address in self._merged[at]
