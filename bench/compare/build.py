"""The load generator and its server, built from their C source here, once for each state of it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.command import ROOT, Command, DidNotRun

_SOURCE = Path(__file__).parent
_CACHE = ROOT / ".cache" / "bench"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the two are."""

    client: str
    server: str


def build_programs() -> Programs:
    """Return both, built if need be; DidNotRun where there is no compiler."""
    return Programs(build_program("client"), build_program("server"))


def build_program(name: str) -> str:
    """Return where the program called `name` is, built if need be; DidNotRun where there is no
    compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise DidNotRun("the load generator is built with gcc, and there is none")
    sources = [_SOURCE / f"{name}.c", *sorted(_SOURCE.glob("*.h"))]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    built = _CACHE / f"{name}-{state[:16]}"
    if not built.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        # What was not built to its end is never taken for the program.
        begun = built.with_suffix(".part")
        Command((compiler, *_FLAGS, "-o", str(begun), str(sources[0]))).run()
        begun.replace(built)
    return str(built)
