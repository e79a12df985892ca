"""Where a run took place: what its numbers depend on, in words."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median

from bench.compare.figures import Round
from bench.compare.load import QUIET_SHARE
from bench.compare.proxies import HAPROXY, NGINX, find_program

_VERSIONS = {
    "iptables": ("iptables", "--version"),
    "HAProxy": (HAPROXY, "-v"),
    "nginx": (NGINX, "-v"),
}


def describe_machine() -> str:
    """Name processors, kernel and programs."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.MULTILINE)
    virtual = " of a virtual machine" if re.search(r"^flags.*\bhypervisor\b", cpuinfo, re.M) else ""
    programs = [f"{name} {_read_version(*argv)}" for name, argv in _VERSIONS.items()]
    kernel = re.match(r"\d+\.\d+", platform.release())
    return (
        f"{os.cpu_count()} processors{virtual} ({model[1] if model else platform.machine()}), "
        f"Linux {kernel[0] if kernel else platform.release()}, {', '.join(programs)}."
    )


def describe_quiet(rounds: Sequence[Round]) -> str:
    """Say how much of the processors others had meanwhile, and what was lost on the way."""
    turns = list(chain.from_iterable(found.values() for found in rounds))
    samples = [sample for turn in turns for sample in (turn.connect, turn.requests, turn.bulk)]
    shares = [100 * sample.foreign_share for sample in samples]
    disturbed = sum(share > 100 * QUIET_SHARE for share in shares)
    slow = sum(sample.slow for sample in samples)
    return (
        f"Other programs and the hypervisor had {median(shares):.1f} % of the processors "
        f"(at most {max(shares):.1f} %; above {100 * QUIET_SHARE:g} % in {disturbed} of "
        f"{len(shares)} windows). {_describe_failures(rounds)}; {slow} exchanges took longer "
        "than 0.2 s."
    )


def _describe_failures(rounds: Sequence[Round]) -> str:
    """Name the subjects through which connections failed."""
    failures = []
    for name in rounds[0]:
        turns = [found[name] for found in rounds]
        if failed := sum(t.connect.failed + t.requests.failed + t.bulk.failed for t in turns):
            failures.append(f"{failed:,} of {name}")
    return f"Connections that failed: {', '.join(failures) or 'none'}"


def _read_version(program: str, option: str) -> str:
    """Return the first thing that looks like a version; both streams are read, for nginx."""
    path = find_program(program)
    if path is None:
        return "not installed"
    done = subprocess.run(
        (path, option), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    version = re.search(r"\d+(\.\d+)+", done.stdout)
    return version[0] if version else "of unknown version"
