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
from paraglider.agent.counters import Counters
from paraglider.agent.decision import Decisions, fact
from paraglider.agent.in_force import in_force_lines
from paraglider.agent.loop import Loop
from paraglider.agent.members import match_backend
from paraglider.agent.names import Names, NameStatus, wanted_names
from paraglider.agent.port_watch import PortWatch
from paraglider.agent.probing import Probing
from paraglider.agent.status import Overdue
from paraglider.agent.survey_watch import SurveyWatch
from paraglider.agent.targets import plan_targets
from paraglider.agent.writer import Connections, Writer
from paraglider.config.model import Bind, Config, Endpoint, OnDown
from paraglider.errors import ConfigError, ParagliderError, UnavailableError, explain
from paraglider.health.health_state import Change, FrontendView, HealthState
from paraglider.health.resolver import Resolved
from paraglider.health.saved_state import SavedState
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
class Dependencies:
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
    remember: Callable[[Choice], SavedState]
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

    def __init__(self, loop: Loop, reconciler: Reconciler, dependencies: Dependencies) -> None:
        self._loop = loop
        self._dependencies = dependencies
        self.counters = Counters(started_s=loop.clock())
        report, clock = dependencies.report, loop.clock
        self._names = Names(report)
        self._check_errors = CheckErrors(report, clock)
        self._probing = Probing(loop, on_reports=self._take_reports, report=report)
        self._survey = SurveyWatch(loop, self._prepare_survey, report)
        self._writer = Writer(
            loop,
            reconciler,
            dependencies.connections,
            self.counters,
            report,
            local=dependencies.addresses.among,
            on_policy=self._survey.want,
        )
        self._fill = FillWatch(read=dependencies.read_conntrack, report=report, clock=clock)
        self.connections = ConnectionWatch(
            count=dependencies.connections.count_by_phase, report=report, clock=clock
        )
        self._ports = PortWatch(
            count=self.connections.tracked,
            read=dependencies.read_conntrack,
            report=report,
            clock=clock,
        )
        self._health_state = HealthState()
        self._config: Config | None = None
        self._choice: Choice | None = None
        self._keys: Mapping[str, Pair] = {}
        self._address_feed = -1
        self._is_closing = False
        self._step_s: float | None = None
        self._decisions = Decisions(dependencies.report)
        # The health of what is being put into force, to which reports go as well.
        self._next_health_state: HealthState | None = None
        self._resolved: list[Resolved] = []
        # What the configuration was warned of that is to be put into force.
        self._warned: Sequence[str] = ()

    # -- coming up, and reloading ------------------------------------------------------------------

    def start(self) -> None:
        """Put the configuration into force; raises what keeps it from being."""
        config = self._dependencies.load()
        choice = self._dependencies.choose()
        self._listen()
        saved_state = self._dependencies.remember(choice)
        health_state = HealthState(saved_state)
        self._probing.order((), wanted_names(config))
        deadline_s = self._loop.clock() + _NAMES_WAIT_S
        while self._names.is_waiting(config) and self._loop.clock() < deadline_s:
            if signals := self._loop.wait(deadline_s):
                self._loop.keep(signals)
                break
        self._names.hold(config, saved_state.down | saved_state.disabled, self._loop.clock())
        self._names.adopt(config, saved_state.members())
        self._put_in_force(config, choice, health_state, self._names)
        self._survey.listen()

    def reload(self, why: str, *, is_retry: bool = False) -> str:
        """Read the configuration again; return what came of it. Raises what was wrong, with
        everything as it was; it is reported, too, but for a retry that fails as the one before."""
        if self._is_closing:
            raise UnavailableError(f"{why}: not read, the agent is stopping")
        if not is_retry:
            self._dependencies.report(f"{why}: reading the configuration again")
            self._warned = ()
        try:
            config, choice = self._dependencies.load(), self._dependencies.choose()
            # A name that was not looked up yet stands for those that are served now.
            names = self._names.copy()
            names.adopt(config, self._serving())
            self._put_in_force(config, choice, self._health_state.copy(), names)
        except (ParagliderError, OSError) as error:
            reason = explain(error)
            # Not the rules below its first line, which have counters.
            if not is_retry or reason.split("\n")[0] != self.counters.reload_error.split("\n")[0]:
                self._dependencies.report(
                    f"nothing changed, the configuration in force stays: {reason}"
                )
            self.counters.reload_error = reason
            self.counters.sync_failures += not isinstance(error, ConfigError)
            raise
        return f"{config.source} is in force"

    def _serving(self) -> list[Pair]:
        return [(s.bind, share.backend) for s in self.services() for share in s.serving]

    def _put_in_force(
        self, config: Config, choice: Choice, health_state: HealthState, names: Names
    ) -> None:
        """Replace what is in force, all of it, once the kernel holds it."""
        findings = self._dependencies.survey(config)
        for finding in findings:
            if finding not in self._warned:
                self._dependencies.report(f"warning: {finding}")
        self._warned = findings
        changes = health_state.configure(config, names.addresses, self._loop.clock())
        services = self._services_of(health_state)
        self._next_health_state = health_state
        try:
            is_changed = self._writer.take_over(services, choice.variant)
        finally:
            self._next_health_state = None
        names.follow(config)
        self._health_state, self._names, self._config, self._choice = (
            health_state,
            names,
            config,
            choice,
        )
        self.counters.config, self.counters.reload_error = config.source, ""
        self.counters.reloads += 1
        self.counters.reloaded_s = self._dependencies.wall_clock()
        self._order_probes()
        self._survey.want()
        for change in changes:
            self._dependencies.report(fact(change))
        for line in in_force_lines(services, choice, is_changed=is_changed):
            self._dependencies.say(line)

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
        self._address_feed = self._dependencies.addresses.listen()
        if self._address_feed >= 0:
            self._loop.watch(self._address_feed, self._take_addresses)

    # -- what comes in -----------------------------------------------------------------------------

    def _take_reports(self, reports: Reports) -> None:
        for note in reports.notes:
            self._dependencies.report(note)
        self._resolved += reports.resolved
        if self._next_health_state is None:
            self._take_resolved()
        now_s = self._loop.clock()
        for result in reports.results:
            pair = self._keys.get(result.key)
            if pair is None:
                continue
            self._check_errors.end(pair)
            good, reason = result.is_good, result.reason
            for health_state in self._health_states():
                change = health_state.note(pair, is_good=good, reason=reason, now_s=now_s)
                if change is not None and health_state is self._health_state:
                    self._take_change(change)
        for error in reports.errors:
            pair = self._keys.get(error.key)
            if pair is not None:
                self._check_errors.begin(pair, self._health_state.name_of(pair), error.reason)
                for health_state in self._health_states():
                    health_state.fail(pair, error.reason, now_s)

    def _health_states(self) -> Sequence[HealthState]:
        return (
            (self._health_state,)
            if self._next_health_state is None
            else (self._health_state, self._next_health_state)
        )

    def _follow_names(self) -> None:
        """Names stand for other addresses. The names have reported it; each backend is not."""
        if self._config is not None:
            self._health_state.configure(self._config, self._names.addresses, self._loop.clock())
            self._order_probes()
            self._writer.want()

    def _prepare_survey(self) -> Callable[[], Sequence[Finding]]:
        services, variant = self.services(), self.chosen.variant
        return lambda: self._dependencies.survey_services(services, variant)

    @property
    def findings(self) -> Sequence[Finding]:
        """What keeps connections from passing, as the last survey found it."""
        return self._survey.findings

    def _take_addresses(self) -> None:
        """Addresses of this host have come or gone: a backend may be on it now, or no more."""
        addresses, backends = self._dependencies.addresses, backend_addresses(self.services())
        before = addresses.among(backends)
        addresses.hear()
        self._survey.want()
        if addresses.among(backends) != before:
            self._writer.want()

    def _take_change(self, change: Change) -> None:
        self._writer.want()
        self._decisions.add(change, self._writer.decided)
        if change.after is Health.DOWN and self._health_state.on_down(change.key) is OnDown.CUT:
            self._writer.want_cut(change.key)
        else:
            self._writer.keep(change.key)

    def _order_probes(self) -> None:
        if self._config is not None:
            targets, self._keys = plan_targets(self._health_state.probed())
            self._check_errors.keep(self._keys.values())
            self._probing.order(targets, wanted_names(self._config))

    # -- as time passes ----------------------------------------------------------------------------

    def services(self) -> tuple[Service, ...]:
        """Return what every frontend is to do now."""
        return self._services_of(self._health_state)

    def _services_of(self, health_state: HealthState) -> tuple[Service, ...]:
        services = health_state.services(self._loop.clock())
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
        for pair in set(self._health_state.leaving()).intersection(empty) if empty else ():
            self._health_state.forget(pair)
            self._writer.want()

    def _sync(self) -> None:
        if self._writer.is_due:
            self._step_s = self._health_state.next_change_s(self._loop.clock())
        self._writer.sync(self.services)
        self._decisions.settle(self._writer.written)
        late = self._writer.overdue()
        if late is not None and late.why:
            self._decisions.promise(late.why)

    # -- for commands ------------------------------------------------------------------------------

    def find(self, text: str, frontend: str) -> list[Pair]:
        """Return the (bind, backend) pairs that a command means; or raise UsageError."""
        members = [
            (view.name, str(backend_state.backend.host), (view.bind, backend))
            for view in self._health_state.views()
            for backend, backend_state in view.members.items()
            if backend_state.backend is not None
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
            raise UnavailableError(f"ordered, but not done yet: {self.counters.trouble}")

    def _order_one(self, command: str, pair: Pair, deadline_s: float | None) -> Change | None:
        now_s = self._loop.clock()
        match command:
            case "drain":
                until_s = None if deadline_s is None else now_s + deadline_s
                return self._health_state.drain(pair, until_s, now_s)
            case "undrain":
                return self._health_state.undrain(pair, now_s)
            case "disable":
                return self._health_state.disable(pair, now_s)
        return self._health_state.enable(pair, now_s)

    def views(self) -> tuple[FrontendView, ...]:
        """Return what is known of every frontend, in the order of `services`."""
        return self._health_state.views()

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
        return self._health_state.name_of(pair)

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
        self._dependencies.stop_survey()
        self._survey.close()
        if self._address_feed >= 0:
            self._loop.forget(self._address_feed)
            self._address_feed = -1
        self._dependencies.addresses.close()
