"""Run: the process that a container or a service manager keeps alive.

Owns how the agent begins and ends, and what its signals mean. Ended by SIGTERM, SIGINT or a command
it takes its rules away; killed without warning it leaves them as they are.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass

from paraglider.agent.admin import AdminServer
from paraglider.agent.agent import Agent
from paraglider.agent.loop import Loop
from paraglider.agent.orders import Orders
from paraglider.agent.status import Status
from paraglider.agent.watch import LOOK_S, FileWatch
from paraglider.errors import ParagliderError, UnavailableError

# A look at the file that is due so soon is done on the way, where something else woke the agent.
_ON_THE_WAY_S = 0.25
# Between counts of what is left, when the agent lets connections end before it does.
_CLOSING_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """What the process is started with: the file to watch, where commands reach it, how it reads
    its status and takes all rules away, and how long connections may end before (0: not at all)."""

    watch: FileWatch
    socket_path: str
    view: Callable[[], Status]
    remove: Callable[[], object]
    report: Callable[[str], None]
    drain_s: float = 0.0


def run_agent(loop: Loop, agent: Agent, running: Running) -> None:
    """Run `agent` until it is told to end, and has taken its rules away.

    An error of its start, or of taking the rules away, is raised.
    """
    with loop.holding_signals():
        try:
            agent.start()
            _Runner(loop, agent, running).run()
        finally:
            agent.close()


class _Runner:
    def __init__(self, loop: Loop, agent: Agent, running: Running) -> None:
        self._loop = loop
        self._agent = agent
        self._running = running
        self._report = running.report
        self._file_s = loop.clock() + LOOK_S
        self._closing_until_s: float | None = None
        self._is_over = False

    def run(self) -> None:
        admin = self._open_admin()
        try:
            while not self._is_over:
                for number in self._loop.wait(self._next_s()):
                    self._answer(number)
                if not self._is_over:
                    self._tick()
        finally:
            if admin is not None:
                admin.close()

    def _open_admin(self) -> AdminServer | None:
        orders = Orders(self._agent, view=self._running.view, end=self._end)
        try:
            return AdminServer(self._loop, self._running.socket_path, orders.answer)
        except UnavailableError as error:
            self._report(str(error))
            return None

    def _next_s(self) -> float:
        next_s = min(self._agent.next_s(), self._file_s)
        if self._closing_until_s is not None:
            next_s = min(next_s, self._loop.clock() + _CLOSING_LOOK_S)
        return next_s

    def _answer(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._reload("SIGHUP")
        elif self._running.drain_s and self._closing_until_s is None:
            self._report(
                f"{number.name}: new connections are refused, those that are open may end within "
                f"{self._running.drain_s:g} s; once more ends them now"
            )
            self._closing_until_s = self._loop.clock() + self._running.drain_s
            self._agent.refuse_all()
        else:
            self._report(f"{number.name}: taking the rules away")
            self._end()

    def _reload(self, why: str) -> None:
        # What was wrong is reported, and everything is as it was.
        with contextlib.suppress(ParagliderError, OSError):
            self._agent.reload(why)

    def _tick(self) -> None:
        if self._loop.clock() >= self._file_s - _ON_THE_WAY_S:
            self._file_s = self._loop.clock() + LOOK_S
            if self._running.watch.is_changed():
                self._reload("the file was changed")
        self._agent.tick()
        if self._closing_until_s is not None:
            self._look_at_closing(self._closing_until_s)

    def _look_at_closing(self, until_s: float) -> None:
        left = self._agent.count_all()
        if not left:
            self._report("no connections are left: taking the rules away")
        elif self._loop.clock() >= until_s:
            self._report(f"time is over for {left} connections: taking the rules away")
        else:
            return
        self._end()

    def _end(self) -> None:
        self._is_over = True
        self._agent.let_go()
        self._running.remove()
