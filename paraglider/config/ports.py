"""Several ports as text: ``8000-8010`` or, of a bind, a list such as ``80,443,8000-8010``.

Imported where there are several.
"""

from __future__ import annotations

import re
from itertools import pairwise

from paraglider.config.address import Refused
from paraglider.config.endpoint import PORT_PATTERN, explain_port
from paraglider.config.model import Ports
from paraglider.config.quote import quoted

# For each family and protocol there is a rule for each.
MAX_RANGES = 50

RANGE_PATTERN = rf"{PORT_PATTERN}(?:-{PORT_PATTERN})?"
PORTS_PATTERN = rf"{RANGE_PATTERN}(?:, *{RANGE_PATTERN}){{0,{MAX_RANGES - 1}}}"


def parse_ports(text: str, whole: str) -> tuple[Ports, ...]:
    """Return the ports of ``80,8000-8010`` in the order of the text, no port twice.

    Messages call it part of `whole`. Raises Refused.
    """
    if text.count(",") >= MAX_RANGES:
        raise Refused(
            f"more than {MAX_RANGES} ports and ranges of ports; write fewer and wider ones"
        )
    first, *others = text.split(",")
    found = [parse_range(first, whole), *(parse_range(part.lstrip(" "), whole) for part in others)]
    in_order = sorted(found)
    for before, ports in pairwise(in_order):
        if ports.first <= before.last:
            raise Refused(
                f"{quoted(text)} names port {ports.first} twice, in {before} and in {ports};"
                " write every port once"
            )
    return tuple(found)


def parse_range(text: str, whole: str) -> Ports:
    """Return the ports of ``80`` or ``8000-8010``. Raises Refused."""
    first, dash, last = text.partition("-")
    for side in (first, last) if first and last else (text,):
        if re.fullmatch(PORT_PATTERN, side) is None:
            raise Refused(_explain(side, whole))
    if not dash:
        return Ports(int(first), int(first))
    if int(first) > int(last):
        raise Refused(f"{text} ends before it begins; write {last}-{first}")
    if first == last:
        raise Refused(f"{text} is one port; write {first}")
    return Ports(int(first), int(last))


def _explain(port: str, whole: str) -> str:
    """Say why `port`, of `whole`, is neither a port nor a range."""
    if "-" in port and re.fullmatch(r"[0-9-]+", port):
        return f"{quoted(port)} is not a range of ports; write FIRST-LAST, such as 8000-8010"
    if not port and not whole.endswith(":"):
        return f"{quoted(whole)} has a ',' with no port beside it; remove it, or write one"
    return explain_port(port, whole)
