"""The comparison: rounds of all subjects by turns, then the tables and the picture.

Owns the order. A round has every subject once; each round begins with another one, and every second
goes backwards, so that none has always the same neighbour before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from bench.command import ROOT, DidNotRun
from bench.compare.build import Programs, build_programs
from bench.compare.figures import Round, Turn
from bench.compare.load import Memory, Mode, measure, measure_forgetting, measure_memory
from bench.compare.machine import describe_machine, describe_quiet
from bench.compare.picture import draw
from bench.compare.report import (
    report_bulk,
    report_connections,
    report_limits,
    report_memory,
    report_requests,
)
from bench.compare.stage import Stage
from bench.compare.subjects import Subject, list_subjects
from bench.page import write_section

ROUNDS = 7
SECONDS = 2.5
PICTURE = ROOT / "docs" / "performance.svg"


def measure_compare(*, rounds: int = ROUNDS, seconds: float = SECONDS) -> Iterator[str]:
    """Yield the tables; with all rounds also write them, and the picture, into docs/.

    `seconds` is the length of a window of new connections; the two others are half as long.
    """
    if os.geteuid():
        raise DidNotRun("namespaces and rules need root")
    programs = build_programs()
    subjects = [subject for subject in list_subjects() if not subject.is_missing]
    missing = [subject.name for subject in list_subjects() if subject.is_missing]
    found = []
    for number in range(rounds):
        print(f"bench: compare: round {number + 1} of {rounds}", file=sys.stderr)
        found.append(_run_round(_order(subjects, number), programs, seconds))
    memory = {subject.name: _read_memory(subject, programs) for subject in subjects}
    in_order = [{subject.name: turns[subject.name] for subject in subjects} for turns in found]
    lines = list(_report(in_order, memory, missing, seconds))
    yield from lines
    if rounds >= ROUNDS:
        PICTURE.write_text(draw(in_order), encoding="utf-8")
        write_section("compare", "\n".join(lines))


def _order(subjects: Sequence[Subject], number: int) -> list[Subject]:
    first = number % len(subjects)
    turned = [*subjects[first:], *subjects[:first]]
    return turned[::-1] if number % 2 else turned


def _run_round(subjects: Sequence[Subject], programs: Programs, seconds: float) -> Round:
    return {subject.name: _take_turn(subject, programs, seconds) for subject in subjects}


def _take_turn(subject: Subject, programs: Programs, seconds: float) -> Turn:
    with Stage() as stage:
        subject.prepare(stage)
        stage.limit_time_wait()
        requests = measure(stage, subject, programs, Mode.REQUESTS, window_s=seconds / 2)
        bulk = measure(stage, subject, programs, Mode.BULK, window_s=seconds / 2)
        # Last: what it leaves behind is nobody's but this stage's, and ends with it.
        connect = measure(stage, subject, programs, Mode.CONNECT, window_s=seconds)
        return Turn(connect, requests, bulk, measure_forgetting(stage))


def _read_memory(subject: Subject, programs: Programs) -> Memory | None:
    with Stage() as stage:
        pid = subject.prepare(stage)
        return None if pid is None else measure_memory(stage, subject, programs, pid)


def _report(
    rounds: Sequence[Round],
    memory: dict[str, Memory | None],
    missing: Sequence[str],
    seconds: float,
) -> Iterator[str]:
    yield describe_machine()
    yield (
        f"{len(rounds)} rounds; windows of {seconds:g} s for new connections, "
        f"{seconds / 2:g} s for the rest. {describe_quiet(rounds)} "
        "Each cell: least / median / greatest of the rounds."
    )
    for name in missing:
        yield f"\n**Not measured, for it is not installed: {name}.**"
    yield ""
    yield from report_connections(rounds)
    yield from report_requests(rounds)
    yield from report_bulk(rounds)
    yield from report_memory(memory)
    yield from report_limits(rounds)
