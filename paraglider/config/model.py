"""What the user asked for, as values that cannot be wrong.

Owns the typed configuration. Nothing here reads a file or knows about rules; whoever holds a
`Config` holds no string that came from outside except a frontend's name (`NAME_PATTERN`), a
backend's host name (`HOST_PATTERN`), and what a check sends and looks for; none but the first
reaches a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address

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

# The name of the frontend in a file of the seed's form, which has none of its own.
DEFAULT_NAME = "default"


class Family(IntEnum):
    """Address family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6


class Protocol(StrEnum):
    """The transport of connections, as the file and iptables call it."""

    TCP = "tcp"
    UDP = "udp"

    @property
    def number(self) -> int:
        """Its number in packets (IANA, protocol numbers)."""
        return 6 if self is Protocol.TCP else 17


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports from `first` to `last`, both among them (1 to 65535)."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An address and a TCP port (1 to 65535)."""

    address: Address
    port: int

    @property
    def family(self) -> Family:
        return Family(self.address.version)

    def __str__(self) -> str:
        if self.family is Family.IPV6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"


class CheckKind(StrEnum):
    """How a backend is probed: by a connection, by a request over one, or not at all."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What a check asks over HTTP, and which answers are good.

    `host` is the Host header, and the name in the certificate of HTTPS; '' is the backend's own.
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


@dataclass(frozen=True, slots=True)
class Backend:
    """One server, or each server that a host name (in lower case) stands for. A backup gets
    connections while no other backend of its frontend can. `weight` (0 to 1000) is how many new
    connections it gets where others get theirs; none at 0."""

    host: Address | str
    port: int
    is_backup: bool = False
    check: Check = Check()
    weight: int = 1

    @property
    def endpoint(self) -> Endpoint | None:
        """The address and port; None of a host name, which has them only once it is resolved."""
        return None if isinstance(self.host, str) else Endpoint(self.host, self.port)

    def __str__(self) -> str:
        return str(self.endpoint or f"{self.host}:{self.port}")


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


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many backends, backups aside, must be up for them to be used: lost below
    ``live - hysteresis``, and at 0; reached again at ``live + hysteresis``."""

    live: int = 1
    hysteresis: int = 0


@dataclass(frozen=True, slots=True)
class Frontend:
    """What clients connect to: `bind` is its address and port, `privateip` the address that
    backends see, `backends` the servers behind it (one or more, all of one family).

    A backend that comes back up has its full share after `slow_start_s` (0: at once). Host names
    are resolved again every `resolve_s`.
    """

    name: str
    bind: Endpoint
    privateip: Address
    backends: tuple[Backend, ...]
    balance: Balance = Balance.ROUND_ROBIN
    hash_key: HashKey = HashKey.SOURCE
    on_down: OnDown = OnDown.CUT
    no_backend: NoBackend = NoBackend.REJECT
    quorum: Quorum = Quorum()
    slow_start_s: float = 0.0
    resolve_s: float = 5.0

    @property
    def family(self) -> Family:
        return self.bind.family


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration: one or more frontends, names and binds unique.

    `source` is what messages call it: a path, ``<stdin>``, ``environment`` or
    ``PARAGLIDER_CONFIG_YAML``.
    """

    source: str
    frontends: tuple[Frontend, ...]
