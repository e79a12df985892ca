"""Other processes: the processor time and the memory that they have taken, as the kernel counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def read_cpu_s(pid: int) -> float:
    """Return the processor time of a process's threads, to the nanosecond (/proc/PID/stat counts
    whole ticks, which is too coarse for a process at rest)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return (
        sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)
        / 1e9
    )


def read_memory(pid: int) -> Mapping[str, int]:
    """Return KiB by what they are: ``Rss``, ``Pss``, ``Private_Dirty``, ... (proc_pid_smaps(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}
