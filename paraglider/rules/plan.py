"""Plan: the ruleset that a configuration asks for. What Paraglider does to a packet is all here.

Read it from top to bottom. A packet of a client meets it in this order:

1. nat PREROUTING: the first packet of a connection to a frontend gets a backend (`_nat_table`).
   Packets of the host itself meet the same chain in nat OUTPUT.
2. filter FORWARD: packets of balanced connections pass, both ways (`_filter_table`).
3. nat POSTROUTING: the first packet gets the frontend's privateip as its source.

No packet meets the chains in mangle (markers.py), except on a host with several uplinks, where
answers are marked there for their uplink (return_path.py).

A backend may be on this host. Then the packet meets filter INPUT in place of FORWARD, and nat INPUT
in place of POSTROUTING; the rules for it are there only where there is such a backend (`local`).

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

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from paraglider.config.clients import SourceKind
from paraglider.config.model import Address, Bind, Family, Protocol
from paraglider.health.service import Service
from paraglider.rules.access import is_limited, plan_access, plan_entry, refusal
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.invalid import invalid_rules
from paraglider.rules.markers import plan_markers, plan_pin
from paraglider.rules.policy_rules import NO_MARKS
from paraglider.rules.return_path import UNMARK_CHAIN, plan_marking
from paraglider.rules.ruleset import (
    REPLY_CHAIN,
    Chain,
    CtState,
    Hook,
    Jump,
    Network,
    Rule,
    Ruleset,
    Snat,
    Table,
    TableName,
    Target,
    Verdict,
    own_chain,
)
from paraglider.rules.source import plan_source, plan_sources, source_target
from paraglider.rules.spread import plan_spread

DNAT_CHAIN = own_chain("DNAT")
SNAT_CHAIN = own_chain("SNAT")
FORWARD_CHAIN = own_chain("FORWARD")
INPUT_CHAIN = own_chain("INPUT")
INVALID_CHAIN = own_chain("STRAY")
# Where what is sent to any address of this host is looked up, in nat and in filter.
LOCAL_CHAIN = own_chain("LOCAL")

# Each where its chain is: that of nat INPUT only with a backend on this host.
_HOOKS = {
    TableName.FILTER: (
        Hook("DOCKER-USER", FORWARD_CHAIN),
        Hook("FORWARD", FORWARD_CHAIN),
        Hook("INPUT", INPUT_CHAIN),
    ),
    TableName.MANGLE: (
        Hook("FORWARD", UNMARK_CHAIN),
        Hook("INPUT", UNMARK_CHAIN),
        Hook("OUTPUT", REPLY_CHAIN),
        Hook("POSTROUTING", UNMARK_CHAIN),
        Hook("PREROUTING", REPLY_CHAIN),
    ),
    TableName.NAT: (
        Hook("INPUT", INPUT_CHAIN),
        Hook("OUTPUT", DNAT_CHAIN),
        Hook("POSTROUTING", SNAT_CHAIN),
        Hook("PREROUTING", DNAT_CHAIN),
    ),
}
NOBODY: Collection[Address] = frozenset()
_LOOPBACK: Mapping[Family, Network] = {
    Family.IPV4: IPv4Network("127.0.0.0/8"),
    Family.IPV6: IPv6Network("::1/128"),
}


def plan_rulesets(
    services: Sequence[Service],
    *,
    randomize_start: bool = False,
    local: Collection[Address] = NOBODY,
) -> tuple[Ruleset, ...]:
    """Return the wanted ruleset of each address family that `services` use, IPv4 first.

    Where nobody serves, new connections are refused. `starts_anywhere` is for a kernel that counts
    turns anew at every change of the table (iptables-legacy). `local` are the addresses of backends
    that are addresses of this host.
    """
    rulesets = []
    for family in Family:
        own = [service for service in services if service.family is family]
        if own:
            chains = plan_shared(own, local)
            chains[TableName.MANGLE] += plan_markers(own)
            for service in own:
                chains[TableName.NAT] += plan_frontend(service, randomize_start=randomize_start)
            rulesets.append(Ruleset(family, tuple(_table(*found) for found in chains.items())))
    return tuple(rulesets)


def _table(name: TableName, chains: Sequence[Chain]) -> Table:
    in_order = tuple(sorted(chains, key=lambda chain: chain.name))
    return Table(name, plan_hooks(name, [chain.name for chain in chains]), in_order)


def plan_hooks(name: TableName, chains: Collection[str]) -> tuple[Hook, ...]:
    """Return the jumps to our `chains` of a table."""
    return tuple(hook for hook in _HOOKS.get(name, ()) if hook.chain in chains)


def plan_shared(
    services: Sequence[Service],
    local: Collection[Address] = NOBODY,
    marks: Mapping[Network, int] = NO_MARKS,
) -> dict[TableName, list[Chain]]:
    """Return the chains that all `services` share, but for the notes. Of each service they depend
    on its outline alone: name, binds, source, who may connect, the members' addresses, which of
    them are `local`, whether anybody serves, how answers are routed; and on the `marks` that
    answers get."""
    return {
        TableName.FILTER: _filter_chains(services, local),
        TableName.MANGLE: [plan_pin(), *plan_marking(services, marks)],
        TableName.NAT: _nat_chains(services, local),
    }


# -- nat: who gets a new connection, and what backends see -----------------------------------------
#
#   -A PREROUTING -j PARAGLIDER-DNAT
#   -A OUTPUT -j PARAGLIDER-DNAT
#   -A POSTROUTING -j PARAGLIDER-SNAT
#   -A PARAGLIDER-DNAT -d BIND/32 -p tcp -m tcp --dport PORT -j PARAGLIDER-web
#   -A PARAGLIDER-SNAT -p tcp -m conntrack --ctstate DNAT --ctorigdst BIND --ctorigdstport PORT
#                      -j SNAT --to-source PRIVATEIP --random-fully            and others: source.py
#   -A PARAGLIDER-web ...the backends: spread.py; before them, who may connect: access.py
#
# The source is changed for connections that a client sent to BIND:PORT and nobody else's: other
# traffic of the host to the same backend keeps its address. --random-fully, because ports that are
# chosen in order collide when a privateip is used hard. It is changed for a frontend without a
# backend too: connections that run on are still its own.
#
# A bind of any address is looked up last, one of an interface before it:
#
#   -A PARAGLIDER-DNAT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j PARAGLIDER-LOCAL
#   -A PARAGLIDER-LOCAL -i eth0 -p tcp -m tcp --dport PORT -j PARAGLIDER-web
#   -A PARAGLIDER-LOCAL -p tcp -m tcp --dport PORT -j PARAGLIDER-all
#
# never for loopback addresses, whose answers the kernel would drop (route_localnet).
#
# A connection to a backend on this host does not meet POSTROUTING:
#
#   -A INPUT -j PARAGLIDER-INPUT
#   -A PARAGLIDER-INPUT -p tcp -m conntrack --ctstate DNAT --ctorigdst BIND --ctorigdstport PORT
#                       -j SNAT --to-source PRIVATEIP --random-fully
#   -A PARAGLIDER-INPUT -d BACKEND/32 ... -j SNAT --to-source BACKEND --random-fully          `auto`
#
# What the kernel would choose is the address itself (MASQUERADE works in POSTROUTING alone). With
# `keep` there is no rule: conntrack is on the way of every answer.


def plan_frontend(service: Service, *, randomize_start: bool) -> list[Chain]:
    """Return the chains of one frontend alone. Without a backend its chain is an ACCEPT: the
    packet stays as it is and is refused (_filter_chains)."""
    if service.is_leaving:
        return []
    chains = [*plan_access(service), *plan_source(service)]
    for protocol in dict.fromkeys(bind.protocol for bind in service.binds):
        chains += plan_spread(service, protocol, randomize_start=randomize_start)
    return chains


def _nat_chains(services: Sequence[Service], local: Collection[Address]) -> list[Chain]:
    staying = [service for service in services if not service.is_leaving]
    dnat, snat, to_any = Dispatch("DNAT"), Dispatch("SNAT"), Dispatch("LOCAL")
    # Apart: the rules tell which binds the file has (decode.py).
    ways = [_place(b, plan_entry(s, b.protocol), is_apart=True) for s in staying for b in s.binds]
    sources = [(b, source_target(s)) for s in staying for b in s.binds]
    to_source = [_place(bind, target) for bind, target in sources if target is not None]
    at_address, anywhere = _apart(ways)
    chains = [
        Chain(DNAT_CHAIN, (*dnat.rules(at_address, _to_bind), *_to_local(services[0], anywhere))),
        Chain(SNAT_CHAIN, tuple(snat.rules(_once(to_source), _once_to_bind))),
        *plan_sources(staying),
        *_local_source_chains(staying, local),
    ]
    if anywhere:
        chains.append(Chain(LOCAL_CHAIN, tuple(_local_rules(to_any, anywhere, _to_bind))))
    return [*chains, *dnat.chains, *snat.chains, *to_any.chains]


def _local_source_chains(
    services: Sequence[Service], local: Collection[Address]
) -> Iterator[Chain]:
    near = [(s, found) for s in services if (found := local_members(s, local))]
    if not near:
        return
    entry = Dispatch("INPUT")
    fixed = [
        _place(bind, source_target(service))
        for service, _ in near
        if service.source.kind is SourceKind.ADDRESS
        for bind in service.binds
    ]
    rules = entry.rules(_once(fixed), _once_to_bind)
    chosen = [(s, found) for s, found in near if s.source.kind is SourceKind.AUTO]
    for address in dict.fromkeys(a for _, found in chosen for a in found):
        places = [
            _place(b, Snat(address)) for s, found in chosen if address in found for b in s.binds
        ]
        rules += entry.rules(_once(places), partial(_once_to_backend, address))
    yield Chain(INPUT_CHAIN, tuple(rules))
    yield from entry.chains


def local_members(service: Service, local: Collection[Address]) -> tuple[Address, ...]:
    """Return the addresses of the service's backends that are `local`, in the order of the file."""
    addresses = dict.fromkeys(member.backend.address for member in service.members)
    return tuple(address for address in addresses if address in local)


def _place(bind: Bind, target: Target, *, is_apart: bool = False) -> Place:
    return Place(bind.protocol, bind.address, bind.ports, target, is_apart, bind.interface)


def _apart(places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Return those at an address, and those at any."""
    at_address = [place for place in places if place.address is not None]
    return at_address, [place for place in places if place.address is None]


def _once(places: Iterable[Place]) -> list[Place]:
    """Return them as conntrack tells of them: nobody knows any more where they came in."""
    return list(dict.fromkeys(replace(place, interface="") for place in places))


def _to_local(service: Service, anywhere: Sequence[Place]) -> Iterator[Rule]:
    if anywhere:
        loopback = _LOOPBACK[service.family]
        yield Rule(not_destination=loopback, is_to_host=True, target=Jump(LOCAL_CHAIN))


def _local_rules(
    local: Dispatch, places: Sequence[Place], rule_for: Callable[[Area, Target], Rule]
) -> Iterator[Rule]:
    yield from local.rules([place for place in places if place.interface], rule_for)
    yield from local.rules([place for place in places if not place.interface], rule_for)


def _to_bind(area: Area, target: Target) -> Rule:
    """Match packets as clients send them."""
    return Rule(
        destination=area.network,
        interface=area.interface,
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


def _once_to_backend(backend: Address, area: Area, target: Target) -> Rule:
    return replace(_once_to_bind(area, target), destination=backend)


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
# Balanced connections to a backend on this host pass INPUT by the same match, whatever the host's
# firewall says of its own services; only where there is such a backend, and before the shield:
#
#   -A PARAGLIDER-INPUT -m conntrack --ctstate DNAT --ctproto 6 --ctorigdst BIND
#                       --ctorigdstport PORT -j ACCEPT
#
# The shield: while somebody has flushed the nat table, or when conntrack calls a packet INVALID (a
# segment outside the window), a client's packet reaches the host as it was sent. No socket of the
# host knows it, so the host would reset the connection. Dropped, it is sent again and finds the
# rules mended. A backend's INVALID packet is the same thing from the other side; all others pay one
# rule for it, not one per backend. Where backends see the client, such a packet is on its way to
# the client, as from a stranger, and meets the same in FORWARD.
#
# A frontend that no backend serves refuses instead of being silent, and so does one where not
# everybody may connect, as it is told to (access.py):
#
#   -A PARAGLIDER-INPUT -d BIND/32 -p tcp -m tcp --dport PORT -m conntrack --ctstate NEW
#                       -j REJECT --reject-with tcp-reset
#
# in PARAGLIDER-FORWARD too, for a bind that is not an address of this host. A connection that was
# cut is new to conntrack, too, whatever packet comes next; one that runs on is not.
#
# A frontend that is leaving keeps its first rule alone, for the connections that it has.


def _filter_chains(services: Sequence[Service], local: Collection[Address]) -> list[Chain]:
    staying = [service for service in services if not service.is_leaving]
    forward, entry, to_any = Dispatch("FORWARD"), Dispatch("INPUT"), Dispatch("LOCAL")
    near = [service for service in services if local_members(service, local)]
    refused = [
        _place(b, refusal(s, b.protocol), is_apart=True)
        for s in staying
        if not s.serving or is_limited(s)
        for b in s.binds
    ]
    shield = [_place(b, Verdict.DROP) for s in staying for b in s.binds]
    refused_there, refused_anywhere = _apart(refused)
    shield_there, shield_anywhere = _apart(shield)
    to_invalid = Dispatch("STRAY")
    invalid = Rule(protocol=Protocol.TCP, ct_state=CtState.INVALID, target=Jump(INVALID_CHAIN))
    is_kept = any(service.source.kind is SourceKind.KEEP for service in staying)
    accept = forward.rules(_passing(services), _of_connection)
    accept_here = entry.rules(_passing(near), _of_connection)
    refuse_routed = forward.rules(refused_there, _new_to_bind)
    refuse = entry.rules(refused_there, _new_to_bind)
    drop = entry.rules(shield_there, _to_bind)
    to_local = _to_local(services[0], shield_anywhere)
    chains = [
        Chain(FORWARD_CHAIN, (*accept, *refuse_routed, *([invalid] if is_kept else []))),
        Chain(INPUT_CHAIN, (*accept_here, *refuse, *drop, *to_local, invalid)),
        Chain(INVALID_CHAIN, tuple(invalid_rules(staying, to_invalid))),
    ]
    if shield_anywhere:
        refuse_local = _local_rules(to_any, refused_anywhere, _new_to_bind)
        drop_local = _local_rules(to_any, shield_anywhere, _to_bind)
        chains.append(Chain(LOCAL_CHAIN, (*refuse_local, *drop_local)))
    return [*chains, *forward.chains, *entry.chains, *to_invalid.chains, *to_any.chains]


def _passing(services: Iterable[Service]) -> list[Place]:
    return _once(
        _place(bind, Verdict.ACCEPT, is_apart=s.is_leaving) for s in services for bind in s.binds
    )


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
