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
from paraglider.agent.protocol import Answer, Request
from paraglider.agent.status import Status
from paraglider.agent.watch import LOOK_S, FileWatch
from paraglider.errors import ConfigError, ParagliderError, UnavailableError

# A look at the file that is due so soon is done on the way, where something else woke the agent.
_ON_THE_WAY_S = 0.25
# What failed for another reason than the file may work later.
_RELOAD_AGAIN_S = 5.0
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
            agent.let_go()


class _Runner:
    def __init__(self, loop: Loop, agent: Agent, running: Running) -> None:
        self._loop = loop
        self._agent = agent
        self._running = running
        self._report = running.report
        self._file_s = loop.clock() + LOOK_S
        self._again_s: float | None = None
        self._closing_until_s: float | None = None
        self._is_over = False
        self._error: Exception | None = None

    def run(self) -> None:
        admin = self._open_admin()
        try:
            while not self._is_over:
                for number in self._loop.wait(self._next_s()):
                    if not self._is_over:
                        self._answer(number)
                if not self._is_over:
                    self._tick()
        finally:
            if admin is not None:
                admin.close()
        if self._error is not None:
            raise self._error

    def _open_admin(self) -> AdminServer | None:
        orders = Orders(self._agent, view=self._running.view, reload=self._reload, end=self._end)

        def answer(request: Request) -> Answer:
            if self._is_over:
                return Answer(UnavailableError.exit_code, "the agent is ending")
            return orders.answer(request)

        try:
            return AdminServer(self._loop, self._running.socket_path, answer)
        except UnavailableError as error:
            self._report(str(error))
            return None

    def _next_s(self) -> float:
        if self._closing_until_s is not None:
            return min(self._agent.next_s(), self._loop.clock() + _CLOSING_LOOK_S)
        return min(self._agent.next_s(), self._file_s)

    def _answer(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._try_reload("SIGHUP")
        elif self._running.drain_s and self._closing_until_s is None:
            self._closing_until_s = self._loop.clock() + self._running.drain_s
            self._agent.refuse_all()
            self._report(
                f"{number.name}: new connections are refused, those that are open may end within "
                f"{self._running.drain_s:g} s; once more ends them now"
            )
        else:
            self._report(f"{number.name}: taking the rules away")
            with contextlib.suppress(ParagliderError, OSError):  # raised at the end of `run`
                self._end()

    def _reload(self, why: str) -> str:
        self._running.watch.is_read()
        self._again_s = None
        try:
            return self._agent.reload(why)
        except ConfigError:
            raise  # another try would find the same
        except (ParagliderError, OSError):
            self._again_s = self._loop.clock() + _RELOAD_AGAIN_S
            raise

    def _try_reload(self, why: str) -> None:
        # What was wrong is reported, and everything is as it was.
        with contextlib.suppress(ParagliderError, OSError):
            self._reload(why)

    def _tick(self) -> None:
        if self._loop.clock() >= self._file_s - _ON_THE_WAY_S and self._closing_until_s is None:
            self._look_at_file()
        self._agent.tick()
        if self._closing_until_s is not None:
            self._look_at_closing(self._closing_until_s)

    def _look_at_file(self) -> None:
        self._file_s = self._loop.clock() + LOOK_S
        is_changed = self._running.watch.is_changed()
        self._tell_of_missing()
        if is_changed:
            self._try_reload("the file was changed")
        elif self._again_s is not None and self._loop.clock() >= self._again_s:
            self._try_reload("trying again")

    def _tell_of_missing(self) -> None:
        missing, record = self._running.watch.missing, self._agent.record
        if missing != record.config_missing:
            self._report(missing or "the configuration file is back")
            record.config_missing = missing

    def _look_at_closing(self, until_s: float) -> None:
        left: int | None = None
        with contextlib.suppress(ParagliderError, OSError):
            left = self._agent.count_all()
        if left == 0:
            self._report("no connections are left: taking the rules away")
        elif self._loop.clock() >= until_s:
            many = "some" if left is None else left
            self._report(f"time is over for {many} connections: taking the rules away")
        else:
            return
        with contextlib.suppress(ParagliderError, OSError):  # raised at the end of `run`
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._agent.let_go()
        try:
            self._running.remove()
        except (ParagliderError, OSError) as error:
            self._error = error
            raise
