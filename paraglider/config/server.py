"""A backend as text: ``172.19.0.2:5555``, ``[fd00::2]:5555`` or a host name, ``web:5555``.

Owns what may be the name of a backend. Nothing is looked up here.
"""

from __future__ import annotations

import re

from paraglider.config.address import Refused, Role
from paraglider.config.endpoint import (
    PORT_PATTERN,
    explain_endpoint,
    explain_port,
    match_endpoint,
)
from paraglider.config.model import HOST_PATTERN, HOST_RULE, MAX_HOST_CHARACTERS, Backend
from paraglider.config.quote import quoted

_NAMED = rf"({HOST_PATTERN}):({PORT_PATTERN})"
_MAX_CHARACTERS = MAX_HOST_CHARACTERS + len(":65535")
# What is meant as a name, be it one or not.
_LIKE_A_NAME = r"(?![0-9.]*$)[\w-][\w.-]*"


def parse_server(text: str) -> Backend:
    """Parse ``ADDRESS:PORT`` or ``NAME:PORT``. Raises Refused with the reason and an example."""
    if endpoint := match_endpoint(text, Role.BACKEND):
        return Backend(endpoint.address, endpoint.port)
    # Only so much is matched: of a megabyte of labels, `re` would remember each.
    match = re.fullmatch(_NAMED, text) if len(text) <= _MAX_CHARACTERS else None
    if match is not None and len(match[1]) <= MAX_HOST_CHARACTERS:
        return Backend(_parse_name(match[1]), int(match[2]))
    raise Refused(_explain_named(text) or explain_endpoint(text, Role.BACKEND))


def _parse_name(text: str) -> str:
    name = text.lower()
    if name == "localhost" or name.endswith(".localhost"):
        raise Refused(
            f"{quoted(name)} is this host itself, and the kernel forwards nothing to its loopback;"
            " name the server, or the address at which the network reaches it"
        )
    return name


def _explain_named(text: str) -> str | None:
    """Say what is wrong with a name, or None of what is not meant as one."""
    name, colon, port = text.rpartition(":") if ":" in text else (text, "", "")
    if not re.fullmatch(_LIKE_A_NAME, name):
        return None
    if len(name) > MAX_HOST_CHARACTERS or not re.fullmatch(HOST_PATTERN, name):
        return f"{quoted(name)} is neither an address nor a host name, which is {HOST_RULE}"
    if not colon:
        return f"{quoted(text)} has no port; write NAME:PORT, such as web:80"
    return explain_port(port, text)
