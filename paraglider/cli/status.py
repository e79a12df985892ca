"""Status: the live kernel, for a person or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from paraglider.config.model import Family, Frontend
from paraglider.kernel.apply import find_missing_anchors, read_states
from paraglider.kernel.host import Conntrack, Host
from paraglider.kernel.variant import Choice
from paraglider.rules.describe import Description, describe_states


@dataclass(frozen=True, slots=True)
class Status:
    """What the kernel does, and what it runs on. `forwarding` holds the families in use only;
    `is_whole` is whether every rule, and the NAT anchor, is in place."""

    description: Description
    is_whole: bool
    choice: Choice
    conntrack: Conntrack | None
    forwarding: dict[Family, bool]


def read_status(choice: Choice, host: Host) -> Status:
    """Return the state of this host."""
    states = read_states(choice.variant, host)
    forwarding = {family: host.is_forwarding(family) for family in sorted(states)}
    description = describe_states(states)
    is_whole = description.is_whole and not find_missing_anchors(choice.variant, states)
    return Status(description, is_whole, choice, host.read_conntrack(), forwarding)


def status_text(status: Status) -> str:
    """Return the lines that a person reads."""
    return "\n".join(_lines(status))


def _lines(status: Status) -> Iterator[str]:
    description = status.description
    if status.is_whole:
        yield f"running, in iptables ({status.choice.variant.value})"
    elif status.forwarding:
        yield "damaged: rules are missing or changed; mend it with 'paraglider start'"
    else:
        yield "not running"
    for frontend in description.frontends:
        yield f"{frontend.name}: {frontend.bind} as {frontend.privateip}"
        yield from _backend_lines(frontend, description)
    if status.conntrack is not None:
        used, limit = status.conntrack.entries, status.conntrack.limit
        share = f" ({100 * used / limit:.0f} %)" if limit else ""
        yield f"conntrack: {used} of {limit} entries in use{share}"
    for family, is_on in status.forwarding.items():
        if not is_on:
            yield f"IPv{family.value} forwarding is OFF: no connection passes"


def _backend_lines(frontend: Frontend, description: Description) -> Iterator[str]:
    counts = [description.connections[frontend.name, b] for b in frontend.backends]
    width = max((len(str(backend)) for backend in frontend.backends), default=0)
    digits = max((len(str(count)) for count in counts), default=0)
    for backend, count in zip(frontend.backends, counts, strict=True):
        share = f"{100 * count / sum(counts):5.1f} %" if sum(counts) else ""
        yield f"  {backend!s:<{width}}  {count:>{digits}} connections  {share}".rstrip()


def status_json(status: Status) -> str:
    """Return the same as JSON, for programs."""
    description = status.description
    conntrack = status.conntrack
    document = {
        "running": bool(status.forwarding),
        "whole": status.is_whole,
        "iptables": status.choice.variant.value,
        "iptables_reason": status.choice.reason,
        "forwarding": {f"ipv{f.value}": is_on for f, is_on in status.forwarding.items()},
        "conntrack": conntrack and {"entries": conntrack.entries, "limit": conntrack.limit},
        "frontends": [
            {
                "name": frontend.name,
                "bind": str(frontend.bind),
                "privateip": str(frontend.privateip),
                "backends": [
                    {
                        "backend": str(backend),
                        "connections_total": description.connections[frontend.name, backend],
                    }
                    for backend in frontend.backends
                ],
            }
            for frontend in description.frontends
        ],
    }
    return json.dumps(document, indent=2)
