"""What the user asked for, as values that cannot be wrong.

Owns the typed configuration. Nothing here reads a file or knows about rules; a
`Config` holds no string that came from outside except a frontend's name (`NAME_PATTERN`), an
interface's (`INTERFACE_PATTERN`), a backend's host name (`HOST_PATTERN`), and what a check sends
and looks for; none but the first two reaches a rule. What is a tuple here starts a millisecond
sooner than a dataclass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from paraglider.config.clients import EVERYBODY, Access, Source

Address = IPv4Address | IPv6Address

# 15 characters, as service names have (RFC 6335, 5.1): a chain of iptables is named after the
# frontend and may hold 28 characters, prefix included.
NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,14}"
NAME_RULE = "1 to 15 of a-z, 0-9, '_' and '-', the first a letter or a digit"

# RFC 1123, 2.1: labels of letters, digits and hyphens, as compose services and DNS names have them
# (and '_', which Docker allows). Not all digits and dots: that is an address.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_PATTERN = rf"(?=[0-9.]*[A-Za-z_-]){_LABEL}(?:\.{_LABEL})*"
MAX_HOST_CHARACTERS = 253
HOST_RULE = "parts of 1 to 63 letters, digits, '-' and '_', with dots between, 253 in all"

# 15 bytes, as the kernel has it (dev_valid_name in net/core/dev.c). It takes any but '/', ':' and
# spaces; iptables takes a '+' at the end for any interface that begins so, and we no quotes.
INTERFACE_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}"
INTERFACE_RULE = "1 to 15 letters, digits, '_', '-' and '.'"

# Names and values, in order; no name twice, whatever its case.
Headers = tuple[tuple[str, str], ...]

# The name of the frontend in a file of the seed's form, which has none of its own.
DEFAULT_NAME = "default"


class Family(IntEnum):
    """Address family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6


class Protocol(StrEnum):
    """What connections are of; `number` is that of IANA."""

    TCP = "tcp"
    UDP = "udp"

    @property
    def number(self) -> int:
        return 6 if self is Protocol.TCP else 17


class Ports(NamedTuple):
    """The ports from `first` to `last`, both in it."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


class Bind(NamedTuple):
    """Where clients connect to. Without an `address` it is any of this host; without an
    `interface` it does not matter through which they come."""

    family: Family
    ports: Ports
    protocol: Protocol = Protocol.TCP
    address: Address | None = None
    interface: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """The address, 0.0.0.0 or :: for any, and the first port."""
        address = self.address
        if address is None:
            address = IPv4Address(0) if self.family is Family.IPV4 else IPv6Address(0)
        return Endpoint(address, self.ports.first)

    def __str__(self) -> str:
        host = self.interface or host_text(self.endpoint.address)
        suffix = "/udp" if self.protocol is Protocol.UDP else ""
        return f"{host}:{self.ports}{suffix}"


def first_bind(binds: Iterable[Bind]) -> Bind:
    """Return the one that stands for all of them: the first by protocol, address and port."""
    return min(binds, key=_bind_order)


def _bind_order(bind: Bind) -> tuple[str, str, int, Ports]:
    number = -1 if bind.address is None else int(bind.address)
    return bind.protocol.value, bind.interface, number, bind.ports


def host_text(address: Address) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if address.version == 6 else f"{address}"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An address and a port (1 to 65535).

    As a backend's, port 0 is the one that the client connected to, and a `last_port` says that
    those from `port` on stand for the ports of the bind, one for one.
    """

    address: Address
    port: int
    last_port: int = 0

    @property
    def family(self) -> Family:
        return Family(self.address.version)

    def __str__(self) -> str:
        return f"{host_text(self.address)}{_port_text(self.port, self.last_port)}"


def _port_text(port: int, last_port: int) -> str:
    return f":{Ports(port, last_port or port)}" if port else ""


class CheckKind(StrEnum):
    """How a backend is probed: by a connection, by a request over one, or not at all."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What a check asks over HTTP, and which answers are good.

    `host` is the Host header; '' is the backend's own. `sni` is the server name of HTTPS, which
    its certificate must hold; '' is that of `host`. `headers` are sent beside the probe's own; they
    may hold secrets, and no repr shows them.
    `statuses` are inclusive ranges of 100 to 599; `body` must be in the answer's, '' is in any.
    `ca` is the file of the authority that HTTPS trusts, '' for the system's.
    """

    method: str = "GET"
    path: str = "/"
    host: str = ""
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    body: str = ""
    is_verified: bool = True
    ca: str = ""
    sni: str = ""
    headers: Headers = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Check:
    """How the health of a backend is found out.

    Probed every `interval_s`, with `timeout_s` for the whole of a probe; up after `rise` good ones
    in a row, down after `fall` bad ones. Until then a backend that `starts_up` gets connections.
    Where `address` or `port` is None it is the backend's. `send` and `expect` are for kind TCP:
    what is said once connected (nothing if empty), and what must be in the answer.
    """

    kind: CheckKind = CheckKind.TCP
    interval_s: float = 2.0
    timeout_s: float = 1.0
    rise: int = 2
    fall: int = 3
    starts_up: bool = True
    address: Address | None = None
    port: int | None = None
    send: bytes = b""
    expect: bytes = b""
    http: HttpRequest = HttpRequest()


# That of a backend of which nothing else is said.
DEFAULT_CHECK = Check()


@dataclass(frozen=True, slots=True)
class Backend:
    """One server, or each server that a host name (in lower case) stands for. A backup gets
    connections while no other backend of its frontend can. `weight` (0 to 1000) is how many new
    connections it gets where others get theirs; none at 0.

    `port` and `last_port` are as those of an endpoint. With `max_connections` open it gets no
    more (0: no limit).
    """

    host: Address | str
    port: int
    is_backup: bool = False
    check: Check = DEFAULT_CHECK
    weight: int = 1
    last_port: int = 0
    max_connections: int = 0

    @property
    def endpoint(self) -> Endpoint | None:
        """The address and port; None of a host name, which has them only once it is resolved."""
        if isinstance(self.host, str):
            return None
        return Endpoint(self.host, self.port, self.last_port)

    def __str__(self) -> str:
        return str(self.endpoint or f"{self.host}{_port_text(self.port, self.last_port)}")


class Balance(StrEnum):
    """Which backend gets the next connection."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    SOURCE_HASH = "source-hash"
    LEAST_CONNECTIONS = "least-connections"


class HashKey(StrEnum):
    """What of a client `source-hash` goes by."""

    SOURCE = "source"
    SOURCE_PORT = "source,port"


class OnDown(StrEnum):
    """What becomes of the connections of a backend that goes down."""

    CUT = "cut"
    KEEP = "keep"


class NoBackend(StrEnum):
    """What becomes of new connections while no backend can take them."""

    REJECT = "reject"
    SERVE_ALL = "serve-all"


class ReturnPath(StrEnum):
    """How answers of balanced connections are routed: by the host's policy rules for the address
    that the client connected to, or as any packet that comes from the backend."""

    POLICY = "policy"
    PLAIN = "plain"


class Quorum(NamedTuple):
    """How many backends, backups aside, must be up for them to be used: lost below
    ``live - hysteresis``, and at 0; reached again at ``live + hysteresis``."""

    live: int = 1
    hysteresis: int = 0


DEFAULT_QUORUM = Quorum()


@dataclass(frozen=True, slots=True)
class Frontend:
    """What clients connect to: `binds` (one or more) are where, `source` what backends see of
    them, `backends` the servers behind it (one or more); all of one family.

    A backend that comes back up has its full share after `slow_start_s` (0: at once). Clients come
    back to their backend within `affinity_s` (0: not). Host names are resolved every `resolve_s`,
    and an address that is missing from answers stays for `hold_s` (0: it leaves at once).
    """

    name: str
    binds: tuple[Bind, ...]
    source: Source
    backends: tuple[Backend, ...]
    balance: Balance = Balance.ROUND_ROBIN
    hash_key: HashKey = HashKey.SOURCE
    on_down: OnDown = OnDown.CUT
    no_backend: NoBackend = NoBackend.REJECT
    quorum: Quorum = DEFAULT_QUORUM
    slow_start_s: float = 0.0
    affinity_s: float = 0.0
    resolve_s: float = 5.0
    hold_s: float = 30.0
    return_path: ReturnPath = ReturnPath.POLICY
    access: Access = EVERYBODY

    @property
    def family(self) -> Family:
        return self.binds[0].family

    @property
    def bind(self) -> Bind:
        """That of `binds` by which the frontend is known, whatever their order."""
        return first_bind(self.binds)


class Config(NamedTuple):
    """A whole configuration: one or more frontends, no two of which take the same connections.

    One of the file that has binds of both families is two of the same name here, IPv4 first;
    else names are unique. `source` is what messages call it: a path, ``<stdin>``, ``environment``
    or ``PARAGLIDER_CONFIG_YAML``.
    """

    source: str
    frontends: tuple[Frontend, ...]
