"""The comparison: rounds of all subjects by turns, then the tables and the picture.

Owns the order. A round has hosts of its own, on which the subjects take several turns each: what a
virtual machine gives changes within seconds, and two sets of hosts that are made alike differ by
more than some subjects do. Each round begins with another subject, and every second turn goes
backwards, so that none has always the same neighbour before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from bench.command import ROOT, DidNotRun
from bench.compare.build import Programs, build_programs
from bench.compare.figures import Round, Turn
from bench.compare.load import (
    Memory,
    Mode,
    Sample,
    join_samples,
    measure,
    measure_forgetting,
    measure_memory,
)
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
TURNS = 6
SECONDS = 2.4
PICTURE = ROOT / "docs" / "performance.svg"


def measure_compare(*, rounds: int = ROUNDS, seconds: float = SECONDS) -> Iterator[str]:
    """Yield the tables; with all rounds also write them, and the picture, into docs/.

    `seconds` are those of a round in which a subject gets new connections, all turns together, and
    as many in which it carries bulk; requests have half of that.
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
    return [*subjects[first:], *subjects[:first]]


def _run_round(subjects: Sequence[Subject], programs: Programs, seconds: float) -> Round:
    found: Mapping[str, list[Turn]] = {subject.name: [] for subject in subjects}
    with Stage() as stage:
        for number in range(TURNS):
            for subject in reversed(subjects) if number % 2 else subjects:
                turn = _take_turn(subject, stage, programs, seconds / TURNS)
                found[subject.name].append(turn)
    return {name: _join_turns(turns) for name, turns in found.items()}


def _take_turn(subject: Subject, stage: Stage, programs: Programs, seconds: float) -> Turn:
    def sample(mode: Mode, window_s: float) -> Sample:
        return measure(stage, subject, programs, mode, window_s=window_s)

    process = subject.prepare(stage)
    stage.limit_time_wait()
    requests = sample(Mode.REQUESTS, seconds / 2)
    bulk, connect = sample(Mode.BULK, seconds), sample(Mode.CONNECT, seconds)
    # What it leaves behind is taken away before anybody else has a turn.
    turn = Turn(connect, requests, bulk, measure_forgetting(stage))
    stage.clear(process)
    return turn


def _join_turns(turns: Sequence[Turn]) -> Turn:
    return Turn(
        join_samples([turn.connect for turn in turns]),
        join_samples([turn.requests for turn in turns]),
        join_samples([turn.bulk for turn in turns]),
        median(turn.forget_s for turn in turns),
    )


def _read_memory(subject: Subject, programs: Programs) -> Memory | None:
    with Stage() as stage:
        process = subject.prepare(stage)
        if process is None:
            return None
        return measure_memory(stage, subject, programs, process.pid)


def _report(
    rounds: Sequence[Round],
    memory: dict[str, Memory | None],
    missing: Sequence[str],
    seconds: float,
) -> Iterator[str]:
    yield describe_machine()
    yield (
        f"{len(rounds)} rounds of {TURNS} turns; in each round {seconds:g} s of new connections "
        f"and of bulk, {seconds / 2:g} s of requests. {describe_quiet(rounds)} "
        "Each cell: least / middle / greatest of the rounds."
    )
    for name in missing:
        yield f"\n**Not measured, for it is not installed: {name}.**"
    yield ""
    yield from report_connections(rounds)
    yield from report_requests(rounds)
    yield from report_bulk(rounds)
    yield from report_memory(memory)
    yield from report_limits(rounds)
