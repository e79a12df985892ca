"""Sustained: new connections at a steady rate, until conntrack's table would have filled thrice.

Needs root. Every connection that has ended keeps a place in that table for a while, and a port of
the privateip: what a burst does not show. On the hosts of the comparison (compare/stage.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.command import DidNotRun
from bench.compare.build import Programs, build_programs
from bench.compare.load import Mode, client_command
from bench.compare.machine import describe_machine
from bench.compare.stage import BALANCER, BIND, CLIENT, SOURCES, TIME_WAIT_S, Stage
from bench.compare.subjects import Subject, list_products
from bench.markdown import head, row, verdict
from bench.page import write_section

PER_SECOND = 15_000
SECONDS = 60
# Enough for each to wait 30 ms; by chance some wait longer.
PARALLEL = 512

_WARMUP_MS = 1000
_LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
# Prints how many entries there are each half second, and once more when its standard input ends.
_COUNT = """
import select, sys
is_over = False
while not is_over:
    is_over = bool(select.select([sys.stdin], [], [], 0.5)[0])
    with open("/proc/sys/net/netfilter/nf_conntrack_count") as file:
        print(int(file.read()), flush=True)
"""


def measure_sustained() -> Iterator[str]:
    """Yield the table, and write it into docs/performance.md."""
    if os.geteuid():
        raise DidNotRun("namespaces and rules need root")
    if not _LIMIT.exists():
        raise DidNotRun("there is no conntrack here: modprobe nf_conntrack")
    programs = build_programs()
    lines = [describe_machine(), "", *_table(programs)]
    write_section("sustained", "\n".join(lines))
    yield from lines


def _table(programs: Programs) -> Iterator[str]:
    yield (
        f"{PER_SECOND:,} new connections a second for {SECONDS} s, a byte there and back on each; "
        f"ended ones forgotten after {TIME_WAIT_S} s; a limit of "
        f"{int(_LIMIT.read_text()):,} entries.\n"
    )
    titles = ("connections", "per second", "failed", "over 0.2 s", "p50 µs", "p99 µs")
    yield head("", *titles, "entries at most", texts=1)
    broken = []
    for subject in (it for it in list_products() if not it.is_missing):
        counted, entries = _run(subject, programs)
        per_s = counted["operations"] / counted["seconds"]
        yield row(
            subject.name,
            f"{counted['operations']:,}",
            f"{per_s:,.0f}",
            counted["failed"],
            counted["slow"],
            f"{counted['p50_us']:,.0f}",
            f"{counted['p99_us']:,.0f}",
            f"{entries:,}",
        )
        if counted["failed"] or per_s < 0.99 * PER_SECOND:
            broken.append(subject.name)
    yield verdict(f"{PER_SECOND:,} a second for {SECONDS} s, none failing", broken_by=broken)


def _run(subject: Subject, programs: Programs) -> tuple[dict[str, Any], int]:
    """Return what the client counted, and how many entries the table had at most."""
    numbers = (PARALLEL, _WARMUP_MS, 1000 * SECONDS)
    argv = client_command(programs, Mode.CONNECT, numbers, SOURCES, [BIND])
    with Stage() as stage:
        subject.prepare(stage)
        with stage.serve(programs.server, "hash"):
            counter = stage.start(BALANCER, [sys.executable, "-c", _COUNT])
            client = stage.start(CLIENT, [*argv, str(PER_SECOND)])
            said, _ = client.communicate(timeout=2 * SECONDS)
            entries, _ = counter.communicate(timeout=SECONDS)
    if client.returncode:
        raise DidNotRun(f"the client ended with {client.returncode}")
    counted: dict[str, Any] = json.loads(said)
    return counted, max(map(int, entries.split()))
