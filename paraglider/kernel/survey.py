"""Survey: what of a configuration does not fit this host as it stands.

Each finding is a warning: an address may float here later, a program may be about to end. `check
--strict` makes them errors. Starts no program: `check` needs none, and importing what starts them
is much of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from paraglider.config.clients import SourceKind
from paraglider.config.model import Address, Bind, Config, Family, Frontend, Protocol, ReturnPath
from paraglider.health.service import Service
from paraglider.kernel.finding import Finding
from paraglider.kernel.flow import Flow
from paraglider.kernel.host import FORWARDING, Host, Listener, OutgoingPorts
from paraglider.kernel.routes import find_local
from paraglider.rules.policy_rules import Policy, find_problems

# Addresses that nobody has (RFC 5737, RFC 3849), to ask for the way to the rest of the world.
_ELSEWHERE: Mapping[Family, Address] = {
    Family.IPV4: IPv4Address("192.0.2.1"),
    Family.IPV6: IPv6Address("2001:db8::1"),
}

# A socket on [::] usually takes IPv4 packets too.
_EVERYWHERE: Mapping[Family, Collection[Address]] = {
    Family.IPV4: (IPv4Address(0), IPv6Address(0)),
    Family.IPV6: (IPv6Address(0),),
}
# A host that has fewer for its own connections would soon have none.
_FEWEST_PORTS = 4096


def survey_host(config: Config, host: Host) -> list[str]:
    """Return one sentence for each thing of `config` that this host does not bear out."""
    outgoing = host.read_outgoing_ports()
    # A UDP socket at such a port is mostly one that has asked somebody, and not one to be asked.
    listeners = [
        it
        for it in host.read_listeners()
        if it.protocol is Protocol.TCP or not outgoing.has(it.port)
    ]
    binds = [(frontend, bind) for frontend in config.frontends for bind in frontend.binds]
    is_local = cache(host.is_local)  # many frontends may have the same addresses
    findings = (
        *(found for f in config.frontends for found in _address_findings(f, host, is_local)),
        *(found for f in config.frontends for found in _keep_findings(f, host)),
        *(found for it in binds for found in _listener_findings(*it, listeners)),
        *_outgoing_findings([bind for _, bind in binds], outgoing),
    )
    return list(dict.fromkeys(findings))  # of both families: once


def survey_forwarding(flows: Collection[Flow], host: Host) -> list[Finding]:
    """Return the families that the host does not forward, and the interfaces that do not forward
    what comes in there, though the host forwards.

    Interfaces of IPv4 alone: with IPv6 the setting of an interface says whether the host is a
    router there, and not whether it forwards (ip-sysctl).
    """
    found: dict[str, Finding] = {}
    for family in sorted({flow.family for flow in flows if not flow.is_local}):
        if host.is_off(FORWARDING[family]):
            text = f"IPv{family.value} forwarding is off: no balanced connection is forwarded"
            found[text] = Finding("forwarding-off", text, "", host.forwarding_mend(family))
    for flow in flows:
        if flow.is_local or flow.family is not Family.IPV4:
            continue
        for interface in filter(None, (flow.clients_at, flow.backend_at)):
            setting = f"net/ipv4/conf/{interface}/forwarding"
            if host.is_forwarding(flow.family) and host.is_off(setting):
                found[interface] = Finding(
                    "interface-forwarding",
                    f"the host does not forward what comes in at {interface}: connections to "
                    f"{flow.backend} get no answer",
                    flow.frontend,
                    f"sysctl -w {setting}=1",
                )
    return list(found.values())


def survey_sources(services: Iterable[Service], host: Host) -> list[Finding]:
    """Return the addresses that backends are to see and that this host does not have (any more)."""
    away = (
        (service.name, address)
        for service in services
        if not service.is_leaving
        for address in dict.fromkeys(end for pair in service.source.ranges for end in pair)
        if not host.is_local(address) and address not in {b.address for b in service.binds}
    )
    return [
        Finding(
            "privateip-away",
            f"privateip {address} is not an address of this host: backends' answers do not "
            "reach this host unless they are routed here",
            name,
        )
        for name, address in away
    ]


def survey_policy(frontends: Iterable[Frontend | Service], policy: Policy) -> list[Finding]:
    """Return the policy rules of this host that answers cannot follow (return_path)."""
    binds = [bind for it in frontends if _is_policy_routed(it) for bind in it.binds]
    return [
        Finding("policy-rule", f"answers of balanced connections do not follow {problem}")
        for problem in find_problems(binds, policy)
    ]


def _is_policy_routed(one: Frontend | Service) -> bool:
    if isinstance(one, Service):
        return one.is_policy_routed
    return one.return_path is ReturnPath.POLICY


def _address_findings(
    frontend: Frontend, host: Host, is_local: Callable[[Address], bool]
) -> Iterator[str]:
    addresses = dict.fromkeys(bind.address for bind in frontend.binds)
    for address in addresses:
        if address is not None and not is_local(address):
            yield (
                f"{frontend.name}: bind {address} is not an address of this host: clients reach it "
                "only if their packets are routed here (fine if the address moves here later)"
            )
    for interface in dict.fromkeys(bind.interface for bind in frontend.binds):
        if interface and not host.has_interface(interface):
            yield (
                f"{frontend.name}: this host has no interface {interface} (now); a bind is an "
                "address or an interface, and no host name"
            )
    for first, last in frontend.source.ranges:
        within = [first + number for number in range(int(last) - int(first) + 1)]
        away = [one for one in within if one not in addresses and not is_local(one)]
        if away:
            several = f" (and {len(away) - 1} more of {first}-{last})" if len(away) > 1 else ""
            yield (
                f"{frontend.name}: privateip {away[0]}{several} is not an address of this host: "
                "backends' answers do not reach this host unless they are routed here (fine if "
                "the address moves here later)"
            )


def _keep_findings(frontend: Frontend, host: Host) -> Iterator[str]:
    """Backends that see the client answer it by their own routes, which only they know; those in a
    network where clients come in would do so past this host."""
    if frontend.source.kind is not SourceKind.KEEP:
        return
    for backend in frontend.backends:
        if isinstance(backend.host, str) or find_local([backend.host]):
            continue  # an answer of this host itself is translated like any other
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
    stall = ", and its open connections stall" if bind.protocol is Protocol.TCP else ""
    yield (
        f"{frontend.name}: a program of this host listens {where}: its clients will "
        f"reach the backends instead{stall}"
    )


def _outgoing_findings(binds: Sequence[Bind], outgoing: OutgoingPorts) -> Iterator[str]:
    # One range may be many binds': of several addresses, or of both families.
    wanted = {bind.ports for bind in binds}
    if not (found := outgoing.among(wanted)):
        return
    several = "s" if found[1:] or found[0].first < found[0].last else ""
    added = ",".join(map(str, found))
    message = (
        f"this host may use port{several} {added} for connections of its own, which would stall"
    )
    if outgoing.count() - sum(last - first + 1 for first, last in found) < _FEWEST_PORTS:
        # Without them it could connect to nobody.
        yield f"{message}: take them out of the bind, or out of net.ipv4.ip_local_port_range"
    else:
        kept = ",".join(map(str, (*outgoing.reserved, *found)))
        yield f"{message}: sysctl -w net.ipv4.ip_local_reserved_ports={kept}"


def _is_met(bind: Bind, listener: Listener) -> bool:
    """Return whether the bind takes packets away from a program. Of one on another interface's
    address, a bind of an interface does not."""
    if bind.protocol is not listener.protocol:
        return False
    if not bind.ports.first <= listener.port <= bind.ports.last:
        return False
    address = listener.address
    if address in _EVERYWHERE[bind.family]:
        return True
    if bind.address is None:
        is_of_any = not bind.interface and address.version == bind.family
        return is_of_any and not address.is_loopback
    return address == bind.address
