"""Programs: run while the agent's loop goes on.

`run` is what the kernel's room starts programs with (kernel/process.py, `Run`). Until the program
has ended the loop serves what needs none: reports of the prober, requests, signals, what the kernel
reports. See loop.py for what may be done there.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from paraglider.agent.loop import Loop
from paraglider.errors import DidNotEndError
from paraglider.kernel.process import BYTES_PER_S, Finished, Program

# For each program, beside what the amount of its text allows, and what it may wait for others.
_LIMIT_S = 5.0
# Between looks at what is due meanwhile.
_TURN_S = 0.1
# At the end: the part of the time that is left that one program may take, and the least.
_PART, _LEAST_S = 0.25, 0.2
# At the end there is no time for what is seven times slower than expected.
_LAST_BYTES_PER_S = 1_000_000


class StoppedError(Exception):
    """The agent was told to end while a program ran: what was begun is abandoned, and what the
    kernel holds is taken away instead of put right. No ParagliderError: nothing is rolled back."""


def _pass_over(_: Sequence[signal.Signals]) -> None:
    """Ignore signals: the agent does not run yet."""


class Programs:
    """Runs one program at a time. `meanwhile` is called in each turn of the loop, with the signals
    that came; it must not start a program."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.meanwhile: Callable[[Sequence[signal.Signals]], None] = _pass_over
        self._is_running = False
        self._is_stopped = False
        self._end_s: float | None = None

    def stop(self) -> None:
        """Kill the program that runs, and start no other: StoppedError in `run`."""
        self._is_stopped = True

    def begin_last(self, within_s: float) -> None:
        """Start programs again, which all together may take `within_s` from now on: each gets a
        quarter of what is left then."""
        self._is_stopped = False
        self._end_s = self._loop.clock() + within_s

    def left_s(self) -> float:
        """Return what is left of that time."""
        return max(0.0, (self._end_s or 0.0) - self._loop.clock())

    def run(self, argv: Sequence[str], *, text: str = "", wait_s: float = 0.0) -> Finished:
        """Run a program to its end, as `Run` says. StoppedError when the agent is told to end."""
        if self._is_running:
            raise RuntimeError(f"{argv[0]} was to be started while another program ran")
        self._raise_if_stopped()
        if self._end_s is not None and not self.left_s():
            raise DidNotEndError(f"{argv[0]} was not started: the time to end in is over")
        self._is_running = True
        try:
            with Program(argv, text) as program:
                self._loop.watch(program.fileno(), lambda: None)
                try:
                    return self._finish(program, wait_s)
                finally:
                    self._loop.forget(program.fileno())
        finally:
            self._is_running = False

    def _finish(self, program: Program, wait_s: float) -> Finished:
        limit_s, bytes_per_s = _LIMIT_S + wait_s, BYTES_PER_S
        if self._end_s is not None:
            limit_s, bytes_per_s = max(_LEAST_S, _PART * self.left_s()), _LAST_BYTES_PER_S
        while (finished := program.proceed()) is None:
            program.check_time(limit_s, self._loop.clock(), bytes_per_s)
            self.meanwhile(self._loop.wait(self._loop.clock() + _TURN_S))
            self._raise_if_stopped()
        return finished

    def _raise_if_stopped(self) -> None:
        if self._is_stopped:
            raise StoppedError("told to end")


class ThreadPrograms:
    """Runs programs for one thread beside the loop; `stop` is called by the loop."""

    def __init__(self) -> None:
        self._stopped, self._writing = os.pipe2(os.O_CLOEXEC)

    def stop(self) -> None:
        """Kill the program that runs, and start no other: StoppedError in `run`. The descriptors
        are left to the process, which is about to end."""
        os.write(self._writing, b".")

    def run(self, argv: Sequence[str], *, text: str = "", wait_s: float = 0.0) -> Finished:
        """Run a program to its end, as `Run` says, but for StoppedError: also where it did not end
        in time, as what is made of several programs' output must not lack a part."""
        with Program(argv, text) as program:
            while (finished := program.proceed()) is None:
                try:
                    program.check_time(_LIMIT_S + wait_s, time.monotonic())
                except DidNotEndError as error:
                    raise StoppedError(str(error)) from error
                ready, _, _ = select.select([program.fileno(), self._stopped], [], [], _TURN_S)
                if self._stopped in ready:
                    raise StoppedError("told to end")
        return finished
