"""One IP address: how it may be written, and which ones can never be right.

Sample input: ``172.19.0.4``, ``fd00::4``. The patterns are shared with the JSON Schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from paraglider.config.model import Address
from paraglider.config.quote import quoted

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4_PATTERN = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
# Coarse: what fits it may still be wrong, which IPv6Address decides.
IPV6_PATTERN = r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40}"
ADDRESS_PATTERN = rf"{IPV4_PATTERN}|{IPV6_PATTERN}"
# Longer than any address, with brackets, zone and port; longer texts are not looked into.
MAX_CHARACTERS = 64


class Refused(Exception):
    """A text is not a value we take; the message says why and what to write."""


class Role(Enum):
    """What an address is for; the value is the address that messages give as an example."""

    BIND = "192.0.2.10"
    PRIVATEIP = "172.19.0.4"
    BACKEND = "172.19.0.2"
    CHECK = "172.19.0.9"


@dataclass(frozen=True, slots=True)
class _Never:
    """Addresses from `first` to `last`, and why none of them can be right.

    `reasons` is one text, or one for each role in which they cannot.
    """

    first: int
    last: int
    reasons: str | dict[Role, str]


_ROUTE_LOCALNET = (
    "is a loopback address: serving it would need route_localnet, which opens the loopback"
    " services of this host to the network (CVE-2020-8558); use an address of this host's network"
)
_LOOPBACK_V6 = (
    "is a loopback address: the kernel forwards nothing from it to another host; use an address"
    " of this host's network"
)
_LOOPBACK = {
    Role.BIND: _ROUTE_LOCALNET,
    Role.PRIVATEIP: "is a loopback address: backends could not answer to it; use the address of"
    " this host in the network of the backends",
    Role.BACKEND: "is a loopback address: the kernel forwards nothing to it; use the address at"
    " which the network reaches that server",
    Role.CHECK: "is a loopback address: probing it would tell how this host is, and not the"
    " backend; use an address of that server",
}
# As a bind it is any address of this host.
_UNSPECIFIED = {
    Role.PRIVATEIP: "is not an address of a host; name the one that backends reach this host at",
    Role.BACKEND: "is not an address of a server; name the one that it listens on",
    Role.CHECK: "is not an address of a server; name the one that is to be probed",
}
_METADATA = (
    "is the metadata service of cloud hosts, which hands out their credentials;"
    " it is never balanced, use another address"
)
_MULTICAST = "is a multicast address; name the address of one host"
_MAPPED = "is an IPv4 address written as IPv6; write it as IPv4, such as 172.19.0.2"
_LINK_LOCAL = (
    "is link-local: it means nothing without an interface, and the rules name none;"
    " use a global or unique local (fd00::/8) address"
)
_RESERVED = "is in the reserved range 240.0.0.0/4, which no host may use"

# What people write instead of an address; the first shape that fits wins.
_SHAPES = (
    (r"", "the address is missing"),
    (rf".{{{MAX_CHARACTERS + 1},}}", "{} is too long for an address"),
    (r"[^%]*:[^%]*%.*", "{} names an interface after '%', which rules cannot hold"),
    (rf"{IPV4_PATTERN}:[0-9]*|\[.*\]:[0-9]*", "{} has a port, which does not belong here"),
    (r"\[.*\]", "{} has brackets, which belong only around an address with a port"),
    (r".*/.*", "{} holds a '/': networks and URLs are not supported here"),
    (r".*\s.*", "{} holds a space or a line break"),
    (
        r"(?=.*(?<![0-9])0[0-9])[0-9]+(?:\.[0-9]+){3}",
        "{} has a number with a leading zero, which some programs read as octal",
    ),
    (r"[0-9]+(?:\.[0-9]+){3}", "{} has a number above 255"),
    (r"[0-9.]+", "{} is not an IPv4 address, which has four numbers"),
    (r"\w[\w.-]*", "{} is a name, and only backends may be names"),
    (r".*", "{} is not an IP address"),
)

# Numbers and no network objects: 30,000 comparisons a large file are then nothing.
_NEVER_IPV4 = (
    _Never(0x00000000, 0x00000000, _UNSPECIFIED),
    _Never(0x00000001, 0x00FFFFFF, "is in 0.0.0.0/8, which no host may use"),
    _Never(0x7F000000, 0x7FFFFFFF, _LOOPBACK),
    _Never(0xA9FEA9FE, 0xA9FEA9FE, _METADATA),
    _Never(0xE0000000, 0xEFFFFFFF, _MULTICAST),
    _Never(0xF0000000, 0xFFFFFFFE, _RESERVED),
    _Never(0xFFFFFFFF, 0xFFFFFFFF, "is the broadcast address; name the address of one host"),
)
_NEVER_IPV6 = (
    _Never(0, 0, _UNSPECIFIED),
    _Never(1, 1, _LOOPBACK | {Role.BIND: _LOOPBACK_V6}),
    _Never(0xFFFF << 32, (0xFFFF << 32) | 0xFFFFFFFF, _MAPPED),
    _Never(0xFD000EC2 << 96 | 0x254, 0xFD000EC2 << 96 | 0x254, _METADATA),
    _Never(0xFE80 << 112, (0xFEC0 << 112) - 1, _LINK_LOCAL),
    _Never(0xFF00 << 112, (1 << 128) - 1, _MULTICAST),
)
# _NEVER_IPV4 again, as text for the JSON Schema; a test holds the two together.
NEVER_IPV4_PATTERN = r"(?:0|127|2(?:2[4-9]|[34][0-9]|5[0-5]))\.|169\.254\.169\.254(?![0-9])"


def parse_address(text: str, role: Role) -> Address:
    """Parse an IPv4 or IPv6 address. Raises Refused with the reason and an example."""
    if re.fullmatch(IPV4_PATTERN, text):
        address: Address = IPv4Address(text)
    elif re.fullmatch(IPV6_PATTERN, text):
        try:
            address = IPv6Address(text)
        except AddressValueError as error:
            raise Refused(f"{quoted(text)} is not a valid IPv6 address") from error
    else:
        raise Refused(_explain(text, role))
    number = int(address)
    for never in _NEVER_IPV4 if address.version == 4 else _NEVER_IPV6:
        if never.first <= number <= never.last:
            reasons = never.reasons
            if reason := reasons if isinstance(reasons, str) else reasons.get(role):
                raise Refused(f"{address} {reason}")
    return address


def _explain(text: str, role: Role) -> str:
    """Say why `text`, which fits no pattern, is not an address."""
    if text == "*" and role in _UNSPECIFIED:
        return f"'*' {_UNSPECIFIED[role]}"
    reason = next(reason for shape, reason in _SHAPES if re.fullmatch(shape, text, re.DOTALL))
    return f"{reason.format(quoted(text))}; write an address such as {role.value}"
