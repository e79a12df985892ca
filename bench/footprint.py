"""What the container costs when nothing happens, and how soon it serves after `docker run`.

Owns an internal Docker network, one container after another on it, and the server that ten
backends are: this process, at the network's first address, which is this machine's. It is also the
client, so that no other process of the image shares memory with those that are measured.

    python -m bench.footprint [IMAGE]
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from threading import Thread

from bench.command import Command, DidNotRun
from bench.markdown import head, row, spread, verdict
from bench.process import read_cpu_s, read_memory

IMAGE = "paraglider"
BACKENDS = 10
ROUNDS = 9
IDLE_S = 30.0
MAX_AGENT_MIB = 34.0
MAX_TOGETHER_MIB = 45.0
MAX_READY_S = 1.5

_SUBNET = IPv4Network("198.18.109.0/24")
_NETWORK = f"paraglider-bench-{os.getpid()}"
_THIS_MACHINE = str(_SUBNET[1])
_PORT = 4444
_FIRST_BACKEND = 5001
# As docs/container.md has it for an agent that is not root.
_HARDENED = ("--read-only", "--cap-drop=ALL", "--cap-add=NET_ADMIN")
_USER = ("--cap-add=SETUID", "--cap-add=KILL")
_WITHIN_S = 20.0
_POLL_S = 0.005
_ASK_S = 0.5
_SUPERVISORD, _AGENT, _PROBER = "process 1, supervisord", "the agent", "its prober"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the container: KiB resident, KiB of them that are its share, and seconds of
    processor time since it began."""

    name: str
    rss_kib: int
    pss_kib: int
    cpu_s: float


def measure_footprint(image: str = IMAGE) -> Iterator[str]:
    """Yield a table of memory and processor time, and one of the time to the first connection."""
    if os.geteuid() != 0:
        raise DidNotRun("the memory of other users' processes can be read by root alone")
    with _network(), _backends():
        before, after = _measure_idle(image)
        yield from _describe_idle(before, after)
        # Each time another address: what this machine knows of the last one's is not asked.
        ready = [_measure_start(image, str(_SUBNET[10 + number])) for number in range(ROUNDS + 1)]
    yield f"\nSince `docker run` was begun, {ROUNDS} rounds after a warm-up:\n"
    yield head("moment", "min s", "median s", "max s", texts=1)
    yield row("it has returned", *spread([run for run, _ in ready[1:]], digits=2))
    seconds = spread([served for _, served in ready[1:]], digits=2)
    yield row("the first connection is served", *seconds)
    broken = ["the first connection"] if float(seconds[1]) > MAX_READY_S else []
    yield verdict(f"a median of at most {MAX_READY_S:g} s", broken_by=broken)


def _describe_idle(before: Mapping[int, Process], after: Mapping[int, Process]) -> Iterator[str]:
    yield f"{BACKENDS} backends, checked, none of them asked for anything, over {IDLE_S:g} s:\n"
    yield head("process", "RSS MiB", "PSS MiB", "% of a processor", texts=1)
    percents = {
        pid: 100 * (process.cpu_s - before[pid].cpu_s) / IDLE_S for pid, process in after.items()
    }
    for pid, process in after.items():
        sizes = (f"{kib / 1024:.1f}" for kib in (process.rss_kib, process.pss_kib))
        yield row(process.name, *sizes, f"{percents[pid]:.2f}")
    together_mib = sum(process.pss_kib for process in after.values()) / 1024
    yield row("together", "", f"{together_mib:.1f}", f"{sum(percents.values()):.2f}")
    agent_mib = max(p.rss_kib for p in after.values() if p.name != _SUPERVISORD) / 1024
    broken = ["the agent"] if agent_mib > MAX_AGENT_MIB else []
    broken += ["together"] if together_mib > MAX_TOGETHER_MIB else []
    yield verdict(
        f"an agent of at most {MAX_AGENT_MIB:g} MiB RSS, and {MAX_TOGETHER_MIB:g} MiB PSS together",
        broken_by=broken,
    )


def _measure_idle(image: str) -> tuple[dict[int, Process], dict[int, Process]]:
    """Return the processes of a container to which all backends are up, and again after a time."""
    with _container(image, str(_SUBNET[2])) as name:
        _wait_until_served(str(_SUBNET[2]))
        deadline = time.monotonic() + _WITHIN_S
        while (up := _docker("exec", name, "paraglider", "status").count(" up ")) < BACKENDS:
            if time.monotonic() > deadline:
                raise DidNotRun(f"{up} of {BACKENDS} backends are up after {_WITHIN_S:g} s")
            # Each question is a process in the container, and must not slow down what it is about.
            time.sleep(_ASK_S)
        before = _read_processes(name)
        time.sleep(IDLE_S)  # what they do meanwhile is what is measured
        after = _read_processes(name)
    # What the agent was just running is in one of them.
    stayed = {pid: process for pid, process in after.items() if pid in before}
    if not {_SUPERVISORD, _AGENT} <= {process.name for process in stayed.values()}:
        raise DidNotRun("the agent was replaced meanwhile")
    return before, stayed


def _measure_start(image: str, address: str) -> tuple[float, float]:
    """Return the seconds until `docker run` returns, and until a connection is served."""
    began = time.perf_counter()
    with _container(image, address):
        # Not earlier: what is asked for an address that is not there yet is asked again in 1 s.
        returned = time.perf_counter()
        _wait_until_served(address)
        return returned - began, time.perf_counter() - began


def _wait_until_served(address: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline:
        with (
            suppress(OSError),
            socket.create_connection((address, _PORT), timeout=0.2) as connection,
        ):
            if connection.recv(1):
                return
        # Nobody outside is told when the rules are in place, and this long is the measure's error.
        time.sleep(_POLL_S)
    raise DidNotRun(f"no connection to {address}:{_PORT} was served within {_WITHIN_S:g} s")


def _read_processes(container: str) -> dict[int, Process]:
    """Return the processes of a container by their process ids on this machine.

    `docker top` prints a title, and for each process its id and its parent's.
    """
    listed = _docker("top", container, "-eo", "pid,ppid").splitlines()[1:]
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed)}
    found = {}
    for pid, parent in sorted(parents.items()):
        is_first, is_second = parent not in parents, parents.get(parent) not in parents
        name = _SUPERVISORD if is_first else _AGENT if is_second else _PROBER
        with suppress(FileNotFoundError):  # it ended
            found[pid] = _read_process(pid, name)
    return found


def _read_process(pid: int, name: str) -> Process:
    sizes = read_memory(pid)
    return Process(name, sizes["Rss"], sizes["Pss"], read_cpu_s(pid))


@contextmanager
def _container(image: str, address: str) -> Iterator[str]:
    """Run an appliance inside the `with`; return the id of its container."""
    backends = (f"{_THIS_MACHINE}:{_FIRST_BACKEND + number}" for number in range(BACKENDS))
    settings = {
        "PARAGLIDER_BIND": f"{address}:{_PORT}",
        "PARAGLIDER_PRIVATEIP": address,
        "PARAGLIDER_BACKENDS": ",".join(backends),
    }
    variables = (f"--env={name}={value}" for name, value in settings.items())
    place = (f"--network={_NETWORK}", f"--ip={address}", "--sysctl=net.ipv4.ip_forward=1")
    name = f"{_NETWORK}-{address}"
    try:
        _docker("run", "--detach", f"--name={name}", *_HARDENED, *_USER, *place, *variables, image)
        yield name
    finally:
        with suppress(DidNotRun):
            _docker("rm", "--force", name)


@contextmanager
def _network() -> Iterator[None]:
    options = ("--internal", f"--subnet={_SUBNET}", f"--gateway={_THIS_MACHINE}")
    _docker("network", "create", *options, _NETWORK)
    try:
        yield
    finally:
        _docker("network", "rm", _NETWORK)


@contextmanager
def _backends() -> Iterator[None]:
    """Answer every connection to the backends' ports with one byte."""
    listeners = [
        socket.create_server((_THIS_MACHINE, _FIRST_BACKEND + number), backlog=128)
        for number in range(BACKENDS)
    ]
    for listener in listeners:
        Thread(target=_serve, args=(listener,), daemon=True).start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with closing(connection), suppress(OSError):
            connection.sendall(b"\n")


def _docker(*arguments: str) -> str:
    return Command(("docker", *arguments)).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m bench.footprint",
        description="Measure what the container takes at rest, and how soon it serves; as root.",
    )
    parser.add_argument("image", nargs="?", default=IMAGE, help="default: %(default)s")
    arguments = parser.parse_args()
    print("## footprint: the container at rest, and its start\n")
    try:
        for printed in measure_footprint(arguments.image):
            print(printed, flush=True)
    except DidNotRun as error:
        raise SystemExit(f"bench: footprint: {error}") from error
