"""What clients connect to, as text: an address, ``*`` or an interface, and ports.

Sample input; ``*`` and an interface are of the families that the backends are of::

    192.0.2.10:80       0.0.0.0:80      *:80
    [fd00::10]:80       [::]:80         eth0:80,443,8000-8010

Imported where a bind is more than an address and one port, which frontend.py reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from paraglider.config.address import IPV4_PATTERN, IPV6_PATTERN, Refused, Role, parse_address
from paraglider.config.document import Document
from paraglider.config.draft import BindDraft
from paraglider.config.endpoint import explain_endpoint, split_port
from paraglider.config.keys import FRONTEND_KEYS
from paraglider.config.model import INTERFACE_PATTERN, INTERFACE_RULE, Family, Protocol
from paraglider.config.ports import parse_ports
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.value import draft_value, parse_word, read_texts, read_value

MAX_BINDS = 256

PROTOCOLS = {
    "tcp": (Protocol.TCP,),
    "udp": (Protocol.UDP,),
    "tcp+udp": (Protocol.TCP, Protocol.UDP),
}

# Interfaces, and what is meant as one, that no client of the network comes in through.
LOOPBACKS = ("lo", "localhost")

_ADDRESS = rf"({IPV4_PATTERN})|\[({IPV6_PATTERN})\]"
# What is meant as an address, be it one or not.
LIKE_AN_ADDRESS = r"[0-9.]+"
_LIKE_A_NAME = rf"(?!{LIKE_AN_ADDRESS}$)[^\s:/\[\]*]+"


def parse_bind(text: str) -> BindDraft:
    """Parse one bind. Raises Refused with the reason and an example."""
    host, colon, ports = split_port(text)
    if colon != ":":
        raise Refused(_explain_no_port(text))
    if "," in host:
        raise Refused(
            f"{quoted(text)} is more than one bind; write a list of them, or in a variable spaces"
            " between"
        )
    address, interface, family = None, "", None
    if re.fullmatch(_LIKE_A_NAME, host):
        interface = _parse_interface(host)
    elif host != "*":
        match = re.fullmatch(_ADDRESS, host)
        if match is None:
            raise Refused(explain_endpoint(text, Role.BIND))
        address = parse_address(match[1] or match[2], Role.BIND)
        family = Family(address.version)
    found = parse_ports(ports, text)
    return BindDraft(address if address and int(address) else None, interface, family, found)


def read_binds(
    document: Document, problems: Problems, place: Place
) -> Iterator[tuple[BindDraft, Place]]:
    """Read the list that is next; what is wrong with it goes to `problems`."""
    wanted = FRONTEND_KEYS["bind"]
    texts = read_texts(document, problems, place, wanted, MAX_BINDS)
    for text, item in texts:
        if found := draft_value(text, parse_bind, item, problems):
            yield found


def read_protocols(
    document: Document, problems: Problems, place: Place
) -> tuple[Protocol, ...] | None:
    """Read the word that is next; None once a problem with it is told."""
    return read_value(
        document,
        problems,
        place,
        FRONTEND_KEYS["protocol"],
        lambda text: parse_word(text, PROTOCOLS),
    )


def _parse_interface(name: str) -> str:
    if name in LOOPBACKS:
        raise Refused(
            f"{quoted(name)} is this host alone: no client of the network comes in there; use an"
            " address or another interface of this host"
        )
    if re.fullmatch(INTERFACE_PATTERN, name) is None:
        raise Refused(
            f"{quoted(name)} is neither an address nor the name of an interface, which is"
            f" {INTERFACE_RULE}"
        )
    return name


def _explain_no_port(text: str) -> str:
    if re.fullmatch(r"[0-9]+(?:-[0-9]+)?", text):
        what = "a range of ports alone" if "-" in text else "a bare number"
        return (
            f"{quoted(text)} is {what}; write ADDRESS:PORT, such as 192.0.2.10:80, and several"
            ' ports in quotes: "192.0.2.10:80,443"'
        )
    if text == "*":
        return '\'*\' has no port; write "*:PORT", such as "*:80"'
    if re.fullmatch(_LIKE_A_NAME, text):
        return f"{quoted(text)} has no port; write ADDRESS:PORT or INTERFACE:PORT, such as eth0:80"
    return explain_endpoint(text, Role.BIND)
