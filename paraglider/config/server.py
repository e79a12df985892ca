"""A backend as text: an address or a host name, with a port, with several, or with none.

Sample input; without a port it is the one that the client connected to, and a range stands for
the ports of the bind, one for one::

    172.19.0.2:5555     [fd00::2]:5555          web:5555
    172.19.0.2          [fd00::2]               web
                        172.19.0.2:9000-9010

Owns what may be the name of a backend. Nothing is looked up here.
"""

from __future__ import annotations

import re

from paraglider.config.address import IPV4_PATTERN, IPV6_PATTERN, Refused, Role, parse_address
from paraglider.config.endpoint import (
    PORT_PATTERN,
    explain_endpoint,
    match_endpoint,
    split_port,
)
from paraglider.config.model import HOST_PATTERN, HOST_RULE, MAX_HOST_CHARACTERS, Address, Backend
from paraglider.config.quote import quoted

_NAMED = rf"({HOST_PATTERN}):({PORT_PATTERN})"
_ADDRESS = rf"({IPV4_PATTERN})|\[({IPV6_PATTERN})\]"
_MAX_CHARACTERS = MAX_HOST_CHARACTERS + len(":65535")
# What is meant as a name, be it one or not.
_LIKE_A_NAME = r"(?![0-9.]*$)[\w-][\w.-]*"


def parse_server(text: str) -> Backend:
    """Parse an address or a name, and its ports. Raises Refused with the reason and an example."""
    if endpoint := match_endpoint(text, Role.BACKEND):
        return Backend(endpoint.address, endpoint.port)
    # Only so much is matched: of a megabyte of labels, `re` would remember each.
    match = re.fullmatch(_NAMED, text) if len(text) <= _MAX_CHARACTERS else None
    if match is not None and len(match[1]) <= MAX_HOST_CHARACTERS:
        return Backend(_parse_name(match[1]), int(match[2]))
    return _parse_portless_or_ranged(text)


def _parse_portless_or_ranged(text: str) -> Backend:
    name, colon, ports = split_port(text)
    is_short = len(name) <= MAX_HOST_CHARACTERS
    host: Address | str
    if colon not in ("", ":"):
        raise Refused(explain_endpoint(text, Role.BACKEND))
    if match := re.fullmatch(_ADDRESS, name):
        host = parse_address(match[1] or match[2], Role.BACKEND)
    elif is_short and re.fullmatch(HOST_PATTERN, name):
        host = _parse_name(name)
    elif re.fullmatch(_LIKE_A_NAME, name):
        rule = f"neither an address nor a host name, which is {HOST_RULE}"
        raise Refused(f"{quoted(name)} is {rule}")
    else:
        raise Refused(explain_endpoint(text, Role.BACKEND))
    if not colon:
        return Backend(host, 0)
    from paraglider.config.ports import parse_range

    first, last = parse_range(ports, text)
    return Backend(host, first, last_port=last if last > first else 0)


def _parse_name(text: str) -> str:
    name = text.lower()
    if name == "localhost" or name.endswith(".localhost"):
        raise Refused(
            f"{quoted(name)} is this host itself, and the kernel forwards nothing to its loopback;"
            " name the server, or the address at which the network reaches it"
        )
    return name
