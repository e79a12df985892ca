"""Plan: the ruleset that a configuration asks for. What Paraglider does to a packet is all here.

Read it from top to bottom. A packet of a client meets it in this order:

1. nat PREROUTING: the first packet of a connection to a frontend gets a backend (`_nat_table`).
   Packets of the host itself meet the same chain in nat OUTPUT.
2. filter FORWARD: packets of balanced connections pass, both ways (`_filter_table`).
3. nat POSTROUTING: the first packet gets the frontend's privateip as its source.

What is in mangle meets no packet (notes.py).

From then on conntrack carries the connection: later packets walk neither nat chain, and a change
of the rules does not move them. What should never happen is caught in filter INPUT: a packet for a
frontend that arrives there was not translated, and the host's own answer to it would be a reset.

Pure: services (frontends, and who of their backends gets new connections) in, values out. Never
put a rule where every packet pays for it once per backend, or for each frontend: where there are
many, a tree of chains is made of the rules shown here (dispatch.py, spread.py). Where nftables runs
the rules, two empty NAT chains beside these keep address translation alive; they do nothing to a
packet (kernel/nat_anchor.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from paraglider.config.model import Address, Family, Ports, Protocol
from paraglider.health.service import Service
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.notes import plan_notes, plan_pin
from paraglider.rules.ruleset import (
    Chain,
    CtState,
    Hook,
    Jump,
    Rule,
    Ruleset,
    Snat,
    Table,
    TableName,
    Target,
    TcpReset,
    Verdict,
    own_chain,
)
from paraglider.rules.spread import plan_spread

DNAT_CHAIN = own_chain("DNAT")
SNAT_CHAIN = own_chain("SNAT")
FORWARD_CHAIN = own_chain("FORWARD")
INPUT_CHAIN = own_chain("INPUT")
STRAY_CHAIN = own_chain("STRAY")

HOOKS = {
    TableName.FILTER: (
        Hook("DOCKER-USER", FORWARD_CHAIN),
        Hook("FORWARD", FORWARD_CHAIN),
        Hook("INPUT", INPUT_CHAIN),
    ),
    TableName.NAT: (
        Hook("OUTPUT", DNAT_CHAIN),
        Hook("POSTROUTING", SNAT_CHAIN),
        Hook("PREROUTING", DNAT_CHAIN),
    ),
}


def plan_rulesets(
    services: Sequence[Service], *, starts_anywhere: bool = False
) -> tuple[Ruleset, ...]:
    """Return the wanted ruleset of each address family that `services` use, IPv4 first.

    Where nobody serves, new connections are refused with a reset. `starts_anywhere` is for a kernel
    that counts turns anew at every change of the table (iptables-legacy).
    """
    rulesets = []
    for family in Family:
        own = [service for service in services if service.family is family]
        if own:
            chains = plan_shared(own)
            chains[TableName.MANGLE] += plan_notes(own)
            for service in own:
                chains[TableName.NAT] += plan_frontend(service, starts_anywhere=starts_anywhere)
            rulesets.append(Ruleset(family, tuple(_table(*found) for found in chains.items())))
    return tuple(rulesets)


def _table(name: TableName, chains: Sequence[Chain]) -> Table:
    in_order = tuple(sorted(chains, key=lambda chain: chain.name))
    return Table(name, HOOKS.get(name, ()), in_order)


def plan_shared(services: Sequence[Service]) -> dict[TableName, list[Chain]]:
    """Return the chains that all `services` share, but for the notes. Of each service they depend
    on its outline alone: name, bind, privateip, the members' addresses, whether anybody serves."""
    return {
        TableName.FILTER: _filter_chains(services),
        TableName.MANGLE: [plan_pin()],
        TableName.NAT: _nat_chains(services),
    }


def frontend_chain(name: str) -> str:
    """Return the name of the chain that spreads the connections of the frontend `name`."""
    return own_chain(name)


# -- nat: who gets a new connection, and what backends see -----------------------------------------
#
#   -A PREROUTING -j PARAGLIDER-DNAT
#   -A OUTPUT -j PARAGLIDER-DNAT
#   -A POSTROUTING -j PARAGLIDER-SNAT
#   -A PARAGLIDER-DNAT -d BIND/32 -p tcp -m tcp --dport PORT -j PARAGLIDER-web
#   -A PARAGLIDER-SNAT -p tcp -m conntrack --ctstate DNAT --ctorigdst BIND --ctorigdstport PORT
#                      -j SNAT --to-source PRIVATEIP --random-fully
#   -A PARAGLIDER-web ...the backends: spread.py
#
# The source is changed for connections that a client sent to BIND:PORT and nobody else's: other
# traffic of the host to the same backend keeps its address. --random-fully, because ports that are
# chosen in order collide when a privateip is used hard. It is changed for a frontend without a
# backend too: connections that run on are still its own.


def plan_frontend(service: Service, *, starts_anywhere: bool) -> list[Chain]:
    """Return the chains of one frontend alone. Without a backend its chain is empty: the packet
    stays as it is and is refused (_filter_chains)."""
    if service.is_leaving:
        return []
    return plan_spread(service, starts_anywhere=starts_anywhere)


def _nat_chains(services: Sequence[Service]) -> list[Chain]:
    staying = [service for service in services if not service.is_leaving]
    dnat, snat = Dispatch("DNAT"), Dispatch("SNAT")
    ways = (_place(service, Jump(frontend_chain(service.name))) for service in staying)
    sources = (_place(service, Snat(service.privateip)) for service in staying)
    return [
        Chain(DNAT_CHAIN, tuple(dnat.rules(ways, _to_bind))),
        Chain(SNAT_CHAIN, tuple(snat.rules(sources, _once_to_bind))),
        *dnat.chains,
        *snat.chains,
    ]


def _place(service: Service, target: Target, *, is_apart: bool = False) -> Place:
    bind = service.bind
    ports = Ports(bind.port, bind.port)
    return Place(Protocol.TCP, bind.address, ports, target, is_apart=is_apart)


def _to_bind(area: Area, target: Target) -> Rule:
    """Match packets as clients send them."""
    return Rule(
        destination=area.network,
        protocol=area.protocol,
        destination_ports=area.ports,
        target=target,
    )


def _once_to_bind(area: Area, target: Target) -> Rule:
    """Match packets that were translated, of connections as clients began them."""
    return Rule(
        protocol=area.protocol,
        ct_state=CtState.DNAT,
        ct_address=area.network,
        ct_ports=area.ports,
        target=target,
    )


# -- filter: balanced connections pass, what was not translated is not answered --------------------
#
#   -A FORWARD -j PARAGLIDER-FORWARD
#   -A DOCKER-USER -j PARAGLIDER-FORWARD                               where Docker has that chain
#   -A INPUT -j PARAGLIDER-INPUT
#   -A PARAGLIDER-FORWARD -m conntrack --ctstate DNAT --ctproto 6 --ctorigdst BIND
#                         --ctorigdstport PORT -j ACCEPT
#   -A PARAGLIDER-INPUT -d BIND/32 -p tcp -m tcp --dport PORT -j DROP                     the shield
#   -A PARAGLIDER-INPUT -p tcp -m conntrack --ctstate INVALID -j PARAGLIDER-STRAY
#   -A PARAGLIDER-STRAY -s BACKEND/32 -d PRIVATEIP/32 -p tcp -j DROP
#
# Docker keeps DOCKER-USER first in FORWARD and moves it there, with the chains that isolate its
# networks behind it, whenever it makes a network: before our own jump, which once was the first.
#
# What passes is the connection, not TCP packets: a router's word that a segment was too big is
# ICMP, belongs to the connection that it is about, and has to reach the client, whose connection
# would stall. Ports of an address that join are one rule: every packet meets this chain.
#
# The shield: while somebody has flushed the nat table, or when conntrack calls a packet INVALID (a
# segment outside the window), a client's packet reaches the host as it was sent. No socket of the
# host knows it, so the host would reset the connection. Dropped, it is sent again and finds the
# rules mended. A backend's INVALID packet is the same thing from the other side; all others pay one
# rule for it, not one per backend.
#
# A frontend that no backend serves refuses instead of being silent:
#
#   -A PARAGLIDER-INPUT -d BIND/32 -p tcp -m tcp --dport PORT -m conntrack --ctstate NEW
#                       -j REJECT --reject-with tcp-reset
#
# in PARAGLIDER-FORWARD too, for a bind that is not an address of this host. A connection that was
# cut is new to conntrack, too, whatever packet comes next; one that runs on is not.
#
# A frontend that is leaving keeps its first rule alone, for the connections that it has.


def _filter_chains(services: Sequence[Service]) -> list[Chain]:
    staying = [service for service in services if not service.is_leaving]
    forward, entry, stray = Dispatch("FORWARD"), Dispatch("INPUT"), Dispatch("STRAY")
    passing = [_place(s, Verdict.ACCEPT, is_apart=s.is_leaving) for s in services]
    refused = [_place(s, TcpReset()) for s in staying if not s.serving]
    shield = [_place(s, Verdict.DROP) for s in staying]
    invalid = Rule(protocol=Protocol.TCP, ct_state=CtState.INVALID, target=Jump(STRAY_CHAIN))
    accept = forward.rules(passing, _of_connection)
    refuse_routed = forward.rules(refused, _new_to_bind)
    refuse = entry.rules(refused, _new_to_bind)
    return [
        Chain(FORWARD_CHAIN, (*accept, *refuse_routed)),
        Chain(INPUT_CHAIN, (*refuse, *entry.rules(shield, _to_bind), invalid)),
        Chain(STRAY_CHAIN, tuple(_stray_rules(staying, stray))),
        *forward.chains,
        *entry.chains,
        *stray.chains,
    ]


def _of_connection(area: Area, target: Target) -> Rule:
    """Match packets of translated connections, and errors about them."""
    return Rule(
        ct_state=CtState.DNAT,
        ct_protocol=area.protocol,
        ct_address=area.network,
        ct_ports=area.ports,
        target=target,
    )


def _new_to_bind(area: Area, target: Target) -> Rule:
    return replace(_to_bind(area, target), ct_state=CtState.NEW)


def _stray_rules(services: Sequence[Service], stray: Dispatch) -> Iterator[Rule]:
    backends: dict[Address, dict[Address, None]] = {}  # of each privateip, in the order of the file
    for service in services:
        addresses = {member.backend.address: None for member in service.members}
        backends.setdefault(service.privateip, {}).update(addresses)
    for privateip, addresses in backends.items():
        places = [Place(Protocol.TCP, a, Ports(1, 65535), Verdict.DROP) for a in addresses]
        yield from stray.rules(places, partial(_stray, privateip))


def _stray(privateip: Address, area: Area, target: Target) -> Rule:
    return Rule(source=area.network, destination=privateip, protocol=Protocol.TCP, target=target)
