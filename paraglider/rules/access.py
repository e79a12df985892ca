"""Access rules: the clients that may connect to a frontend, and their rate and connection limits.

    -A PARAGLIDER-DNAT -d BIND/32 -p tcp -m tcp --dport PORT -j PARAGLIDER-webG
    -A PARAGLIDER-webG -s 192.0.2.0/24 -j ACCEPT                                            refused
    -A PARAGLIDER-webG -s 198.51.100.0/24 -j PARAGLIDER-webH                               allowed
    -A PARAGLIDER-webG -j ACCEPT                                           refuse all others
    -A PARAGLIDER-webH -m hashlimit --hashlimit-above 10/sec ... --hashlimit-name web.10-sec
                       -j ACCEPT
    -A PARAGLIDER-webH -m connlimit --connlimit-above 20 --connlimit-mask 32 --connlimit-saddr
                       -j ACCEPT
    -A PARAGLIDER-webH -p tcp -j PARAGLIDER-web

ACCEPT here refuses a connection. The packet leaves the nat table untranslated, keeps its original
destination, and matches the refusing rule in filter (plan.py), which counts the packet. Thousands
of networks become a tree of chains (dispatch.py), which is written and removed with the other
rules. An ipset set would be one more object that other programs can remove.
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
    """Return whether a frontend restricts its clients or limits their connections."""
    access = service.access
    return bool(access.allow or access.deny or access.max_connections or access.rate)


def plan_entry(service: Service, protocol: Protocol) -> Jump:
    """Return the jump for the first packet of a connection: to the access rules or the backends."""
    return Jump(_access_chain(service) if is_limited(service) else spread_chain(service, protocol))


def refusal(service: Service, protocol: Protocol) -> Target:
    """Return the target that refuses a connection."""
    if service.access.refuse is Refuse.DROP:
        return Verdict.DROP
    return TcpReset() if protocol is Protocol.TCP else Unreachable(service.family)


def plan_access(service: Service) -> list[Chain]:
    """Return the chains with the access rules; none without access restrictions."""
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
    # Merged: in a tree of chains (dispatch.py), no network lies within another.
    found = merge_networks(networks)
    return [Place(Protocol.TCP, network, _ALL_PORTS, target) for network in found]


def _from(area: Area, target: Target) -> Rule:
    return Rule(source=area.network, target=target)
