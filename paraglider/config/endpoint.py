"""An address and a port, as text: ``172.19.0.2:5555`` or ``[fd00::2]:5555``, and nothing else.

Owns that form, of which binds and backends have more: bind.py and server.py. What fits the pattern
is taken apart by it; only what does not is looked at again, to say why.
"""

from __future__ import annotations

import re

from paraglider.config.address import (
    IPV4_PATTERN,
    IPV6_PATTERN,
    MAX_CHARACTERS,
    Refused,
    Role,
    parse_address,
)
from paraglider.config.model import Endpoint
from paraglider.config.quote import quoted

PORT_PATTERN = (
    r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
)
ENDPOINT_PATTERN = rf"(?:({IPV4_PATTERN})|\[({IPV6_PATTERN})\]):({PORT_PATTERN})"

# What people write instead of an endpoint; the first shape that fits wins.
_SHAPES = (
    (rf".{{{MAX_CHARACTERS + 1},}}", "{} is too long"),
    (r"[A-Za-z][A-Za-z0-9+.-]*://.*", "{} is a URL"),
    (r"[0-9]+", "{} is a bare number"),
    (r"\[[^\]]*", "{} opens a bracket that is not closed"),
    (r"\[.*\][^:].*", "{} has no ':' between ']' and the port"),
    (r"\[[^:]*\].*", "{} has brackets, which belong only around an IPv6 address"),
    (
        r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f.:]*",
        "{} has several ':' and no brackets, and IPv6 with a port is written \"[fd00::2]:80\"",
    ),
    (r"[^\[:]*:[^:]*:.*", "{} has several ':'"),
)


def parse_endpoint(text: str, role: Role) -> Endpoint:
    """Parse ``ADDRESS:PORT``. Raises Refused with the reason and an example."""
    endpoint = match_endpoint(text, role)
    if endpoint is None:
        raise Refused(explain_endpoint(text, role))
    return endpoint


def match_endpoint(text: str, role: Role) -> Endpoint | None:
    """Parse ``ADDRESS:PORT``; None is a text that is not of this form. Raises Refused for an
    address that can never be right."""
    match = re.fullmatch(ENDPOINT_PATTERN, text)
    if match is None:
        return None
    return Endpoint(parse_address(match[1] or match[2], role), int(match[3]))


def parse_port(text: str) -> int:
    """Parse a TCP port. Raises Refused."""
    if re.fullmatch(PORT_PATTERN, text) is None:
        raise Refused(explain_port(text))
    return int(text)


def explain_endpoint(text: str, role: Role) -> str:
    """Say why `text`, which does not fit the pattern, is not an endpoint."""
    for shape, reason in _SHAPES:
        if re.fullmatch(shape, text, re.DOTALL):
            return f"{reason.format(quoted(text))}; write ADDRESS:PORT, such as {role.value}:80"
    address, colon, port = split_port(text)
    if not colon:
        return _explain_no_port(text, role)
    if address.startswith("["):
        address = address[1:-1]
    try:
        parse_address(address, role)
    except Refused as refused:
        return str(refused) if address else f"{quoted(text)}: {refused}"
    return explain_port(port, text)


def split_port(text: str) -> tuple[str, str, str]:
    """Split at the colon before the port; a bracket keeps the colons in it. Without a port, the
    second and third are empty. The second is whatever stands behind a bracket."""
    if text.startswith("[") and "]" in text:
        inside, _, after = text.rpartition("]")
        return f"{inside}]", after[:1], after[1:]
    return text.rpartition(":") if ":" in text else (text, "", "")


def _explain_no_port(text: str, role: Role) -> str:
    try:
        parse_address(text.removeprefix("[").removesuffix("]"), role)
    except Refused as refused:
        if role is Role.BACKEND:  # it may do without
            return str(refused)
        return f"{refused}; a port is missing too: ADDRESS:PORT, such as {role.value}:80"
    return f"{quoted(text)} has no port; write {text}:PORT, such as {text}:80"


def explain_port(port: str, text: str = "") -> str:
    """Say why `port`, of the endpoint `text` if there is one, is not a port."""
    allowed = "a port is a number from 1 to 65535"
    if not port and text:
        return f"{quoted(text)} has no port after the ':'; {allowed}"
    if not re.fullmatch(r"[0-9]+", port):
        return f"{quoted(port)} is not a port; {allowed}"
    if len(port) > 1 and port.startswith("0"):
        return (
            f"port {quoted(port)} has a leading zero, which YAML reads as octal; write it without"
        )
    return f"port {quoted(port)} is out of range; {allowed}"
