"""Survey: what of a configuration does not fit this host as it stands.

Each finding is a warning: an address may float here later, a program may be about to end. `check
--strict` makes them errors. Starts no program: `check` needs none, and importing what starts them
is much of its time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address

from paraglider.config.model import Address, Config, Endpoint, Family, Frontend
from paraglider.kernel.host import Host, OutgoingPorts


def survey_host(config: Config, host: Host) -> list[str]:
    """Return one sentence for each thing of `config` that this host does not bear out."""
    listeners = host.read_listeners()
    return [
        *(f for frontend in config.frontends for f in _address_findings(frontend, host)),
        *(_listener_finding(f) for f in config.frontends if _is_listened_on(f.bind, listeners)),
        *_outgoing_findings(config, host.read_outgoing_ports()),
    ]


def _address_findings(frontend: Frontend, host: Host) -> Iterator[str]:
    bind, privateip = frontend.bind, frontend.privateip
    if not host.is_local(bind.address):
        yield (
            f"{frontend.name}: bind {bind.address} is no address of this host: clients reach it "
            "only if their packets are routed here (an address that moves here later is fine)"
        )
    if privateip != bind.address and not host.is_local(privateip):
        yield (
            f"{frontend.name}: privateip {privateip} is no address of this host: backends' answers "
            "do not come back here, unless they are routed (an address that moves here later is "
            "fine)"
        )


def _listener_finding(frontend: Frontend) -> str:
    return (
        f"{frontend.name}: a program of this host listens on {frontend.bind}: its clients will "
        "reach the backends instead, and its open connections stall"
    )


def _outgoing_findings(config: Config, outgoing: OutgoingPorts) -> Iterator[str]:
    ports = outgoing.among({frontend.bind.port for frontend in config.frontends})
    if ports:
        added = ",".join(str(port) for port in ports)
        kept = f"{outgoing.reserved},{added}" if outgoing.reserved else added
        yield (
            f"this host may use port {added} for connections of its own, which would stall: "
            f"sysctl -w net.ipv4.ip_local_reserved_ports={kept}"
        )


def _is_listened_on(bind: Endpoint, listeners: Collection[tuple[Address, int]]) -> bool:
    # A socket on [::] usually takes IPv4 connections too.
    everywhere = (
        [IPv6Address(0)] if bind.family is Family.IPV6 else [IPv4Address(0), IPv6Address(0)]
    )
    return any((address, bind.port) in listeners for address in (bind.address, *everywhere))
