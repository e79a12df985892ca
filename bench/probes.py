"""What the prober costs: 1,000 backends, each probed every 2 s, by the process that does it.

Owns that process, the servers it probes (one on every address of loopback) and the reader of its
reports; each kind of check has new ones. `python -m bench.probes KIND` measures one kind and prints
JSON; without KIND, the table.

The kernel's work is in the processor time, on loopback also much of what a server's kernel does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from statistics import median

from bench.command import Command
from bench.markdown import head, row, spread, verdict
from bench.process import read_cpu_s, read_memory
from paraglider.config.model import Check, CheckKind
from paraglider.health.probe import Target
from paraglider.health.prober_main import serve_probes
from paraglider.health.wire import MAX_REPORTS_BYTES, LineBuffer, decode_reports, encode_orders

BACKENDS = 1000
INTERVAL_S = 2.0
ROUNDS = 3
ROUND_S = 10.0
MAX_PERCENT = 20.0
KINDS = (CheckKind.TCP, CheckKind.HTTP)

# As long as the prober needs to have probed everybody once.
_WARM_UP_S = 2.0
_FIRST_ADDRESS = IPv4Address("127.1.0.1")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind: percent of a processor and good and bad results in each round; and memory in
    KiB, resident and the process's own, of the prober and of a fork that does nothing."""

    percents: list[float]
    good: list[int]
    bad: list[int]
    rss_kib: int
    own_kib: int
    bare_rss_kib: int
    bare_own_kib: int


def measure_probes() -> Iterator[str]:
    """Yield a table of processor time, and one of memory."""
    costs: dict[str, Cost] = {}
    for kind in KINDS:
        said = Command((sys.executable, "-m", "bench.probes", kind)).run()
        costs[kind] = Cost(**json.loads(said))
    yield head("check", "min %", "median %", "max %", "probes/s", "bad", texts=1)
    for name, cost in costs.items():
        rate = median(cost.good) / ROUND_S
        yield row(name, *spread(cost.percents), f"{rate:.0f}", sum(cost.bad))
    broken = [name for name, cost in costs.items() if median(cost.percents) > MAX_PERCENT]
    needed = f"a median of at most {MAX_PERCENT:g} % of one processor, {ROUNDS} rounds"
    yield verdict(needed, broken_by=broken)

    yield "\nMemory at the end, in MiB, beside a fork of the same process that does nothing:\n"
    titles = ("resident", "fork", "its own", "fork")
    yield head("check", *titles, texts=1)
    for name, cost in costs.items():
        sizes = (cost.rss_kib, cost.bare_rss_kib, cost.own_kib, cost.bare_own_kib)
        yield row(name, *(f"{size / 1024:.1f}" for size in sizes))


def measure_kind(kind: CheckKind) -> Cost:
    """Probe for `ROUNDS` rounds."""
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listener:  # noqa: S104 - see below
        # Loopback has 16 million addresses; this listens on all of them, and serves loopback's.
        port = listener.getsockname()[1]
        check = Check(kind=kind, interval_s=INTERVAL_S)
        targets = [
            Target(f"web/{number}", "", _FIRST_ADDRESS + number, port, check)
            for number in range(BACKENDS)
        ]
        ours, theirs = socket.socketpair()
        with (
            _fork(lambda: _serve(listener)),
            _fork(signal.pause) as bare,
            _fork(lambda: _probe(ours, theirs)) as prober,
        ):
            theirs.close()
            with ours:
                ours.sendall(encode_orders(targets, {}))
                _read_for(ours, _WARM_UP_S)
                rounds = [_measure_round(ours, prober) for _ in range(ROUNDS)]
                (rss, own), (bare_rss, bare_own) = _read_memory(prober), _read_memory(bare)
    percents, good, bad = (list(values) for values in zip(*rounds, strict=True))
    return Cost(percents, good, bad, rss, own, bare_rss, bare_own)


def _measure_round(reports: socket.socket, prober: int) -> tuple[float, int, int]:
    before_s, began = read_cpu_s(prober), time.monotonic()
    good, bad = _read_for(reports, ROUND_S)
    spent_s, passed_s = read_cpu_s(prober) - before_s, time.monotonic() - began
    return 100 * spent_s / passed_s, good, bad


def _read_for(reports: socket.socket, duration_s: float) -> tuple[int, int]:
    """Return how many good and bad results come in that time."""
    lines = LineBuffer(MAX_REPORTS_BYTES)
    results: list[bool] = []
    end = time.monotonic() + duration_s
    while (left_s := end - time.monotonic()) > 0:
        reports.settimeout(left_s)
        try:
            data = reports.recv(1 << 16)
        except TimeoutError:
            break
        for line in lines.feed(data):
            results += [result.is_good for result in decode_reports(line).results]
    return results.count(True), results.count(False)


def _read_memory(pid: int) -> tuple[int, int]:
    """Return KiB that are resident, and those of them that no other process has."""
    sizes = read_memory(pid)
    return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


@contextmanager
def _fork(work: Callable[[], object]) -> Iterator[int]:
    """Run `work` in a process of its own, for as long as this is entered."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _probe(ours: socket.socket, theirs: socket.socket) -> None:
    ours.close()
    serve_probes(theirs, random=random.random)


def _serve(listener: socket.socket) -> None:
    """Answer one request after another; each is read whole before the next one is taken."""
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(_ANSWER)
            except OSError:
                continue  # a probe that only connects is gone by now


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asdict(measure_kind(CheckKind(sys.argv[1])))))
    else:
        for printed in measure_probes():
            print(printed)
