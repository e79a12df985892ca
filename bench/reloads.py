"""The agent's memory after many reloads: whether it grows without end.

In network namespaces without a way out, as root. `python -m bench.reloads FILE COUNT FIRST` is the
part that runs on the balancer: it rewrites FILE and orders a reload, COUNT times.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

from bench.command import DidNotRun
from bench.markdown import head, row, verdict
from bench.process import read_memory
from paraglider.agent.client import ask_agent
from paraglider.agent.protocol import Request
from paraglider.kernel.iptables import Variant
from paraglider.lab.hosts import Lab
from tests.netns.harness import BALANCER, IPV4, Agent, build_topology

RELOADS = 5000
EVERY = 250
# Python's allocator needs some hundreds of reloads to reach its size.
SETTLED_AFTER = 1000
MAX_GROWTH_KIB = 256

_SOCKET = "/run/paraglider/admin.sock"
_TIMEOUT_S = 600.0


def measure_reloads() -> Iterator[str]:
    """Yield a table of memory for each variant, and the verdict."""
    if os.geteuid():
        raise DidNotRun("namespaces and rules need root")
    broken = []
    for variant in Variant:
        yield f"{variant.value}: KiB after so many reloads, each of another file\n"
        yield head("reloads", "agent RSS", "its own", "prober RSS", "its own", texts=0)
        sizes = {}
        for count, size in _measure(variant):
            sizes[count] = size
            yield row(count, *size)
        grown_kib = [b - a for a, b in zip(sizes[SETTLED_AFTER], sizes[RELOADS], strict=True)]
        if max(grown_kib) > MAX_GROWTH_KIB:
            broken.append(f"{variant.value} by {max(grown_kib)} KiB")
        yield ""
    needed = f"at most {MAX_GROWTH_KIB} KiB more from reload {SETTLED_AFTER} to {RELOADS}"
    yield verdict(needed, broken_by=broken)


def make_config(number: int) -> str:
    """Return a file that no other number has: other names, ports, backends and checks."""
    frontends = [_frontend(number, index) for index in range(1 + number % 4)]
    return "frontends:\n" + "".join(frontends)


def _frontend(number: int, index: int) -> str:
    backends = [f"    - {IPV4.endpoint(it, 6000 + number % 900)}\n" for it in IPV4.backends]
    backends.append(
        f"    - {{address: {IPV4.backend_endpoints[0]}, check: {{port: {number + 1}}}}}\n"
    )
    return (
        f"  - name: f{number % 7}-{index}\n"
        f'    bind: "{IPV4.endpoint(IPV4.bind, 10_000 + 10 * (number % 1000) + index)}"\n'
        f"    privateip: {IPV4.privateip}\n"
        f"    check: {{type: http, path: /health/{number}, body: ok {number}}}\n"
        f"    backends:\n{''.join(backends[: 1 + (number + index) % 4])}"
    )


def _measure(variant: Variant) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield how many reloads were made, and the sizes of agent and prober after them."""
    with Lab() as lab:
        topology = build_topology(lab, addresses=IPV4, variant=variant)
        agent = topology.start_agent(config=make_config(0))
        # Its log is a pipe that somebody has to read.
        Thread(target=_drain, args=(agent,), daemon=True).start()
        yield 0, _read_sizes(agent)
        for first in range(1, RELOADS, EVERY):
            driver = [
                sys.executable,
                "-m",
                "bench.reloads",
                str(agent.path),
                str(EVERY),
                str(first),
            ]
            lab.run(BALANCER, driver, timeout_s=_TIMEOUT_S)
            yield first + EVERY - 1, _read_sizes(agent)


def _read_sizes(agent: Agent) -> tuple[int, ...]:
    """Return KiB: RSS, and what is written and shared with nobody; of the agent, then the prober.
    PSS would change with whatever else runs the same interpreter."""
    memory = [read_memory(pid) for pid in (agent.running.pid, agent.prober())]
    return tuple(it[what] for it in memory for what in ("Rss", "Private_Dirty"))


def _drain(agent: Agent) -> None:
    stream = agent.running.stdout
    while stream is not None and os.read(stream.fileno(), 1 << 16):
        pass


def reload_often(path: Path, count: int, first: int) -> None:
    """Write a new file and have the agent take it, `count` times."""
    for number in range(first, first + count):
        path.write_text(make_config(number), encoding="ascii")
        answer = ask_agent(_SOCKET, Request(command="reload"))
        if answer is None or answer.exit_code:
            raise DidNotRun(f"reload {number}: {answer.text if answer else 'there is no agent'}")


if __name__ == "__main__":
    reload_often(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
