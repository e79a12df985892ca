"""Plan: the ruleset that a configuration asks for. What Paraglider does to a packet is all here.

Read it from top to bottom. A packet of a client meets it in this order:

1. nat PREROUTING: the first packet of a connection to a frontend gets a backend (`_nat_table`).
   Packets of the host itself meet the same chain in nat OUTPUT.
2. filter FORWARD: packets of balanced connections pass, both ways (`_filter_table`).
3. nat POSTROUTING: the first packet gets the frontend's privateip as its source.

From then on conntrack carries the connection: later packets walk neither nat chain, and a change
of the rules does not move them. What should never happen is caught in filter INPUT: a packet for a
frontend that arrives there was not translated, and the host's own answer to it would be a reset.

Pure: services (frontends, and who of their backends gets new connections) in, values out. Never
put a rule where every packet pays for it once per backend. (Where nftables runs the rules, two
empty NAT chains beside these keep address translation alive; they do nothing to a packet:
kernel/nat_anchor.py.)
"""

from __future__ import annotations

from collections.abc import Sequence

from paraglider.config.model import Endpoint, Family
from paraglider.health.service import FULL, Health, Member, Service, Share
from paraglider.rules.ruleset import (
    CERTAIN,
    Chain,
    Chance,
    CtState,
    Dnat,
    Hook,
    Jump,
    Nth,
    Rule,
    Ruleset,
    Snat,
    Table,
    TableName,
    TcpReset,
    Verdict,
    own_chain,
)

DNAT_CHAIN = own_chain("DNAT")
SNAT_CHAIN = own_chain("SNAT")
FORWARD_CHAIN = own_chain("FORWARD")
INPUT_CHAIN = own_chain("INPUT")
STRAY_CHAIN = own_chain("STRAY")
PIN_CHAIN = own_chain("PIN")

# Unreferenced chains that remember why a backend gets no connections, one for each reason.
NOTE_CHAINS = {
    health: own_chain(health.name) for health in (Health.DISABLED, Health.DOWN, Health.DRAINING)
}


def plan_rulesets(services: Sequence[Service]) -> tuple[Ruleset, ...]:
    """Return the wanted ruleset of each address family that `services` use, IPv4 first.

    Where nobody serves, new connections are refused with a reset.
    """
    rulesets = []
    for family in Family:
        own = [service for service in services if service.family is family]
        if own:
            tables = (_filter_table(own), _mangle_table(own), _nat_table(own))
            rulesets.append(Ruleset(family, tables))
    return tuple(rulesets)


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
#   -A PARAGLIDER-web ...the backends, see _spread_rules...
#
# The source is changed for connections that a client sent to BIND:PORT and nobody else's: other
# traffic of the host to the same backend keeps its address. --random-fully, because ports that are
# chosen in order collide when a privateip is used hard.


def _nat_table(services: Sequence[Service]) -> Table:
    dispatch, sources, spreads = [], [], []
    for service in services:
        if service.is_leaving:
            continue
        # Kept without a backend too: connections that run on are still this frontend's.
        sources.append(
            Rule(
                is_tcp=True,
                ct_state=CtState.DNAT,
                ct_original=service.bind,
                target=Snat(service.privateip),
            )
        )
        chain = frontend_chain(service.name)
        dispatch.append(
            Rule(
                destination=service.bind.address,
                is_tcp=True,
                destination_port=service.bind.port,
                target=Jump(chain),
            )
        )
        spreads.append(Chain(chain, _spread_rules(service.serving)))
    hooks = (
        Hook("OUTPUT", DNAT_CHAIN),
        Hook("POSTROUTING", SNAT_CHAIN),
        Hook("PREROUTING", DNAT_CHAIN),
    )
    chains = [Chain(DNAT_CHAIN, tuple(dispatch)), Chain(SNAT_CHAIN, tuple(sources)), *spreads]
    return Table(TableName.NAT, hooks, _sorted(chains))


# Exact round robin over three backends, in the order of the file:
#
#   -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 3 --packet 0 -j DNAT --to-destination A
#   -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination B
#   -A PARAGLIDER-web -p tcp -j DNAT --to-destination C
#
# Every third connection goes to A, every second of what is left to B, the rest to C. --packet 0: of
# those that a rule sees, the first is the one that it takes.
# Without a backend the chain is empty: the packet stays as it is and is refused (_filter_table).
#
# A backend that starts slowly stands first and takes its smaller share at random, here a tenth of
# what an equal would get beside two; the others stay in turn:
#
#   -A PARAGLIDER-web -p tcp -m statistic --mode random --probability 0.04761904757 -j DNAT ...


def _spread_rules(serving: Sequence[Share]) -> tuple[Rule, ...]:
    slow = [share for share in serving if share.percent < FULL]
    rest = sum(share.percent for share in serving)
    rules = []
    for share in slow:
        chance = Chance(max(1, CERTAIN * share.percent // rest)) if rest > share.percent else None
        rules.append(Rule(is_tcp=True, statistic=chance, target=Dnat(share.backend)))
        rest -= share.percent
    full = [share.backend for share in serving if share.percent == FULL]
    for index, backend in enumerate(full):
        every = len(full) - index
        turn = Nth(every, 0) if every > 1 else None
        rules.append(Rule(is_tcp=True, statistic=turn, target=Dnat(backend)))
    return tuple(rules)


# -- filter: balanced connections pass, what was not translated is not answered --------------------
#
#   -A FORWARD -j PARAGLIDER-FORWARD
#   -A DOCKER-USER -j PARAGLIDER-FORWARD                               where Docker has that chain
#   -A INPUT -j PARAGLIDER-INPUT
#   -A PARAGLIDER-FORWARD -m conntrack --ctstate DNAT --ctproto 6 --ctorigdst BIND
#                         --ctorigdstport PORT -j ACCEPT
#   -A PARAGLIDER-INPUT -d BIND/32 -p tcp -m tcp --dport PORT -j DROP                     the shield
#   -A PARAGLIDER-INPUT -p tcp -m conntrack --ctstate INVALID -j PARAGLIDER-STRAY
#   -A PARAGLIDER-STRAY -s BACKEND/32 -d PRIVATEIP/32 -p tcp -m tcp --sport PORT -j DROP
#
# Docker keeps DOCKER-USER first in FORWARD and moves it there, with the chains that isolate its
# networks behind it, whenever it makes a network: before our own jump, which once was the first.
#
# What passes is the connection, not TCP packets: a router's word that a segment was too big is
# ICMP, belongs to the connection that it is about, and has to reach the client, whose connection
# would stall.
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


def _filter_table(services: Sequence[Service]) -> Table:
    forward, shield = [], []
    strays: dict[Rule, None] = {}  # one rule where two frontends share a backend, in file order
    for service in services:
        forward.append(
            Rule(
                ct_state=CtState.DNAT,
                ct_is_tcp=True,
                ct_original=service.bind,
                target=Verdict.ACCEPT,
            )
        )
        if service.is_leaving:
            continue
        if not service.serving:
            forward.append(_refusal(service.bind))
            shield.append(_refusal(service.bind))
        shield.append(
            Rule(
                destination=service.bind.address,
                is_tcp=True,
                destination_port=service.bind.port,
                target=Verdict.DROP,
            )
        )
        strays |= {_stray(service, member): None for member in service.members}
    invalid = Rule(is_tcp=True, ct_state=CtState.INVALID, target=Jump(STRAY_CHAIN))
    hooks = (
        Hook("DOCKER-USER", FORWARD_CHAIN),
        Hook("FORWARD", FORWARD_CHAIN),
        Hook("INPUT", INPUT_CHAIN),
    )
    chains = [
        Chain(FORWARD_CHAIN, tuple(forward)),
        Chain(INPUT_CHAIN, (*shield, invalid)),
        Chain(STRAY_CHAIN, tuple(strays)),
    ]
    return Table(TableName.FILTER, hooks, _sorted(chains))


def _refusal(bind: Endpoint) -> Rule:
    return Rule(
        destination=bind.address,
        is_tcp=True,
        destination_port=bind.port,
        ct_state=CtState.NEW,
        target=TcpReset(),
    )


def _stray(service: Service, member: Member) -> Rule:
    return Rule(
        source=member.backend.address,
        destination=service.privateip,
        is_tcp=True,
        source_port=member.backend.port,
        target=Verdict.DROP,
    )


# -- mangle: the pin, and notes --------------------------------------------------------------------
#
#   -A PARAGLIDER-PIN -m conntrack --ctstate INVALID -j RETURN
#   -A PARAGLIDER-DOWN -s BACKEND/32 -p tcp -m tcp --sport PORT -m conntrack --ctorigdst BIND
#                      --ctorigdstport PORT -j RETURN
#   -A PARAGLIDER-DRAINING ...the same... -m comment --comment until-1766000000 -j RETURN
#
# No jump leads here; no packet ever meets it. The kernel keeps conntrack switched on in a network
# namespace while a rule refers to it. When somebody flushes nat and filter, the pin is left, and
# established connections live on until the rules are back.
#
# The notes are for who comes after an agent that was killed: which backends get no connections, and
# why (the chain's name), which the rules that act cannot say. A chain is there while it has a rule.


def _mangle_table(services: Sequence[Service]) -> Table:
    pin = Rule(ct_state=CtState.INVALID, target=Verdict.RETURN)
    chains = [Chain(PIN_CHAIN, (pin,))]
    for health, name in NOTE_CHAINS.items():
        members = [(s, m) for s in services for m in s.members if m.health is health]
        if members:
            chains.append(Chain(name, tuple(_note(*found) for found in members)))
    return Table(TableName.MANGLE, (), _sorted(chains))


def _note(service: Service, member: Member) -> Rule:
    return Rule(
        source=member.backend.address,
        is_tcp=True,
        source_port=member.backend.port,
        ct_original=service.bind,
        until_s=member.until_s,
        target=Verdict.RETURN,
    )


def _sorted(chains: list[Chain]) -> tuple[Chain, ...]:
    return tuple(sorted(chains, key=lambda chain: chain.name))
