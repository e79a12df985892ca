"""Affinity: rules that send a returning client to its previous backend.

    -A PARAGLIDER-web -p tcp -m set --match-set PARAGLIDER-webKq3Zx src -j PARAGLIDER-webPa
    -A PARAGLIDER-web -p tcp -m set --match-set PARAGLIDER-webT0a9e src -j PARAGLIDER-webPb
    -A PARAGLIDER-web -p tcp -j SET --del-set PARAGLIDER-webB7w1c src         out of service
    -A PARAGLIDER-web ...round robin to PARAGLIDER-webPa and PARAGLIDER-webPb: spread.py
    -A PARAGLIDER-webPa -p tcp -j SET --add-set PARAGLIDER-webKq3Zx src --exist --timeout 10800
    -A PARAGLIDER-webPa -p tcp -j DNAT --to-destination A

Each backend has an ipset set of clients (kernel/client_sets.py). Each new connection adds its
client to the set of its backend, or restarts the timeout of the entry. The rules match only the
sets of backends in service. A client in none of these sets is removed from the sets of the backends
out of service: when its previous backend returns, the client keeps its current one.

With more than ten backends, a hash of the address puts each backend into one of sixteen groups.
Each group has a set too, so that a packet is not compared with the set of every backend. The name
of a set depends only on the frontend's name and the backend's address, so that other changes in the
file lose no entries. Groups use other names for the backends' sets; otherwise a client from before
the groups could be in the sets of two backends.
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

# With more backends than this, the rules match groups first.
_MOST_IN_CHAIN = 10
_GROUPS = 16
_MOST_CLIENTS = 65_536
# The SET target never makes the kernel's hash table of a set grow, only programs do, so each set is
# created at its final size. A bucket holds 12 clients; with four or five on average it is almost
# never full. With many backends each has fewer clients.
_BUCKETS, _BUCKETS_OF_MANY = 16_384, 2048
# The default timeout of an entry, for entries without their own. The kernel removes expired entries
# every third of this time, at least every three minutes; with 0, ten times a second.
_TIMEOUT_S = 600


class ClientSet(NamedTuple):
    """A set of at most `size` clients, in a hash table of `buckets` buckets, a power of two."""

    name: str
    buckets: int
    size: int


def client_sets(service: Service) -> frozenset[ClientSet]:
    """Return all sets of clients that the rules of `service` may use."""
    if not service.affinity_s or service.is_leaving:
        return frozenset()
    return frozenset(Affinity(service).sets())


def render_set(client_set: ClientSet, family: Family) -> str:
    """Return the line of ``ipset restore`` input that creates a set of clients."""
    kind = "inet" if family is Family.IPV4 else "inet6"
    room = f"hashsize {client_set.buckets} maxelem {client_set.size}"
    how = f"hash:ip family {kind} {room} timeout {_TIMEOUT_S} forceadd"
    return f"create {client_set.name} {how}"


class Affinity:
    """The client sets of one service, and the rules that use them. The names of its chains contain
    one of `letters`; without letters there are no chains. A backend in the file keeps its chain's
    name when it goes out of service and returns."""

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
        """Yield the sets of all backends and groups."""
        buckets = _BUCKETS_OF_MANY if self._groups else _BUCKETS
        for name in self._set_of.values():
            yield ClientSet(name, buckets, _MOST_CLIENTS)
        for name, group in self._groups.items():
            times = 1 << (len(group) - 1).bit_length()
            yield ClientSet(name, times * _BUCKETS_OF_MANY, times * _MOST_CLIENTS)

    def remember(self, way: Dnat) -> Chain:
        """Return the chain that adds the client to the sets of a backend, then applies its DNAT."""
        names = [self._set_of[way.to]]
        if self._groups:
            names.append(self._group_of[way.to])
        rules = [_rule(Remember(name, self._timeout_s)) for name in names]
        return Chain(self._chains[way.to], (*rules, _rule(way)))

    def find(self, to: Callable[[Endpoint], Target]) -> tuple[list[Rule], list[Chain]]:
        """Return rules that send each known client of a serving backend there, with the target from
        `to`, and the chains below these rules."""
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
    """Return the number of a backend's group, from a hash of its address."""
    return blake2b(str(backend).encode()).digest()[0] % _GROUPS
