"""Affinity: rules that send a client back to the backend that it had last.

    -A PARAGLIDER-web -p tcp -m set --match-set PARAGLIDER-webKq3Zx src -j PARAGLIDER-webAa
    -A PARAGLIDER-web -p tcp -m set --match-set PARAGLIDER-webT0a9e src -j PARAGLIDER-webAb
    -A PARAGLIDER-web -p tcp -j SET --del-set PARAGLIDER-webB7w1c src              gets none now
    -A PARAGLIDER-web ...turns, each to PARAGLIDER-webAa or PARAGLIDER-webAb: spread.py
    -A PARAGLIDER-webAa -p tcp -j SET --add-set PARAGLIDER-webKq3Zx src --exist --timeout 10800
    -A PARAGLIDER-webAa -p tcp -j DNAT --to-destination A

Each backend has a set of clients (kernel/client_sets.py), which every new connection of theirs puts
them into anew. Only sets of backends that serve are looked into. Whoever finds nothing there and
had another backend before is taken out of its set: once that serves again, the client stays where
it came to meanwhile.

Of many backends, each belongs by its address to one of sixteen groups with a set of its own, so
that a packet need not ask for all of them. Names of sets follow from the frontend's and the
backend's address alone: whatever else the file changes, who was remembered is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from math import ceil
from typing import NamedTuple

from paraglider.config.model import Endpoint, Family, Protocol
from paraglider.health.service import Service
from paraglider.rules.names import hash_letters
from paraglider.rules.ruleset import PREFIX, Dnat, Forget, Jump, Remember, Rule, Target

# More backends, and they are looked for by groups.
_MOST_IN_CHAIN = 10
_GROUPS = 16
# Of a set's name, behind the frontend's: the kernel has room for 31 characters in all.
_SUFFIX_LENGTH = 5

_MOST_CLIENTS = 65_536
# Rules never make the kernel's table of a set grow, only programs do: it is as large at once as it
# will have to be. A bucket holds twelve clients; with four of them on average it is hardly ever
# full. Of many backends each has fewer.
_BUCKETS, _FEW_BUCKETS = 16_384, 4096

# Puts rules into a chain of their own.
Node = Callable[[Sequence[Rule]], Jump]


class ClientSet(NamedTuple):
    """A set of clients, in a table with so many `buckets`, a power of two."""

    name: str
    buckets: int


def client_sets(service: Service) -> frozenset[ClientSet]:
    """Return all sets of clients that the rules of `service` may speak of."""
    if not service.affinity_s or service.is_leaving:
        return frozenset()
    backends = _backends(service)
    if not _is_grouped(backends):
        return frozenset(ClientSet(_set_of(service, b), _BUCKETS) for b in backends)
    groups = {ClientSet(_group_of(service, b), _BUCKETS) for b in backends}
    return frozenset(groups.union(ClientSet(_set_of(service, b), _FEW_BUCKETS) for b in backends))


def render_set(client_set: ClientSet, family: Family) -> str:
    """Return the line that makes ``ipset restore`` create a set of clients."""
    name, buckets = client_set
    kind = "hash:ip family inet" if family is Family.IPV4 else "hash:ip family inet6"
    return f"create {name} {kind} hashsize {buckets} maxelem {_MOST_CLIENTS} timeout 0 forceadd"


def plan_return(service: Service, to: Callable[[Endpoint], Target], node: Node) -> list[Rule]:
    """Return rules that send clients whom a serving backend knows `to` it."""
    backends = _backends(service)
    serving = {share.backend for share in service.serving}

    def among(part: Iterable[Endpoint]) -> Iterator[Rule]:
        part = list(part)
        for backend in part:
            if backend in serving:
                yield _rule(to(backend), client_set=_set_of(service, backend))
        for backend in part:
            if backend not in serving:
                yield _rule(Forget(_set_of(service, backend)))

    if not _is_grouped(backends):
        return list(among(backends))
    groups: dict[str, list[Endpoint]] = {}
    for backend in backends:
        groups.setdefault(_group_of(service, backend), []).append(backend)
    return [
        _rule(node(list(among(part))), client_set=name) for name, part in sorted(groups.items())
    ]


def plan_remember(service: Service, way: Dnat) -> list[Rule]:
    """Return the rules of a chain that goes `way`, and remembers who did."""
    timeout_s = ceil(service.affinity_s)
    names = _sets_of(service, way.to)
    return [*(_rule(Remember(name, timeout_s)) for name in names), _rule(way)]


def _rule(target: Target, *, client_set: str = "") -> Rule:
    return Rule(protocol=Protocol.TCP, client_set=client_set, target=target)


def _backends(service: Service) -> list[Endpoint]:
    """Return those who may have clients, in the order of the file, whoever of them serves."""
    members = (member.backend for member in service.members if not member.is_leaving)
    return list(dict.fromkeys((*members, *(share.backend for share in service.serving))))


def _is_grouped(backends: Sequence[Endpoint]) -> bool:
    return len(backends) > _MOST_IN_CHAIN


def _sets_of(service: Service, backend: Endpoint) -> list[str]:
    names = [_set_of(service, backend)]
    return [*names, _group_of(service, backend)] if _is_grouped(_backends(service)) else names


def _set_of(service: Service, backend: Endpoint) -> str:
    return _name(service, str(backend))


def _group_of(service: Service, backend: Endpoint) -> str:
    group = blake2b(str(backend).encode()).digest()[0] % _GROUPS
    return _name(service, f"IPv{service.family.value} {group}")


def _name(service: Service, of_what: str) -> str:
    """Return the name of a set. By chance two backends of a thousand may share one: their clients
    then return to the first of the two."""
    return f"{PREFIX}{service.name}{hash_letters(of_what, _SUFFIX_LENGTH)}"
