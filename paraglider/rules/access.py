"""Access: who may open a connection to a frontend, and how many.

    -A PARAGLIDER-DNAT -d BIND/32 -p tcp -m tcp --dport PORT -j PARAGLIDER-webG
    -A PARAGLIDER-webG -s 192.0.2.0/24 -j ACCEPT                                            denied
    -A PARAGLIDER-webG -s 198.51.100.0/24 -j PARAGLIDER-webH                               allowed
    -A PARAGLIDER-webG -j ACCEPT                                                     nobody else is
    -A PARAGLIDER-webH -m hashlimit --hashlimit-above 10/sec ... --hashlimit-name web.10-sec
                       -j ACCEPT
    -A PARAGLIDER-webH -m connlimit --connlimit-above 20 --connlimit-mask 32 --connlimit-saddr
                       -j ACCEPT
    -A PARAGLIDER-webH -p tcp -j PARAGLIDER-web

ACCEPT is the end of the nat table for a packet, and no more: it is not translated, by us or anybody
else, arrives at the host as it was sent, and meets the refusal in filter (plan.py), which counts
it. Thousands of networks make a tree of chains (dispatch.py), written with the rules and gone with
them; a set of ipset would be one more thing that others can take away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paraglider.config.clients import Network, Refuse, merge_networks
from paraglider.config.model import Ports, Protocol
from paraglider.health.service import Service
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.names import short_name
from paraglider.rules.ruleset import (
    Chain,
    Jump,
    Rule,
    Target,
    TcpReset,
    TooMany,
    TooOften,
    Unreachable,
    Verdict,
    own_chain,
)
from paraglider.rules.spread import spread_chain

_ALL_PORTS = Ports(1, 65535)


def is_limited(service: Service) -> bool:
    """Return whether not everybody may connect to a frontend, as often as they like."""
    access = service.access
    return bool(access.allow or access.deny or access.max_connections or access.rate)


def plan_entry(service: Service, protocol: Protocol) -> Jump:
    """Return where the first packet of a connection to a frontend is sent."""
    return Jump(_access_chain(service) if is_limited(service) else spread_chain(service, protocol))


def refusal(service: Service, protocol: Protocol) -> Target:
    """Return what those get who may not connect."""
    if service.access.refuse is Refuse.DROP:
        return Verdict.DROP
    return TcpReset() if protocol is Protocol.TCP else Unreachable(service.family)


def plan_access(service: Service) -> list[Chain]:
    """Return the chains that a connection has to pass; none where everybody may connect."""
    if not is_limited(service):
        return []
    access, dispatch = service.access, Dispatch(f"{short_name(service.name)}G")
    rules = dispatch.rules(_places(access.deny, Verdict.ACCEPT), _from)
    inner = list(_inner_rules(service))
    chains = []
    if access.allow:
        within = own_chain(f"{service.name}H")
        allowed = dispatch.rules(_places(access.allow, Jump(within)), _from)
        rules += [*allowed, Rule(target=Verdict.ACCEPT)]
        chains = [Chain(within, tuple(inner))]
    else:
        rules += inner
    return [Chain(_access_chain(service), tuple(rules)), *chains, *dispatch.chains]


def _access_chain(service: Service) -> str:
    return own_chain(f"{service.name}G")


def _inner_rules(service: Service) -> Iterator[Rule]:
    access = service.access
    if access.rate is not None:
        often = TooOften(access.rate, service.name)
        yield Rule(too_often=often, target=Verdict.ACCEPT)
    if access.max_connections:
        many = TooMany(access.max_connections, service.family)
        yield Rule(too_many=many, target=Verdict.ACCEPT)
    for protocol in dict.fromkeys(bind.protocol for bind in service.binds):
        yield Rule(protocol=protocol, target=Jump(spread_chain(service, protocol)))


def _places(networks: Iterable[Network], target: Target) -> list[Place]:
    # As a tree has them; the kernel has no use for one within another.
    found = merge_networks(networks)
    return [Place(Protocol.TCP, network, _ALL_PORTS, target) for network in found]


def _from(area: Area, target: Target) -> Rule:
    return Rule(source=area.network, target=target)
