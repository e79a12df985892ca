"""What hostile and large configuration files cost: time, and memory beyond what Python has anyway.

Owns the repetition, the limits and the table. The texts are hostile.py's, the measurement inside
the process is reading.py's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.command import Command, DidNotRun
from bench.hostile import HOSTILE, LARGE
from bench.markdown import head, row, spread, verdict
from bench.reading import Reading

READINGS = 5
MAX_MS = 50.0
# A value of 4 MiB is held three times: as the file, by libyaml and as the value.
MAX_MB = 15.0

_TITLES = ("file", "first problem", "bytes", "min ms", "median ms", "max ms", "max MB")
_SHOWN_CHARACTERS = 48


def measure_files() -> Iterator[str]:
    """Yield a table of the hostile files with its verdict, and one of the large files.

    Raises DidNotRun at the end if a file could not be read at all.
    """
    failures: list[str] = []
    broken: list[str] = []
    yield head(*_TITLES, texts=2)
    for name, text, outcome in _each(HOSTILE):
        yield _row_of(name, text, outcome)
        broken += [f"{name} ({fault})" for fault in _faults(outcome)]
        if isinstance(outcome, DidNotRun):
            failures.append(f"{name}: {outcome}")
    needed = f"each refused in a median under {MAX_MS:g} ms, always under {MAX_MB:g} MB"
    yield verdict(needed, broken_by=broken)

    yield (
        "\nLarge files that are right, at least up to their last line. All of each has to be read,"
        " so that its cost is that of its size, and these limits are not for it:\n"
    )
    yield head(*_TITLES, texts=2)
    for name, text, outcome in _each(LARGE):
        yield _row_of(name, text, outcome)
        if isinstance(outcome, DidNotRun):
            failures.append(f"{name}: {outcome}")
    if failures:
        raise DidNotRun("; ".join(failures))


def _each(
    cases: Mapping[str, Callable[[], bytes]],
) -> Iterator[tuple[str, bytes, list[Reading] | DidNotRun]]:
    """Yield each case with what its readings gave."""
    with TemporaryDirectory(prefix="bench-") as directory:
        file = Path(directory) / "glider.yaml"
        command = Command((sys.executable, "-m", "bench.reading", str(file)))
        for name, build in cases.items():
            text = build()
            file.write_bytes(text)
            try:
                readings = [Reading(**json.loads(command.run())) for _ in range(READINGS)]
            except DidNotRun as error:
                yield name, text, error
            else:
                yield name, text, readings


def _faults(outcome: list[Reading] | DidNotRun) -> Iterator[str]:
    """Yield each way in which a hostile file was not refused as needed."""
    if isinstance(outcome, DidNotRun):
        yield "did not run"
        return
    if any(reading.refusal is None for reading in outcome):
        yield "accepted"
    if (milliseconds := median(reading.seconds for reading in outcome) * 1e3) >= MAX_MS:
        yield f"{milliseconds:.1f} ms"
    if (megabytes := max(reading.growth_bytes for reading in outcome) / 1e6) >= MAX_MB:
        yield f"{megabytes:.1f} MB"


def _row_of(name: str, text: bytes, outcome: list[Reading] | DidNotRun) -> str:
    if isinstance(outcome, DidNotRun):
        return row(name, "**did not run**", len(text), "-", "-", "-", "-")
    milliseconds = [reading.seconds * 1e3 for reading in outcome]
    megabytes = max(reading.growth_bytes for reading in outcome) / 1e6
    refusal = outcome[0].refusal
    shown = "(accepted)" if refusal is None else refusal[:_SHOWN_CHARACTERS].replace("|", "\\|")
    return row(name, shown, len(text), *spread(milliseconds), f"{megabytes:.1f}")
