"""`python -m bench.reading FILE`: load one configuration, print what it cost as JSON.

Owns the measurement inside the process. Each file has a process of its own, for memory once
touched may never be given back, and a parser that crashes takes only itself along.

Time and memory begin once the modules are imported, and end when the whole message is text. What
the first mistake imports (the search for the nearest key) is in them.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from paraglider.config.load import load_config
from paraglider.errors import ConfigError

# A parser that explodes is to hurt nobody else.
_MAX_ADDRESS_SPACE_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file cost, and the first thing said against it (None: it was accepted)."""

    seconds: float
    growth_bytes: int
    refusal: str | None


def read_once(path: str) -> Reading:
    """Load the configuration at `path` and measure it."""
    refusal = None
    _reset_peak()
    peak_bytes = _peak_bytes()
    began = perf_counter()
    try:
        load_config(path, environment={}, stdin=sys.stdin.buffer)
    except ConfigError as error:
        refusal = error.problems[0].message if str(error) else ""
    seconds = perf_counter() - began
    return Reading(seconds, _peak_bytes() - peak_bytes, refusal)


def _reset_peak() -> None:
    """Make VmHWM what is resident now (proc_pid_clear_refs(5), value 5)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes() -> int:
    """Return VmHWM, the most that ever was resident (proc_pid_status(5), in KiB)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESS_SPACE_BYTES, _MAX_ADDRESS_SPACE_BYTES))
    print(json.dumps(asdict(read_once(sys.argv[1]))))
