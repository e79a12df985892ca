"""Which clients may connect, how often, and as whom backends see them.

Owns the types alone; source.py and access.py read them. Tuples where others are dataclasses: each
of those costs a small device a millisecond at every start.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import NamedTuple

Network = IPv4Network | IPv6Network
# The first and the last address of a range.
AddressRange = tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]


class SourceKind(StrEnum):
    """What backends see as the source of a connection: an address that is named, one that the
    kernel chooses by the route to the backend, or the client's own."""

    ADDRESS = "address"
    AUTO = "auto"
    KEEP = "keep"


class Source(NamedTuple):
    """`ranges` are inclusive, ascending and apart from each other (adjacent ones are one), all of
    one family; none but those of kind ADDRESS has any."""

    kind: SourceKind
    ranges: tuple[AddressRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[AddressRange]) -> Source:
        """Return the source of `ranges`, which are of one family and apart, in any order."""
        merged: list[AddressRange] = []
        for first, last in sorted(ranges, key=lambda range_: int(range_[0])):
            if merged and int(merged[-1][1]) + 1 == int(first):
                merged[-1] = merged[-1][0], last
            else:
                merged.append((first, last))
        return cls(SourceKind.ADDRESS, tuple(merged))

    def __str__(self) -> str:
        if self.kind is not SourceKind.ADDRESS:
            return self.kind.value
        return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in self.ranges)


class Rate(NamedTuple):
    """So many (1 to 1,000,000) in each `per_s` seconds: 1, 60, 3600 or 86400."""

    count: int  # type: ignore[assignment]  # a tuple counts, and nobody lets it
    per_s: int

    def __str__(self) -> str:
        return f"{self.count}/{RATE_UNITS[self.per_s]}"


# As xt_hashlimit has them.
RATE_UNITS = {1: "s", 60: "min", 3600: "h", 86400: "day"}


class Refuse(StrEnum):
    """What becomes of a connection that may not be: an answer, or none."""

    RESET = "reset"
    DROP = "drop"


class Access(NamedTuple):
    """Which clients may connect: those in no network of `deny` and, if `allow` has any, in one of
    its own.

    Each client may have `max_connections` at a time (0: no limit), and open new ones at `rate`.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    max_connections: int = 0
    rate: Rate | None = None
    refuse: Refuse = Refuse.RESET


EVERYBODY = Access()


def merge_networks(networks: Iterable[Network]) -> list[Network]:
    """Return the same addresses as few networks, none within another."""
    listed = list(networks)
    four = collapse_addresses([n for n in listed if isinstance(n, IPv4Network)])
    six = collapse_addresses([n for n in listed if isinstance(n, IPv6Network)])
    return [*four, *six]
