"""Survey: what of a configuration does not fit this host as it stands.

Each finding is a warning: an address may float here later, a program may be about to end. `check
--strict` makes them errors. Starts no program: `check` needs none, and importing what starts them
is much of its time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from paraglider.config.clients import SourceKind
from paraglider.config.model import Address, Bind, Config, Family, Frontend
from paraglider.kernel.host import Host, Listener, OutgoingPorts

# Addresses that nobody has (RFC 5737, RFC 3849), to ask for the way to the rest of the world.
_ELSEWHERE: Mapping[Family, Address] = {
    Family.IPV4: IPv4Address("192.0.2.1"),
    Family.IPV6: IPv6Address("2001:db8::1"),
}


def survey_host(config: Config, host: Host) -> list[str]:
    """Return one sentence for each thing of `config` that this host does not bear out."""
    listeners = host.read_listeners()
    binds = [(frontend, bind) for frontend in config.frontends for bind in frontend.binds]
    return [
        *(found for frontend in config.frontends for found in _address_findings(frontend, host)),
        *(found for frontend in config.frontends for found in _keep_findings(frontend, host)),
        *(found for it in binds for found in _listener_findings(*it, listeners)),
        *_outgoing_findings([bind for _, bind in binds], host.read_outgoing_ports()),
    ]


def _address_findings(frontend: Frontend, host: Host) -> Iterator[str]:
    addresses = dict.fromkeys(bind.address for bind in frontend.binds)
    for address in addresses:
        if address is not None and not host.is_local(address):
            yield (
                f"{frontend.name}: bind {address} is no address of this host: clients reach it "
                "only if their packets are routed here (an address that moves here later is fine)"
            )
    for interface in dict.fromkeys(bind.interface for bind in frontend.binds):
        if interface and not host.has_interface(interface):
            yield (
                f"{frontend.name}: this host has no interface {interface} (now); a bind is an "
                "address or an interface, and no host name"
            )
    for first, last in frontend.source.ranges:
        within = [first + number for number in range(int(last) - int(first) + 1)]
        away = [one for one in within if one not in addresses and not host.is_local(one)]
        if away:
            several = f" (and {len(away) - 1} more of {first}-{last})" if len(away) > 1 else ""
            yield (
                f"{frontend.name}: privateip {away[0]}{several} is no address of this host: "
                "backends' answers do not come back here, unless they are routed (an address "
                "that moves here later is fine)"
            )


def _keep_findings(frontend: Frontend, host: Host) -> Iterator[str]:
    """Backends that see the client answer it by their own routes, which only they know; those in a
    network where clients come in would do so past this host."""
    if frontend.source.kind is not SourceKind.KEEP:
        return
    for backend in frontend.backends:
        if isinstance(backend.host, str):
            continue
        own, to = host.source_for(backend.host), backend.host
        bind = next((b for b in frontend.binds if own and own == _comes_in_at(b, to, host)), None)
        if bind is not None:
            yield (
                f"{frontend.name}: backend {backend} is in the network of {own}, where clients of "
                f"the bind {bind} come in, and privateip: keep lets it see them: it answers them "
                "past this host, and they know no such connection; use privateip: auto, or another "
                "network"
            )


def _comes_in_at(bind: Bind, backend: Address, host: Host) -> Address | None:
    """Return the address that this host has where clients of a bind come in: those of an interface
    as it would reach `backend` there, those of any address by the way to the rest of the world."""
    if bind.address is not None:
        return bind.address
    if bind.interface:
        return host.source_for(backend, interface=bind.interface)
    return host.source_for(_ELSEWHERE[bind.family])


def _listener_findings(
    frontend: Frontend, bind: Bind, listeners: Collection[Listener]
) -> Iterator[str]:
    ports = sorted({it.port for it in listeners if _is_met(bind, it)})
    if not ports:
        return
    where = f"on {bind}"
    if bind.ports.first != bind.ports.last:
        several = f" and {len(ports) - 1} more" if len(ports) > 1 else ""
        where = f"on port {ports[0]}{several} of {bind}"
    yield (
        f"{frontend.name}: a program of this host listens {where}: its clients will "
        "reach the backends instead, and its open connections stall"
    )


def _outgoing_findings(binds: Sequence[Bind], outgoing: OutgoingPorts) -> Iterator[str]:
    # One range may be many binds': of several addresses, or of both families.
    if found := outgoing.among({bind.ports for bind in binds}):
        added = ",".join(map(str, found))
        kept = f"{outgoing.reserved},{added}" if outgoing.reserved else added
        yield (
            f"this host may use port {added} for connections of its own, which would stall: "
            f"sysctl -w net.ipv4.ip_local_reserved_ports={kept}"
        )


def _is_met(bind: Bind, listener: Listener) -> bool:
    """Return whether the bind takes packets away from a program."""
    # A socket on [::] usually takes IPv4 packets too.
    everywhere = (
        {IPv6Address(0)} if bind.family is Family.IPV6 else {IPv4Address(0), IPv6Address(0)}
    )
    address = listener.address
    return (
        bind.protocol is listener.protocol
        and bind.ports.first <= listener.port <= bind.ports.last
        and (bind.address in (None, address) or address in everywhere)
        and not address.is_loopback
    )
