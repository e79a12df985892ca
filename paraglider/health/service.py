"""Service: what one frontend is to do now, as the rules need to know it.

The border between who decides (health) and who writes it down (rules): values only. Where nobody
checks anything, `standing_services` says what a configuration alone asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from paraglider.config.clients import EVERYBODY, Access, Source
from paraglider.config.model import (
    Address,
    Backend,
    Balance,
    Bind,
    Config,
    Endpoint,
    Family,
    Frontend,
    HashKey,
    ReturnPath,
    first_bind,
)

FULL = 100
# The longest time that a drain may be given.
MOST_DRAIN_S = 86_400

# A bind and a backend: a frontend may get another name, but it is still the one at its first bind.
Pair = tuple[Bind, Endpoint]


class Health(StrEnum):
    """The state of one backend of one frontend."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Member:
    """A backend of a frontend, an address behind a name among them; `until_s` (seconds of the
    monotonic clock) is when a draining one's connections are cut, None for never. One that
    `is_leaving` is not in the file any more."""

    backend: Endpoint
    health: Health = Health.UNKNOWN
    until_s: float | None = None
    is_leaving: bool = False


def bound_deadline(until_s: float, now_s: float) -> float:
    """Return the deadline of a drain that was read at `now_s`, as early as any that can be ordered
    now. Rules that outlived a reboot have one of a clock that began anew."""
    return min(until_s, now_s + MOST_DRAIN_S)


@dataclass(frozen=True, slots=True)
class Share:
    """A backend that gets new connections, by its `weight` (1 to 1000) beside those of others, and
    while it starts slowly only `percent` (1 to 100) of that; none with `most` open (0: no limit).
    """

    backend: Endpoint
    weight: int = 1
    percent: int = FULL
    most: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A frontend with all of its members, and those of them that new connections go to, both in
    the order of the file.

    The ports and addresses of `binds` are of one family; `source` is what backends see.
    A client stays with its backend for `affinity_s` after its last new connection (0: it does not).
    `home` is for `source-hash`: those whom clients are dealt to as if all of them served.

    One that `is_leaving` is no longer configured: its address and port are the host's again, and
    only the connections that it has run on. Answers of one that `is_policy_routed` take the route
    that the host's policy rules have for the address that the client connected to.
    """

    name: str
    binds: tuple[Bind, ...]
    source: Source
    members: tuple[Member, ...]
    serving: tuple[Share, ...]
    balance: Balance = Balance.ROUND_ROBIN
    hash_key: HashKey = HashKey.SOURCE
    home: tuple[Share, ...] = ()
    access: Access = EVERYBODY
    affinity_s: float = 0.0
    is_leaving: bool = False
    is_policy_routed: bool = True

    @property
    def bind(self) -> Bind:
        """The bind by which it is known."""
        return first_bind(self.binds)

    @property
    def family(self) -> Family:
        return self.bind.family


def backend_addresses(services: Iterable[Service]) -> frozenset[Address]:
    """Return the address of every backend of `services`."""
    return frozenset(member.backend.address for s in services for member in s.members)


# The addresses of host names, for each family that they are wanted in, as they were resolved last.
Addresses = Mapping[tuple[str, Family], Sequence[Address]]


def expand_backends(frontend: Frontend, addresses: Addresses) -> dict[Endpoint, Backend]:
    """Return each server of `frontend` with the entry of the file that names it first, in the
    order of the file; a host name stands for all of its addresses, in ascending order."""
    found: dict[Endpoint, Backend] = {}
    for backend in frontend.backends:
        hosts: Sequence[Address] = (
            sorted(addresses.get((backend.host, frontend.family), ()))
            if isinstance(backend.host, str)
            else (backend.host,)
        )
        for host in hosts:
            found.setdefault(Endpoint(host, backend.port, backend.last_port), backend)
    return found


def standing_services(config: Config, addresses: Addresses) -> tuple[Service, ...]:
    """Return what `config` asks for where nobody checks anything: all serve, but for backups where
    there is anybody else."""
    services = []
    for frontend in config.frontends:
        backends = expand_backends(frontend, addresses)
        members = tuple(Member(endpoint) for endpoint in backends)
        able = {e: backend for e, backend in backends.items() if backend.weight}
        primaries = [e for e, backend in able.items() if not backend.is_backup]
        serving = tuple(
            Share(e, able[e].weight, most=able[e].max_connections) for e in primaries or able
        )
        services.append(
            Service(
                frontend.name,
                frontend.binds,
                frontend.source,
                members,
                serving,
                frontend.balance,
                frontend.hash_key,
                find_home(frontend, backends),
                frontend.access,
                frontend.affinity_s,
                is_policy_routed=frontend.return_path is ReturnPath.POLICY,
            )
        )
    return tuple(services)


def find_home(frontend: Frontend, backends: Mapping[Endpoint, Backend]) -> tuple[Share, ...]:
    """Return whom clients are dealt to by their hash, if anybody: all that are no backups."""
    if frontend.balance is not Balance.SOURCE_HASH:
        return ()
    able = [(endpoint, backend) for endpoint, backend in backends.items() if backend.weight]
    return tuple(
        Share(endpoint, backend.weight) for endpoint, backend in able if not backend.is_backup
    )
