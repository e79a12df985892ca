"""The comparison: rounds of all subjects by turns, then the tables and the picture.

Owns the order. What a virtual machine gives changes within seconds, and two sets of hosts that are
made alike differ by more than some subjects do: so a round has several sets of its own, and on each
all subjects take a turn. Each round begins with another subject, and every second turn goes
backwards, so that none has always the same neighbour before it.

What one addition is of another is hard to tell: both are a tenth of what a connection takes, which
changes by as much within a second. So those that are told apart by little take several turns more
on each set of hosts, as brief as they can be, and all of them within a few seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

from bench.command import ROOT, DidNotRun
from bench.compare.build import Programs, build_programs
from bench.compare.figures import BriefTurn, Round, Turn
from bench.compare.load import (
    BRIEF_S,
    Mode,
    SavedState,
    join_samples,
    measure,
    measure_briefly,
    measure_forgetting,
    measure_memory,
    wait_for_quiet,
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
from bench.compare.subjects import CLOSE, Subject, list_subjects
from bench.page import write_section

ROUNDS = 7
# In each round, each on hosts of its own.
TURNS = 3
SECONDS = 1.2
# On each set of hosts, of those that are told apart by little.
BRIEF_TURNS = 4
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
    full: Mapping[str, list[Turn]] = {subject.name: [] for subject in subjects}
    brief: Mapping[str, list[BriefTurn]] = {subject.name: [] for subject in subjects}
    close = [subject for subject in subjects if subject.name in CLOSE]
    for number in range(TURNS):
        with Stage() as stage:
            for subject in _there_and_back(subjects, number):
                turn = _take_turn(subject, stage, programs, seconds / TURNS)
                full[subject.name].append(turn)
            for again in range(BRIEF_TURNS):
                for subject in _there_and_back(close, again):
                    brief[subject.name].append(_take_brief_turn(subject, stage, programs))
    return {name: _join_turns(turns, brief[name]) for name, turns in full.items()}


def _there_and_back(subjects: Sequence[Subject], number: int) -> Sequence[Subject]:
    return subjects[::-1] if number % 2 else subjects


@contextmanager
def _on(stage: Stage, subject: Subject) -> Iterator[None]:
    """Have a subject on the stage inside the `with`."""
    process = subject.prepare(stage)
    stage.limit_time_wait()
    yield
    stage.clear(process)


def _take_turn(subject: Subject, stage: Stage, programs: Programs, window_s: float) -> Turn:
    with _on(stage, subject):
        requests = measure(stage, subject, programs, Mode.REQUESTS, window_s=window_s / 2)
        bulk = measure(stage, subject, programs, Mode.BULK, window_s=window_s)
        connect = measure(stage, subject, programs, Mode.CONNECT, window_s=window_s)
        # What it leaves behind is taken away before anybody else has a turn.
        return Turn(connect, requests, bulk, measure_forgetting(stage))


def _take_brief_turn(subject: Subject, stage: Stage, programs: Programs) -> BriefTurn:
    with _on(stage, subject):
        wait_for_quiet()  # what was begun before is taken away behind everybody's back
        bulk = measure_briefly(stage, subject, programs, Mode.BULK)
        connect = measure_briefly(stage, subject, programs, Mode.CONNECT)
        return BriefTurn(connect, bulk, measure_forgetting(stage))


def _join_turns(full: Sequence[Turn], brief: Sequence[BriefTurn]) -> Turn:
    turns: Sequence[Turn | BriefTurn] = [*full, *brief]
    return Turn(
        join_samples([turn.connect for turn in turns]),
        join_samples([turn.requests for turn in full]),
        join_samples([turn.bulk for turn in turns]),
        median(turn.forget_s for turn in turns),
    )


def _read_memory(subject: Subject, programs: Programs) -> SavedState | None:
    with Stage() as stage:
        process = subject.prepare(stage)
        if process is None:
            return None
        return measure_memory(stage, subject, programs, process.pid)


def _report(
    rounds: Sequence[Round],
    memory: dict[str, SavedState | None],
    missing: Sequence[str],
    seconds: float,
) -> Iterator[str]:
    yield describe_machine()
    yield (
        f"{len(rounds)} rounds of {TURNS} turns; in each round {seconds:g} s of new connections "
        f"and of bulk, {seconds / 2:g} s of requests, and of those that are told apart by little "
        f"{TURNS * BRIEF_TURNS} turns of {BRIEF_S[Mode.CONNECT]:g} and {BRIEF_S[Mode.BULK]:g} s "
        f"more. {describe_quiet(rounds)} "
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
