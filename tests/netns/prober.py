"""A prober on a host of a lab, as the agent has one: takes orders, returns the first results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paraglider.config.model import Family
from paraglider.health.probe import Target
from paraglider.health.prober import Result
from paraglider.health.resolver import Resolved
from paraglider.health.wire import decode_reports, encode_orders
from paraglider.lab.hosts import Lab

# An agent: hands the orders of its input to a prober, prints what is reported until everything in
# them was, and ends with the prober's code. Its prober has no privileges, only the system calls
# that the filter leaves, and can load no module once it probes.
_AGENT = """\
import os, random, socket, sys
from paraglider.health.prober_main import serve_probes
from paraglider.health.tls import load_tls
from paraglider.health.wire import decode_orders, decode_reports
from paraglider.kernel.privileges import drop_privileges

class Refusing:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"{name} is loaded too late")

ours, theirs = socket.socketpair()
agent = os.getpid()
prober = os.fork()
if prober == 0:
    ours.close()
    load_tls()
    if unfiltered := drop_privileges(parent=agent):
        sys.exit(unfiltered)
    sys.meta_path.insert(0, Refusing())
    serve_probes(theirs, random=random.random)
    os._exit(0)
theirs.close()
line = sys.stdin.buffer.readline()
orders = decode_orders(line.rstrip())
missing = {target.key for target in orders.targets} | {name for name, _ in orders.names}
ours.sendall(line)
with ours, ours.makefile("rb") as lines:
    while missing:
        line = next(lines)
        sys.stdout.buffer.write(line)
        reports = decode_reports(line.rstrip())
        missing -= {it.key for it in reports.results} | {it.name for it in reports.resolved}
sys.exit(os.waitstatus_to_exitcode(os.waitpid(prober, 0)[1]))
"""
# As in a container with NET_ADMIN alone: the prober stays the agent's user, so that it is refused
# most, and reads the files of the test.
_NET_ADMIN = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")


@dataclass(frozen=True, slots=True)
class Found:
    """What one run of the agent printed."""

    results: dict[str, Result] = field(default_factory=dict)
    resolved: dict[str, Resolved] = field(default_factory=dict)


def probe_from(
    lab: Lab,
    host: str,
    targets: Sequence[Target],
    names: Mapping[tuple[str, Family], float] | None = None,
) -> Found:
    """Probe each target at least once from a host; return the first result of each."""
    orders = encode_orders(targets, names or {}).decode()
    done = lab.run(host, [*_NET_ADMIN, sys.executable, "-c", _AGENT], input=orders, timeout_s=30)
    found = Found()
    for line in done.stdout.splitlines():
        reports = decode_reports(line.encode())
        for result in reports.results:
            found.results.setdefault(result.key, result)
        found.resolved.update({it.name: it for it in reports.resolved})
    return found
