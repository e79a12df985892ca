"""Agent: keeps what is balanced true to the file, to the health of backends, and to orders.

The one place where everything meets: what probes find, names resolve to, commands order and the
file says goes to the board; what the board decides goes to the rules. It never handles a packet,
so that nothing that happens to it is seen by a connection; killed, it leaves the rules as they are,
and its successor finds in them what it knew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from paraglider.agent.check_errors import CheckErrors
from paraglider.agent.connection_watch import ConnectionWatch
from paraglider.agent.decision import Decisions, fact
from paraglider.agent.in_force import in_force_lines
from paraglider.agent.loop import Loop
from paraglider.agent.members import match_backend
from paraglider.agent.names import Names, NameStatus, wanted_names
from paraglider.agent.port_watch import PortWatch
from paraglider.agent.probing import Probing
from paraglider.agent.record import Record
from paraglider.agent.status import Overdue
from paraglider.agent.survey_watch import SurveyWatch
from paraglider.agent.targets import plan_targets
from paraglider.agent.writer import Connections, Writer
from paraglider.config.model import Bind, Config, Endpoint, OnDown
from paraglider.errors import ConfigError, ParagliderError, UnavailableError, explain
from paraglider.health.board import Board, Change, FrontendView
from paraglider.health.memory import Memory
from paraglider.health.resolver import Resolved
from paraglider.health.service import Health, Pair, Service, backend_addresses
from paraglider.health.wire import Reports
from paraglider.kernel.conntrack_table import Conntrack, FillWatch
from paraglider.kernel.finding import Finding
from paraglider.kernel.iptables import Variant
from paraglider.kernel.reconcile import Reconciler
from paraglider.kernel.routes import LocalAddresses
from paraglider.kernel.variant import Choice

# How long names may take at the start before what is known goes into force.
_NAMES_WAIT_S = 3.0
# What was decided is in the rules by then, or is overdue.
_OVERDUE_S = 5.0


@dataclass(frozen=True, slots=True)
class World:
    """What the agent cannot know by itself. `load` reads the configuration, `choose` says which
    variant of iptables to use, `survey` warns of what does not fit this host; `remember` returns
    what the rules remember of an agent before, `read_conntrack` how full the kernel's table is,
    `addresses` which backends are on this host, `survey_services` what keeps connections from
    passing (called in a thread, and ended by `stop_survey`). `say` is told what is balanced,
    `report` everything else that is worth a line in a log. The `wall_clock` may be set at any time:
    nothing waits for it."""

    load: Callable[[], Config]
    choose: Callable[[], Choice]
    survey: Callable[[Config], Sequence[str]]
    remember: Callable[[Choice], Memory]
    report: Callable[[str], None]
    say: Callable[[str], None]
    connections: Connections = field(default_factory=Connections)
    read_conntrack: Callable[[], Conntrack | None] = lambda: None
    wall_clock: Callable[[], float] = time.time
    addresses: LocalAddresses = field(default_factory=LocalAddresses)
    survey_services: Callable[[Sequence[Service], Variant], Sequence[Finding]] = lambda _, __: ()
    stop_survey: Callable[[], None] = lambda: None


class Agent:
    """Keeps one host balanced."""

    def __init__(self, loop: Loop, reconciler: Reconciler, world: World) -> None:
        self._loop = loop
        self._world = world
        self.record = Record(started_s=loop.clock())
        self._names = Names(world.report)
        self._check_errors = CheckErrors(world.report, loop.clock)
        self._probing = Probing(loop, on_reports=self._take_reports, report=world.report)
        self._survey = SurveyWatch(loop, self._prepare_survey, world.report)
        self._writer = Writer(
            loop,
            reconciler,
            world.connections,
            self.record,
            world.report,
            local=world.addresses.among,
            on_policy=self._survey.want,
        )
        self._fill = FillWatch(read=world.read_conntrack, report=world.report, clock=loop.clock)
        self.connections = ConnectionWatch(
            count=world.connections.count_by_phase, report=world.report, clock=loop.clock
        )
        self._ports = PortWatch(
            count=self.connections.tracked,
            read=world.read_conntrack,
            report=world.report,
            clock=loop.clock,
        )
        self._board = Board()
        self._config: Config | None = None
        self._choice: Choice | None = None
        self._keys: Mapping[str, Pair] = {}
        self._address_feed = -1
        self._is_closing = False
        self._step_s: float | None = None
        self._decisions = Decisions(world.report)
        # The health of what is being put into force, to which reports go as well.
        self._next_board: Board | None = None
        self._resolved: list[Resolved] = []
        # What the configuration was warned of that is to be put into force.
        self._warned: Sequence[str] = ()

    # -- coming up, and reloading ------------------------------------------------------------------

    def start(self) -> None:
        """Put the configuration into force; raises what keeps it from being."""
        config = self._world.load()
        choice = self._world.choose()
        self._listen()
        memory = self._world.remember(choice)
        board = Board(memory)
        self._probing.order((), wanted_names(config))
        deadline_s = self._loop.clock() + _NAMES_WAIT_S
        while self._names.is_waiting(config) and self._loop.clock() < deadline_s:
            if signals := self._loop.wait(deadline_s):
                self._loop.keep(signals)
                break
        self._names.hold(config, memory.down | memory.disabled, self._loop.clock())
        self._names.adopt(config, memory.members())
        self._put_in_force(config, choice, board, self._names)
        self._survey.listen()

    def reload(self, why: str, *, is_retry: bool = False) -> str:
        """Read the configuration again; return what came of it. Raises what was wrong, with
        everything as it was; it is reported, too, but for a retry that fails as the one before."""
        if self._is_closing:
            raise UnavailableError(f"{why}: not read, the agent is stopping")
        if not is_retry:
            self._world.report(f"{why}: reading the configuration again")
            self._warned = ()
        try:
            config, choice = self._world.load(), self._world.choose()
            # A name that was not looked up yet stands for those that are served now.
            names = self._names.copy()
            names.adopt(config, self._serving())
            self._put_in_force(config, choice, self._board.copy(), names)
        except (ParagliderError, OSError) as error:
            told = explain(error)
            # Not the rules below its first line, which have counters.
            if not is_retry or told.split("\n")[0] != self.record.reload_error.split("\n")[0]:
                self._world.report(f"nothing changed, the configuration in force stays: {told}")
            self.record.reload_error = told
            self.record.sync_failures += not isinstance(error, ConfigError)
            raise
        return f"{config.source} is in force"

    def _serving(self) -> list[Pair]:
        return [(s.bind, share.backend) for s in self.services() for share in s.serving]

    def _put_in_force(self, config: Config, choice: Choice, board: Board, names: Names) -> None:
        """Replace what is in force, all of it, once the kernel holds it."""
        findings = self._world.survey(config)
        for finding in findings:
            if finding not in self._warned:
                self._world.report(f"warning: {finding}")
        self._warned = findings
        changes = board.configure(config, names.addresses, self._loop.clock())
        services = self._services_of(board)
        self._next_board = board
        try:
            is_changed = self._writer.take_over(services, choice.variant)
        finally:
            self._next_board = None
        names.follow(config)
        self._board, self._names, self._config, self._choice = board, names, config, choice
        self.record.config, self.record.reload_error = config.source, ""
        self.record.reloads += 1
        self.record.reloaded_s = self._world.wall_clock()
        self._order_probes()
        self._survey.want()
        for change in changes:
            self._world.report(fact(change))
        for line in in_force_lines(services, choice, is_changed=is_changed):
            self._world.say(line)

    def _take_resolved(self) -> None:
        """Take in what names resolved to, now or while others were put into force."""
        later, self._resolved = self._resolved, []
        now_s = self._loop.clock()
        changed = [self._names.note(resolved, now_s) for resolved in later]
        if any(changed):
            self._follow_names()

    @property
    def chosen(self) -> Choice:
        """The variant of iptables in use, and why."""
        if self._choice is None:
            raise RuntimeError("the agent was not started")
        return self._choice

    def look_after_prober(self) -> None:
        """Replace a prober that is gone or silent; needs no program."""
        self._probing.look()

    def overdue(self) -> Overdue | None:
        """Return what the kernel should have held for five seconds, and does not."""
        late = self._writer.overdue()
        if late is None or late.for_s < _OVERDUE_S:
            return None
        promised = self._decisions.promised(self._writer.written)
        return replace(late, what="; ".join(promised) or late.what)

    def _listen(self) -> None:
        self._address_feed = self._world.addresses.listen()
        if self._address_feed >= 0:
            self._loop.watch(self._address_feed, self._take_addresses)

    # -- what comes in -----------------------------------------------------------------------------

    def _take_reports(self, reports: Reports) -> None:
        for note in reports.notes:
            self._world.report(note)
        self._resolved += reports.resolved
        if self._next_board is None:
            self._take_resolved()
        now_s = self._loop.clock()
        for result in reports.results:
            pair = self._keys.get(result.key)
            if pair is None:
                continue
            self._check_errors.end(pair)
            good, told = result.is_good, result.told
            for board in self._boards():
                change = board.note(pair, is_good=good, told=told, now_s=now_s)
                if change is not None and board is self._board:
                    self._take_change(change)
        for error in reports.errors:
            pair = self._keys.get(error.key)
            if pair is not None:
                self._check_errors.begin(pair, self._board.name_of(pair), error.told)
                for board in self._boards():
                    board.fail(pair, error.told, now_s)

    def _boards(self) -> Sequence[Board]:
        return (self._board,) if self._next_board is None else (self._board, self._next_board)

    def _follow_names(self) -> None:
        """Names stand for other addresses. The names have reported it; each backend is not."""
        if self._config is not None:
            self._board.configure(self._config, self._names.addresses, self._loop.clock())
            self._order_probes()
            self._writer.want()

    def _prepare_survey(self) -> Callable[[], Sequence[Finding]]:
        services, variant = self.services(), self.chosen.variant
        return lambda: self._world.survey_services(services, variant)

    @property
    def findings(self) -> Sequence[Finding]:
        """What keeps connections from passing, as the last survey found it."""
        return self._survey.findings

    def _take_addresses(self) -> None:
        """Addresses of this host have come or gone: a backend may be on it now, or no more."""
        addresses, backends = self._world.addresses, backend_addresses(self.services())
        before = addresses.among(backends)
        addresses.hear()
        self._survey.want()
        if addresses.among(backends) != before:
            self._writer.want()

    def _take_change(self, change: Change) -> None:
        self._writer.want()
        self._decisions.add(change, self._writer.decided)
        if change.after is Health.DOWN and self._board.on_down(change.key) is OnDown.CUT:
            self._writer.want_cut(change.key)
        else:
            self._writer.keep(change.key)

    def _order_probes(self) -> None:
        if self._config is not None:
            targets, self._keys = plan_targets(self._board.probed())
            self._check_errors.keep(self._keys.values())
            self._probing.order(targets, wanted_names(self._config))

    # -- as time passes ----------------------------------------------------------------------------

    def services(self) -> tuple[Service, ...]:
        """Return what every frontend is to do now."""
        return self._services_of(self._board)

    def _services_of(self, board: Board) -> tuple[Service, ...]:
        services = board.services(self._loop.clock())
        if self._is_closing:
            return tuple(replace(service, serving=()) for service in services)
        return services

    def next_s(self) -> float:
        """Return when `tick` is to be called again at the latest, on the clock of the loop."""
        times = [
            self._step_s,
            self._names.next_s(),
            self._writer.next_s(),
            self._probing.next_s(),
            self._survey.next_s(),
            self._fill.next_s(),
            self.connections.next_s(),
            self._ports.next_s(),
        ]
        return min((t for t in times if t is not None), default=self._loop.clock() + 60.0)

    def tick(self) -> None:
        """Do what is due."""
        self._take_resolved()
        self._probing.look()
        self._survey.look()
        self._fill.look()
        self.connections.look(self.services)
        self._ports.look(self.services)
        if self._names.expire(self._loop.clock()):
            self._follow_names()
        if self._step_s is not None and self._step_s <= self._loop.clock():
            self._writer.want()
        self._sync()
        empty = self._writer.look()
        for pair in set(self._board.leaving()).intersection(empty) if empty else ():
            self._board.forget(pair)
            self._writer.want()

    def _sync(self) -> None:
        if self._writer.is_due:
            self._step_s = self._board.next_change_s(self._loop.clock())
        self._writer.sync(self.services)
        self._decisions.settle(self._writer.written)
        late = self._writer.overdue()
        if late is not None and late.why:
            self._decisions.promise(late.why)

    # -- for commands ------------------------------------------------------------------------------

    def find(self, text: str, frontend: str) -> list[Pair]:
        """Return the (bind, backend) pairs that a command means; or raise UsageError."""
        members = [
            (view.name, str(standing.backend.host), (view.bind, backend))
            for view in self._board.views()
            for backend, standing in view.members.items()
            if standing.backend is not None
        ]
        return match_backend(text, frontend, members)

    def order(self, command: str, pairs: Sequence[Pair], *, deadline_s: float | None) -> None:
        """Drain, undrain, disable or enable backends; it is written into the rules at once, or
        raised why not, and then tried again."""
        for pair in pairs:
            change = self._order_one(command, pair, deadline_s)
            if change is not None:
                self._writer.want_now()
                self._decisions.add(change, self._writer.decided)
        number = self._writer.decided
        self._order_probes()
        self._sync()
        if self._writer.written < number:  # more may have been decided meanwhile
            raise UnavailableError(f"ordered, but not done yet: {self.record.trouble}")

    def _order_one(self, command: str, pair: Pair, deadline_s: float | None) -> Change | None:
        now_s = self._loop.clock()
        match command:
            case "drain":
                until_s = None if deadline_s is None else now_s + deadline_s
                return self._board.drain(pair, until_s, now_s)
            case "undrain":
                return self._board.undrain(pair, now_s)
            case "disable":
                return self._board.disable(pair, now_s)
        return self._board.enable(pair, now_s)

    def views(self) -> tuple[FrontendView, ...]:
        """Return what is known of every frontend, in the order of `services`."""
        return self._board.views()

    def names(self) -> Sequence[NameStatus]:
        """Return how it stands with the host names of the file."""
        return self._names.statuses(self._config, self._loop.clock()) if self._config else ()

    @property
    def prober_error(self) -> tuple[str, float]:
        """Why no backend can be probed, '' where one can, and since when."""
        return self._probing.error, self._probing.error_since_s

    def full(self) -> Mapping[Bind, Collection[Endpoint]]:
        """Return those that are to get no connection because they have as many as they may."""
        return self._writer.full

    def name_of(self, pair: Pair) -> str:
        """Return the name of the frontend of a pair."""
        return self._board.name_of(pair)

    def count(self, pairs: Collection[Pair]) -> Mapping[Pair, int]:
        """Return how many connections each pair has."""
        binds = {bind for bind, _ in pairs}
        return self._writer.count([s for s in self.services() if s.bind in binds])

    def count_all(self) -> int:
        """Return how many balanced connections there are."""
        return sum(self._writer.count(self.services()).values())

    def refuse_all(self) -> None:
        """Refuse new connections from now on; those that are open run on."""
        self._is_closing = True
        self._probing.order((), {})
        self._writer.want_now()
        self._sync()

    def remove_known(self) -> None:
        """Take away the rules that were applied last, without reading any; after `let_go`."""
        self._writer.remove_known()

    def let_go(self) -> None:
        """Look after the rules no more; they stay as they are."""
        self._writer.close()
        self._probing.close()
        self._world.stop_survey()
        self._survey.close()
        if self._address_feed >= 0:
            self._loop.forget(self._address_feed)
            self._address_feed = -1
        self._world.addresses.close()
