"""What the user asked for, as values that cannot be wrong.

Owns the typed configuration. Nothing here reads a file or knows about rules; whoever holds a
`Config` holds addresses and numbers only, never a string that came from outside except a
frontend's name, which matches `NAME_PATTERN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

# 15 characters, as service names have (RFC 6335, 5.1): a chain of iptables is named after the
# frontend and may hold 28 characters, prefix included.
NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,14}"
NAME_RULE = "1 to 15 of a-z, 0-9, '_' and '-', the first a letter or a digit"

# The name of the frontend in a file of the seed's form, which has none of its own.
DEFAULT_NAME = "default"


class Family(IntEnum):
    """Address family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6


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


@dataclass(frozen=True, slots=True)
class Frontend:
    """What clients connect to: `bind` is its address and port, `privateip` the address that
    backends see, `backends` the servers behind it (one or more, all of one family)."""

    name: str
    bind: Endpoint
    privateip: Address
    backends: tuple[Endpoint, ...]

    @property
    def family(self) -> Family:
        return self.bind.family


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration: one or more frontends, names and binds unique.

    `source` is what messages call it: a path, ``<stdin>`` or ``environment``.
    """

    source: str
    frontends: tuple[Frontend, ...]
