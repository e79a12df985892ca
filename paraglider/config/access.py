"""Which clients may connect, and how often: the keys of a frontend, as text.

Sample input, behind the backends of a frontend::

    allow: [10.0.0.0/8, "fd00::/8"]     rate: 100/s
    deny: [10.0.0.9]                    refuse: drop
    max_connections: 50

Owns what a network and a rate may look like.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from paraglider.config.address import IPV4_PATTERN, IPV6_PATTERN, Refused
from paraglider.config.clients import RATE_UNITS, Network, Rate, Refuse
from paraglider.config.document import Document
from paraglider.config.draft import NO_NETWORKS, Networks
from paraglider.config.keys import FRONTEND_KEYS
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.value import (
    CONNECTIONS,
    any_of,
    draft_value,
    parse_count,
    parse_word,
    read_texts,
    read_value,
)

MAX_NETWORKS = 10_000
REFUSE = {word.value: word for word in Refuse}

IPV4_NETWORK_PATTERN = rf"({IPV4_PATTERN})(?:/(3[0-2]|[12]?[0-9]))?"
IPV6_NETWORK_PATTERN = rf"({IPV6_PATTERN})(?:/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?"
_UNITS = {unit: per_s for per_s, unit in RATE_UNITS.items()}
RATE_PATTERN = rf"([1-9][0-9]{{0,6}})/({'|'.join(_UNITS)})"


def read_access(document: Document, problems: Problems, key: str, place: Place) -> dict[str, Any]:
    """Read the value of a key other than `allow` and `deny`; return it by its field in Access."""
    parse: Callable[[str], object] = _parse_refuse
    if key != "refuse":
        parse = parse_rate if key == "rate" else parse_count
    value = read_value(document, problems, place, FRONTEND_KEYS[key], parse)
    return {} if value is None else {key: value}


def read_networks(document: Document, problems: Problems, key: str, place: Place) -> Networks:
    """Read the list that is next; none of it once a problem with it is told."""
    before = problems.count
    found: dict[Network, Place] = {}
    texts = read_texts(document, problems, place, FRONTEND_KEYS[key], MAX_NETWORKS)
    for text, item in texts:
        if drafted := draft_value(text, parse_network, item, problems):
            network = drafted[0]
            if (first := found.setdefault(network, item)) is not item:
                problems.add(item, f"{network} is listed already: {first}; list every one once")
    return (tuple(found), place) if problems.count == before else NO_NETWORKS


def parse_network(text: str) -> Network:
    """Parse an address, or a network such as 10.0.0.0/8. Raises Refused."""
    v4 = re.fullmatch(IPV4_NETWORK_PATTERN, text)
    match = v4 or re.fullmatch(IPV6_NETWORK_PATTERN, text)
    if match is None:
        raise Refused(_explain(text))
    try:
        address = IPv4Address(match[1]) if v4 else IPv6Address(match[1])
    except AddressValueError as error:
        raise Refused(f"{quoted(match[1])} is not a valid IPv6 address") from error
    number = int(address)
    length = address.max_prefixlen if match[2] is None else int(match[2])
    network = number >> (address.max_prefixlen - length) << (address.max_prefixlen - length)
    if number != network:
        right = f"{type(address)(network)}/{length}"
        raise Refused(f"{text} is an address in {right}; write that, or {address} for it alone")
    if not number and match[2] is None:
        raise Refused(f"{address} is not a client; write {address}/0 for all of them")
    if not v4 and number >> 32 == 0xFFFF:
        raise Refused(f"{text} is IPv4 written as IPv6; write it as IPv4, such as 10.0.0.0/8")
    return IPv4Network((number, length)) if v4 else IPv6Network((number, length))


def _parse_refuse(text: str) -> Refuse:
    return parse_word(text, REFUSE)


def parse_rate(text: str) -> Rate:
    """Parse ``100/s``, or per ``min``, ``h`` or ``day``. Raises Refused."""
    match = re.fullmatch(RATE_PATTERN, text)
    if match is None:
        units = [f"/{unit}" for unit in _UNITS]
        if re.fullmatch(r"[1-9][0-9]{0,6}", text):
            raise Refused(f"{quoted(text)} has no unit; write {text}/s (or {', '.join(units[1:])})")
        mend = f"write a number and {any_of(units)}, such as 100/s"
        raise Refused(f"{quoted(text)} is not a rate; {mend}")
    if int(match[1]) > CONNECTIONS[1]:
        bounds = f"{CONNECTIONS[0]} to {CONNECTIONS[1]}"
        raise Refused(f"{text} is out of range; allowed is {bounds} of them")
    return Rate(int(match[1]), _UNITS[match[2]])


def _explain(text: str) -> str:
    """Say why `text`, which fits no pattern, is not a network."""
    head, slash, _ = text.partition("/")
    for pattern, bits, example in ((IPV4_PATTERN, 32, "/24"), (IPV6_PATTERN, 128, "/64")):
        if slash and re.fullmatch(pattern, head):
            return (
                f"{quoted(text)} is not a network: behind the '/' stands a number from 0 to {bits},"
                f" such as {example}"
            )
    return (
        f"{quoted(text)} is neither an address nor a network; write one such as 192.0.2.7 or"
        " 10.0.0.0/8"
    )
