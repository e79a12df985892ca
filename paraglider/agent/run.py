"""Run: the process that a container or a service manager keeps alive.

Owns how the agent begins and ends, and what its signals mean. Ended by SIGTERM, SIGINT or a command
it takes its rules away; killed without warning it leaves them as they are.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paraglider.agent.admin import LOOKS, AdminServer, Reply
from paraglider.agent.agent import Agent
from paraglider.agent.loop import Loop
from paraglider.agent.orders import Orders
from paraglider.agent.programs import Programs, StoppedError
from paraglider.agent.protocol import Answer, Request
from paraglider.agent.tries import Backoff
from paraglider.agent.view import View
from paraglider.agent.watch import LOOK_S, FileWatch
from paraglider.errors import ConfigError, ParagliderError, UnavailableError, explain

# A look at the file that is due so soon is done on the way, where something else woke the agent.
_ON_THE_WAY_S = 0.25
# How long a look waits for what the kernel says; then it gets what was read last.
_LOOK_WAIT_S = 1.0
# Told to end, the agent has ended within 5 s: what programs get of that, and the least for a try.
_END_S = 4.5
_LAST_TRY_S = 0.3
_ENDING = Answer(UnavailableError.exit_code, "the agent is ending")
# Between counts of what is left, when the agent lets connections end before it does.
_CLOSING_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """What the process is started with: the file to watch, where commands reach it, how it reads
    its status, runs programs and takes all rules away, and how long connections may end before (0:
    not at all)."""

    watch: FileWatch
    socket_path: str
    view: View
    programs: Programs
    remove: Callable[[], object]
    report: Callable[[str], None]
    drain_s: float = 0.0


def run_agent(loop: Loop, agent: Agent, running: Running) -> None:
    """Run `agent` until it is told to end, and has taken its rules away.

    An error of its start, or of removing the rules, is raised.
    """
    with loop.holding_signals():
        try:
            _Runner(loop, agent, running).run()
        finally:
            agent.let_go()


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    reply: Reply
    # A look is answered by then from what is known.
    until_s: float

    @property
    def is_look(self) -> bool:
        return self.request.command in LOOKS


class _Runner:
    """Starts what needs the kernel, one after another, in `_turn` alone. What comes while a program
    runs (`_meanwhile`) is noted, and answered from what is known where that is enough."""

    def __init__(self, loop: Loop, agent: Agent, running: Running) -> None:
        self._loop = loop
        self._agent = agent
        self._running = running
        self._report = running.report
        self._orders = Orders(agent, view=running.view.status, reload=self._reload)
        self._asked: list[_Asked] = []
        self._stopping: list[Reply] = []
        self._signals: list[signal.Signals] = []
        self._file_s = loop.clock() + LOOK_S
        self._again = Backoff()
        self._closing_until_s: float | None = None
        self._is_ending = False
        self._admin: AdminServer | None = None
        running.programs.meanwhile = self._meanwhile

    def run(self) -> None:
        try:
            with contextlib.suppress(StoppedError):
                self._agent.start()
                self._admin = self._open_admin()
                while not self._is_ending:
                    self._turn()
            self._take_away()
        finally:
            if self._admin is not None:
                self._admin.close()

    def _turn(self) -> None:
        self._note(self._loop.wait(self._next_s()))
        if self._admin is not None:
            self._admin.look()
        while self._signals and not self._is_ending:
            self._answer(self._signals.pop(0))
        while self._asked and not self._is_ending:
            self._serve()
        if not self._is_ending:
            self._tick()

    # -- while a program runs ----------------------------------------------------------------------

    def _meanwhile(self, signals: Sequence[signal.Signals]) -> None:
        self._note(signals)
        now_s = self._loop.clock()
        if self._admin is not None:
            self._admin.look()
        self._answer_looks([a for a in self._asked if a.is_look and a.until_s <= now_s])
        if not self._is_ending:
            self._agent.look_after_prober()

    def _note(self, signals: Sequence[signal.Signals]) -> None:
        for number in signals:
            # The first lets connections end, if it is to; the second may come before its answer.
            has_come = self._closing_until_s is not None or _is_told_to_end(self._signals)
            is_last = has_come or not self._running.drain_s
            if number is signal.SIGHUP or not is_last:
                self._signals.append(number)
            elif not self._is_ending:
                self._report(f"{number.name}: removing the rules")
                self._begin_end()

    def _begin_end(self) -> None:
        self._is_ending = True
        self._running.programs.stop()

    def _take(self, request: Request, reply: Reply) -> None:
        asked = _Asked(request, reply, self._loop.clock() + _LOOK_WAIT_S)
        if request.command == "stop":
            self._stopping.append(reply)
            self._begin_end()
        elif not self._is_ending:
            self._asked.append(asked)
        elif asked.is_look:
            reply(self._orders.answer(request))
        else:
            reply(_ENDING)

    def _answer_looks(self, looks: Sequence[_Asked]) -> None:
        self._asked = [asked for asked in self._asked if asked not in looks]
        for asked in looks:
            asked.reply(self._orders.answer(asked.request))

    # -- when none does ----------------------------------------------------------------------------

    def _serve(self) -> None:
        if self._asked[0].is_look:
            self._running.view.refresh()
            self._answer_looks([asked for asked in self._asked if asked.is_look])
            return
        asked = self._asked.pop(0)
        try:
            asked.reply(self._orders.answer(asked.request))
        except StoppedError:
            asked.reply(_ENDING)
            raise

    def _take_away(self) -> None:
        """Take the rules away; what failed is tried again while there is time."""
        programs = self._running.programs
        self._agent.let_go()
        asked, self._asked = self._asked, []
        for one in asked:
            one.reply(_ENDING)
        programs.begin_last(_END_S)
        error = self._remove()
        while error is not None and programs.left_s() > _LAST_TRY_S:
            if self._try(self._agent.remove_known) is None:
                error = UnavailableError(
                    f"{explain(error)}\nremoved the rules that were applied last; whether others "
                    "are left cannot be read: run 'paraglider stop'"
                )
                break
            self._loop.wait(self._loop.clock() + _LAST_TRY_S)
            error = self._remove()
        said = explain(error) if error else "stopped: removed all rules, the agent has ended"
        for reply in self._stopping:
            reply(Answer(error.exit_code if error else 0, said))
        if error is not None:
            raise error

    def _remove(self) -> ParagliderError | None:
        """Take all away that is ours; return what says that something may be left."""
        error = self._try(self._running.remove)
        if error is None:
            return None
        return UnavailableError(
            f"{explain(error)}\nrules may be left in the kernel: remove them with 'paraglider stop'"
        )

    def _try(self, action: Callable[[], object]) -> ParagliderError | OSError | None:
        try:
            action()
        except (ParagliderError, OSError) as error:
            return error
        return None

    def _open_admin(self) -> AdminServer | None:
        try:
            return AdminServer(self._loop, self._running.socket_path, self._take)
        except UnavailableError as error:
            self._report(str(error))
            return None

    def _next_s(self) -> float:
        if self._asked or self._signals:
            return self._loop.clock()
        times = [self._agent.next_s(), self._file_s]
        if self._closing_until_s is not None:
            times[1] = self._loop.clock() + _CLOSING_LOOK_S
        if self._admin is not None and (admin_s := self._admin.next_s()) is not None:
            times.append(admin_s)
        return min(times)

    def _answer(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._try_reload("SIGHUP")
        elif self._closing_until_s is None:
            self._closing_until_s = self._loop.clock() + self._running.drain_s
            self._agent.refuse_all()
            self._report(
                f"{number.name}: refusing new connections; open ones may finish within "
                f"{self._running.drain_s:g} s, a second signal ends them now"
            )

    def _reload(self, why: str, *, is_retry: bool = False) -> str:
        self._running.watch.is_read()
        try:
            done = self._agent.reload(why, is_retry=is_retry)
        except ConfigError:
            self._again = Backoff()  # another try would find the same
            raise
        except (ParagliderError, OSError):
            self._again.fail(self._loop.clock())
            raise
        before, self._again = self._again, Backoff()
        if before.failures:
            self._report(f"reload: {before.told_end(self._loop.clock())}")
        return done

    def _try_reload(self, why: str, *, is_retry: bool = False) -> None:
        # What was wrong is reported, and everything is as it was.
        with contextlib.suppress(ParagliderError, OSError):
            self._reload(why, is_retry=is_retry)

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
        elif self._again.failures and self._again.is_due(self._loop.clock()):
            self._try_reload("trying again", is_retry=True)

    def _tell_of_missing(self) -> None:
        missing, counters = self._running.watch.missing, self._agent.counters
        if missing != counters.config_missing:
            self._report(missing or "the configuration file is back")
            counters.config_missing = missing

    def _look_at_closing(self, until_s: float) -> None:
        left: int | None = None
        with contextlib.suppress(ParagliderError, OSError):
            left = self._agent.count_all()
        if left == 0:
            self._report("no connections left: removing the rules")
        elif self._loop.clock() >= until_s:
            many = "some" if left is None else left
            self._report(f"drain time is over with {many} connections open: removing the rules")
        else:
            return
        self._begin_end()


def _is_told_to_end(signals: Sequence[signal.Signals]) -> bool:
    return any(number is not signal.SIGHUP for number in signals)
