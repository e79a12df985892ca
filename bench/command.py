"""Processes, started and timed.

Owns the start of every process here, and the order in which commands to be compared take turns.
Never measures a process that failed: that raises DidNotRun.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent

_TIMEOUT_S = 60


class DidNotRun(Exception):
    """Something could not be measured; the message says what came back instead."""


@dataclass(frozen=True, slots=True)
class Command:
    """A process to run: its arguments, the program first, and its working directory."""

    argv: tuple[str, ...]
    directory: Path = ROOT

    def run(self) -> str:
        """Run it in an environment without PYTHON* and PARAGLIDER_*; return its stdout."""
        inherited = ("PYTHON", "PARAGLIDER_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
        try:
            done = subprocess.run(
                self.argv,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DidNotRun(str(error)) from error
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            raise DidNotRun(
                f"{' '.join(self.argv)}: exit status {done.returncode}, and it said: {said[0]}"
            )
        return done.stdout


def time_by_turns(commands: Mapping[str, Command], *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each command in each round, after one round that does not count.

    Each round runs every command once, beginning with another one than the round before, so that
    what slows the host down for a while slows all of them and favours none.
    """
    names = list(commands)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        commands[name].run()
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began = perf_counter()
            commands[name].run()
            seconds[name].append(perf_counter() - began)
    return seconds
