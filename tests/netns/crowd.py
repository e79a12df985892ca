"""A crowd: one client host with many addresses, each a client of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from tests.netns.harness import CLIENT, Topology

# Connects from each address of the command line once; prints who answered.
_CONNECT_FROM_EACH = """
import json, sys
from paraglider.lab.client import Patience, connect_many
host, port, *sources = sys.argv[1:]
tallies = [
    connect_many(host, int(port), count=1, patience=Patience(), source=source) for source in sources
]
print(json.dumps([tally.answers[0].backend for tally in tallies]))
"""


def add_clients(topology: Topology, count: int) -> list[str]:
    """Give the client `count` addresses more, and return them."""
    plan = topology.addresses
    sources = [str(ip_address(plan.client) + 20 + n) for n in range(count)]
    more = " nodad" if plan.version == 6 else ""
    lines = (f"addr add {it}/{plan.clients_prefix} dev clients{more}\n" for it in sources)
    topology.lab.run(CLIENT, ["ip", "-batch", "-"], input="".join(lines))
    return sources


def ask_from_each(topology: Topology, sources: Sequence[str]) -> list[str]:
    """Connect to the frontend once from each address; return which backend answered each."""
    plan = topology.addresses
    argv = [sys.executable, "-c", _CONNECT_FROM_EACH, plan.bind, str(plan.bind_port), *sources]
    found: list[str] = json.loads(topology.lab.run(CLIENT, argv, timeout_s=60).stdout)
    return found
