"""Affinity: rules that send a client back to the backend that it had last.

    -A PARAGLIDER-web -p tcp -m set --match-set PARAGLIDER-webKq3Zx src -j PARAGLIDER-webPa
    -A PARAGLIDER-web -p tcp -m set --match-set PARAGLIDER-webT0a9e src -j PARAGLIDER-webPb
    -A PARAGLIDER-web -p tcp -j SET --del-set PARAGLIDER-webB7w1c src              gets none now
    -A PARAGLIDER-web ...turns, each to PARAGLIDER-webPa or PARAGLIDER-webPb: spread.py
    -A PARAGLIDER-webPa -p tcp -j SET --add-set PARAGLIDER-webKq3Zx src --exist --timeout 10800
    -A PARAGLIDER-webPa -p tcp -j DNAT --to-destination A

Each backend has a set of clients (kernel/client_sets.py), which every new connection of theirs puts
them into anew. Only sets of backends that serve are looked into. A client that is in none of them
and had another backend before is taken out of its set: once that serves again, the client stays
where it came to meanwhile.

Of many backends, each belongs by its address to one of sixteen groups with a set of its own, so
that a packet need not ask for all of them. Names of sets follow from the frontend's and the
backend's address alone: whatever else the file changes, who was remembered is. (In groups they are
others, or clients of before would be in the sets of two backends.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from math import ceil
from typing import NamedTuple

from paraglider.config.model import Endpoint, Family, Protocol
from paraglider.health.service import Service
from paraglider.rules.names import node_names, set_name
from paraglider.rules.ruleset import Chain, Dnat, Forget, Jump, Remember, Rule, Target

# More backends, and they are looked for by groups.
_MOST_IN_CHAIN = 10
_GROUPS = 16
_MOST_CLIENTS = 65_536
# Rules never make the kernel's table of a set grow, only programs do: it is as large at once as it
# will have to be. A bucket holds twelve clients; with four or five of them on average it is hardly
# ever full. Of many backends each has fewer clients.
_BUCKETS, _BUCKETS_OF_MANY = 16_384, 2048
# For how long a client is in a set that no rule says more of. The kernel looks for whose time is
# over in a third of that, three minutes at most; at 0, ten times a second.
_TIMEOUT_S = 600


class ClientSet(NamedTuple):
    """A set of at most `size` clients, in a table with so many `buckets`, a power of two."""

    name: str
    buckets: int
    size: int


def client_sets(service: Service) -> frozenset[ClientSet]:
    """Return all sets of clients that the rules of `service` may speak of."""
    if not service.affinity_s or service.is_leaving:
        return frozenset()
    return frozenset(Affinity(service).sets())


def render_set(client_set: ClientSet, family: Family) -> str:
    """Return the line that makes ``ipset restore`` create a set of clients."""
    kind = "inet" if family is Family.IPV4 else "inet6"
    room = f"hashsize {client_set.buckets} maxelem {client_set.size}"
    how = f"hash:ip family {kind} {room} timeout {_TIMEOUT_S} forceadd"
    return f"create {client_set.name} {how}"


class Affinity:
    """The sets of one service, and the rules that speak of them. `letters` are those that its
    chains, if there are to be any, are named with: which is whose does not depend on who serves."""

    def __init__(self, service: Service, letters: str = "") -> None:
        members = (member.backend for member in service.members if not member.is_leaving)
        serving = [share.backend for share in service.serving]
        backends = list(dict.fromkeys((*members, *serving)))
        self._timeout_s = ceil(service.affinity_s)
        self._serving = frozenset(serving)
        self._groups: dict[str, list[Endpoint]] = {}
        self._group_of: dict[Endpoint, str] = {}
        kind = " in a group" if len(backends) > _MOST_IN_CHAIN else ""
        self._set_of = {backend: set_name(service.name, f"{backend}{kind}") for backend in backends}
        if kind:
            for backend in sorted(backends, key=_number):
                of_group = f"IPv{service.family.value} {_number(backend)}"
                group = set_name(service.name, of_group)
                self._groups.setdefault(group, []).append(backend)
                self._group_of[backend] = group
        names = node_names(service.name, letters)
        self._chains = dict(zip((*backends, *self._groups), names, strict=False))

    def sets(self) -> Iterator[ClientSet]:
        """Yield all sets."""
        buckets = _BUCKETS_OF_MANY if self._groups else _BUCKETS
        for name in self._set_of.values():
            yield ClientSet(name, buckets, _MOST_CLIENTS)
        for name, group in self._groups.items():
            times = 1 << (len(group) - 1).bit_length()
            yield ClientSet(name, times * _BUCKETS_OF_MANY, times * _MOST_CLIENTS)

    def remember(self, way: Dnat) -> Chain:
        """Return the chain that goes `way`, and remembers who did."""
        names = [self._set_of[way.to]]
        if self._groups:
            names.append(self._group_of[way.to])
        rules = [_rule(Remember(name, self._timeout_s)) for name in names]
        return Chain(self._chains[way.to], (*rules, _rule(way)))

    def find(self, to: Callable[[Endpoint], Target]) -> tuple[list[Rule], list[Chain]]:
        """Return rules that send clients whom a serving backend knows `to` it, and the chains
        below them."""
        if not self._groups:
            return self._among(self._set_of, to), []
        rules = [_rule(Jump(self._chains[name]), client_set=name) for name in self._groups]
        chains = [
            Chain(self._chains[name], tuple(self._among(group, to)))
            for name, group in self._groups.items()
        ]
        return rules, chains

    def _among(self, backends: Iterable[Endpoint], to: Callable[[Endpoint], Target]) -> list[Rule]:
        known = [
            _rule(to(backend), client_set=self._set_of[backend])
            for backend in backends
            if backend in self._serving
        ]
        gone = [backend for backend in backends if backend not in self._serving]
        return [*known, *(_rule(Forget(self._set_of[backend])) for backend in gone)]


def _rule(target: Target, *, client_set: str = "") -> Rule:
    return Rule(protocol=Protocol.TCP, client_set=client_set, target=target)


def _number(backend: Endpoint) -> int:
    """Return the number of the group that a backend of many belongs to."""
    return blake2b(str(backend).encode()).digest()[0] % _GROUPS
