"""Plan: the ruleset that a configuration asks for. What Paraglider does to a packet is all here.

Read it from top to bottom. A packet of a client meets it in this order:

1. nat PREROUTING: the first packet of a connection to a frontend gets a backend (`_nat_table`).
   Packets of the host itself meet the same chain in nat OUTPUT.
2. filter FORWARD: packets of balanced connections pass, both ways (`_filter_table`).
3. nat POSTROUTING: the first packet gets the frontend's privateip as its source.

From then on conntrack carries the connection: later packets walk neither nat chain, and a change
of the rules does not move them. What should never happen is caught in filter INPUT: a packet for a
frontend that arrives there was not translated, and the host's own answer to it would be a reset.

Pure: a `Config` and the backends that are out of service in, values out. Never put a rule where
every packet pays for it once per backend. (Where nftables runs the rules, two empty NAT chains
beside these keep address translation alive; they do nothing to a packet: kernel/nat_anchor.py.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paraglider.config.model import Config, Endpoint, Family, Frontend
from paraglider.rules.ruleset import (
    Chain,
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

# Whether a backend may be given new connections: (frontend's name, backend) -> bool.
Serving = Callable[[str, Endpoint], bool]


def _always_serving(_frontend: str, _backend: Endpoint) -> bool:
    return True


def plan_rulesets(config: Config, *, is_serving: Serving = _always_serving) -> tuple[Ruleset, ...]:
    """Return the wanted ruleset of each address family that `config` uses, IPv4 first.

    `is_serving` says which backends may be given new connections; where none of a frontend's may,
    its new connections are refused with a reset.
    """
    rulesets = []
    for family in Family:
        frontends = [f for f in config.frontends if f.family is family]
        if frontends:
            serving = [(f, _serving(f, is_serving)) for f in frontends]
            tables = (_filter_table(serving), _mangle_table(), _nat_table(serving))
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


def _nat_table(serving: Iterable[tuple[Frontend, tuple[Endpoint, ...]]]) -> Table:
    dispatch, sources, spreads = [], [], []
    for frontend, backends in serving:
        # Kept without a backend too: connections that run on are still this frontend's.
        sources.append(
            Rule(
                is_tcp=True,
                ct_state=CtState.DNAT,
                ct_original=frontend.bind,
                target=Snat(frontend.privateip),
            )
        )
        chain = frontend_chain(frontend.name)
        dispatch.append(
            Rule(
                destination=frontend.bind.address,
                is_tcp=True,
                destination_port=frontend.bind.port,
                target=Jump(chain),
            )
        )
        spreads.append(Chain(chain, _spread_rules(backends)))
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


def _spread_rules(backends: tuple[Endpoint, ...]) -> tuple[Rule, ...]:
    count = len(backends)
    return tuple(
        Rule(
            is_tcp=True,
            nth=Nth(every, 0) if (every := count - index) > 1 else None,
            target=Dnat(backend),
        )
        for index, backend in enumerate(backends)
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
#   -A PARAGLIDER-INPUT -d BIND/32 -p tcp -m tcp --dport PORT --tcp-flags FIN,SYN,RST,ACK SYN
#                       -j REJECT --reject-with tcp-reset
#
# in PARAGLIDER-FORWARD too, for a bind that is not an address of this host.


def _filter_table(serving: Iterable[tuple[Frontend, tuple[Endpoint, ...]]]) -> Table:
    forward, shield = [], []
    strays: dict[Rule, None] = {}  # one rule where two frontends share a backend, in file order
    for frontend, backends in serving:
        forward.append(
            Rule(
                ct_state=CtState.DNAT,
                ct_is_tcp=True,
                ct_original=frontend.bind,
                target=Verdict.ACCEPT,
            )
        )
        if not backends:
            forward.append(_refusal(frontend.bind))
            shield.append(_refusal(frontend.bind))
        shield.append(
            Rule(
                destination=frontend.bind.address,
                is_tcp=True,
                destination_port=frontend.bind.port,
                target=Verdict.DROP,
            )
        )
        strays |= {_stray(frontend, backend): None for backend in frontend.backends}
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
        is_syn=True,
        target=TcpReset(),
    )


def _stray(frontend: Frontend, backend: Endpoint) -> Rule:
    return Rule(
        source=backend.address,
        destination=frontend.privateip,
        is_tcp=True,
        source_port=backend.port,
        target=Verdict.DROP,
    )


# -- mangle: the pin -------------------------------------------------------------------------------
#
#   -A PARAGLIDER-PIN -m conntrack --ctstate INVALID -j RETURN
#
# No jump leads here; no packet ever meets it. The kernel keeps conntrack switched on in a network
# namespace while a rule refers to it. When somebody flushes nat and filter, this one is left, and
# established connections live on until the rules are back.


def _mangle_table() -> Table:
    pin = Rule(ct_state=CtState.INVALID, target=Verdict.RETURN)
    return Table(TableName.MANGLE, (), (Chain(PIN_CHAIN, (pin,)),))


def _serving(frontend: Frontend, is_serving: Serving) -> tuple[Endpoint, ...]:
    return tuple(b for b in frontend.backends if is_serving(frontend.name, b))


def _sorted(chains: list[Chain]) -> tuple[Chain, ...]:
    return tuple(sorted(chains, key=lambda chain: chain.name))
