"""One subject under load: starts the load generator on a stage, reads what it counted."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median

from bench.command import DidNotRun
from bench.compare.build import Programs
from bench.compare.stage import BALANCER, CLIENT, Stage
from bench.compare.subjects import Subject
from bench.process import read_memory
from paraglider.lab.reaper import read_mount_namespace

QUIET_SHARE = 0.03
QUIET_WITHIN_S = 10.0
TRIES = 3
MEMORY_CONNECTIONS = 1000

_LOOK_S = 0.2
_MEMORY_S = 2.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack"
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h


class Mode(StrEnum):
    """What the client does, in the words of client.c."""

    CONNECT = "connect"
    REQUESTS = "requests"
    BULK = "bulk"


# How many connections at a time. More change no rate; that many keep two processors busy.
PARALLEL = {Mode.CONNECT: 64, Mode.REQUESTS: 64, Mode.BULK: 16}
# New connections are so many that the kernel's hash spreads them evenly: of two processors, half go
# to the other one. Of few that stay, chance would send another part there each time.
PLACEMENT = {Mode.CONNECT: "hash", Mode.REQUESTS: "local", Mode.BULK: "local"}
WARMUP_S = {Mode.CONNECT: 0.3, Mode.REQUESTS: 0.2, Mode.BULK: 0.2}
BRIEF_WARMUP_S = 0.1
BRIEF_S = {Mode.CONNECT: 0.4, Mode.BULK: 0.2}


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in one window of time.

    `busy_s` is of all processors together, without what processes had that are not the bench's.
    `foreign_share` is the part of the processors that these had, and the hypervisor.
    """

    seconds: float
    operations: int
    bytes: int
    failed: int
    slow: int
    p50_us: float
    p99_us: float
    busy_s: float
    foreign_share: float


@dataclass(frozen=True, slots=True)
class SavedState:
    """What the processes of a subject have resident, and what of it is their share."""

    processes: int
    rss_mib: float
    pss_mib: float


def client_command(
    programs: Programs,
    mode: Mode,
    numbers: tuple[int, int, int],
    sources: Sequence[str],
    targets: Sequence[str],
) -> list[str]:
    """Return the command that loads `targets` from the addresses `sources`; `numbers` are how many
    connections at a time, and the lengths of warm-up and window in ms (client.c)."""
    listed = ",".join(f"{address}:0" for address in sources), ",".join(targets)
    return [programs.client, mode.value, *map(str, numbers), *listed]


def measure(
    stage: Stage, subject: Subject, programs: Programs, mode: Mode, *, window_s: float
) -> Sample:
    """Load a subject that is there, and return what came of it; DidNotRun where nothing did.

    Where others disturb it, it is done again, and what was disturbed least is returned.
    """
    found: list[Sample] = []
    while len(found) < TRIES and not any(it.foreign_share <= QUIET_SHARE for it in found):
        wait_for_quiet()
        lengths_s = WARMUP_S[mode], window_s
        found.append(_measure_once(stage, subject, programs, mode, lengths_s))
    return min(found, key=lambda sample: sample.foreign_share)


def measure_briefly(stage: Stage, subject: Subject, programs: Programs, mode: Mode) -> Sample:
    """Do the same once, and at once, with hardly a warm-up: for windows that are many."""
    return _measure_once(stage, subject, programs, mode, (BRIEF_WARMUP_S, BRIEF_S[mode]))


def join_samples(samples: Sequence[Sample]) -> Sample:
    """Return what happened in several windows as if it were one; of the percentiles and of what
    others had, the median."""
    return Sample(
        seconds=sum(it.seconds for it in samples),
        operations=sum(it.operations for it in samples),
        bytes=sum(it.bytes for it in samples),
        failed=sum(it.failed for it in samples),
        slow=sum(it.slow for it in samples),
        p50_us=median(it.p50_us for it in samples),
        p99_us=median(it.p99_us for it in samples),
        busy_s=sum(it.busy_s for it in samples),
        foreign_share=median(it.foreign_share for it in samples),
    )


def _measure_once(
    stage: Stage,
    subject: Subject,
    programs: Programs,
    mode: Mode,
    lengths_s: tuple[float, float],
) -> Sample:
    warmup_ms, window_ms = (round(1000 * length_s) for length_s in lengths_s)
    numbers = (PARALLEL[mode], warmup_ms, window_ms)
    argv = client_command(programs, mode, numbers, [stage.source], subject.targets)
    with stage.serve(programs.server, PLACEMENT[mode]) as server:
        own = read_mount_namespace(str(server)) or ""
        before_s, began_s = _read_foreign_s(own), time.monotonic()
        counted = json.loads(stage.run(CLIENT, argv))
        took_s = time.monotonic() - began_s
        foreign = max(0.0, _read_foreign_s(own) - before_s) / took_s
    counted["busy_s"] -= foreign * counted["seconds"]
    stolen = counted.pop("steal_s") / counted["seconds"]
    sample = Sample(**counted, foreign_share=(foreign + stolen) / (os.cpu_count() or 1))
    if not (sample.operations or sample.bytes):
        raise DidNotRun(f"nothing came through {subject.name} in {window_ms} ms of {mode.value}")
    return sample


def measure_forgetting(stage: Stage) -> float:
    """Return the processor time (s) that it takes conntrack to forget one connection.

    In life that is done some time after the connection's end, in one sweep through all of them, and
    may or may not fall into a window. So it is done here, to all that a window has left, and its
    time is the sweep's without that of one through an empty table.
    """
    found = int(stage.run(BALANCER, ["cat", f"{_CONNTRACK}_count"]) if _has_conntrack() else 0)
    if not found:
        return 0.0
    full_s, empty_s = _flush(stage), _flush(stage)
    return max(0.0, full_s - empty_s) / found


def _flush(stage: Stage) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    stage.run(BALANCER, ["conntrack", "-F"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _has_conntrack() -> bool:
    return Path(f"{_CONNTRACK}_count").exists()


def measure_memory(stage: Stage, subject: Subject, programs: Programs, pid: int) -> SavedState:
    """Read a process and its children while many connections that stay are in use."""
    numbers = (MEMORY_CONNECTIONS, 0, round(2000 * _MEMORY_S))
    argv = client_command(programs, Mode.REQUESTS, numbers, [stage.source], subject.targets)
    with stage.serve(programs.server, PLACEMENT[Mode.REQUESTS]):
        client = stage.start(CLIENT, argv)
        time.sleep(_MEMORY_S)  # what is taken meanwhile is what is read
        found = [read_memory(each) for each in (pid, *_read_children(pid))]
        if client.wait(QUIET_WITHIN_S) != 0:
            raise DidNotRun(f"{MEMORY_CONNECTIONS} connections through {subject.name} did not stay")
    return SavedState(
        processes=len(found),
        rss_mib=sum(each["Rss"] for each in found) / 1024,
        pss_mib=sum(each["Pss"] for each in found) / 1024,
    )


def _read_children(pid: int) -> list[int]:
    """Return the ids of a process's children (proc_pid_task(5))."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_quiet() -> None:
    """Return once the processors rest, or when they have not for a long time."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < deadline:
        before = _read_busy_s()
        time.sleep(_LOOK_S)  # what is done meanwhile is what is looked at
        if _read_busy_s() - before <= QUIET_SHARE * _LOOK_S * (os.cpu_count() or 1):
            return


def _read_busy_s() -> float:
    """Return the time of all processors that was not idle (proc_stat(5))."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) * _TICK_S


def _read_foreign_s(own: str) -> float:
    """Return the processor time of all processes that are neither the bench's nor the kernel's:
    `own` is the mount namespace of the former.

    With it goes that of children that have ended, so that the difference between two readings also
    has those that began and ended in between.
    """
    ticks = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        # It may end while it is being looked at.
        with contextlib.suppress(OSError):
            # comm is in parentheses, and may hold any character (proc_pid_stat(5)).
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            is_kernel = int(fields[6]) & _KERNEL_THREAD
            if int(name) != os.getpid() and not is_kernel and read_mount_namespace(name) != own:
                ticks += sum(map(int, fields[11:15]))
    return ticks * _TICK_S
