"""Status: what this host balances now, as values; text and JSON are made of them.

Read from the kernel, with or without an agent: what an agent knows beyond the rules (why a backend
is down, how long, what it repaired) it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from paraglider.agent.counters import Counters
from paraglider.agent.names import NameStatus
from paraglider.agent.port_watch import Use, count_room, count_use
from paraglider.config.clients import SourceKind
from paraglider.config.model import Bind, Endpoint, Family
from paraglider.errors import NO_BACKEND_EXIT_CODE, ParagliderError
from paraglider.health.service import FULL, Health, Pair, Service, bound_deadline
from paraglider.kernel.apply import find_missing_anchors, read_states
from paraglider.kernel.conntrack import Count, count_by_phase
from paraglider.kernel.conntrack_table import Conntrack, read_conntrack
from paraglider.kernel.finding import Finding
from paraglider.kernel.firewall import survey_services
from paraglider.kernel.host import Host
from paraglider.kernel.policy_routing import PolicyWatch
from paraglider.kernel.variant import Choice
from paraglider.rules.decode import decode_states
from paraglider.rules.policy_rules import find_tables
from paraglider.rules.ruleset import Network


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One backend of one frontend.

    `percent` of the largest share of new connections, 0 if none; `connections` now, and how many
    were sent there since its rule was made. Most of them have been half-open for `half_open_for_s`,
    None where they are not. `told` is what its last probe found, `for_s` how
    long its health is what it is, `cut_in_s` how long it takes until what is left is cut. One that
    is full has as many connections as it may. `check_error` is why its check cannot be made, ''
    where it can, and `check_error_for_s` for how long; `host_name` is the name of the file that
    its address comes from, '' where the file has the address.
    """

    backend: Endpoint
    health: Health
    percent: int
    connections: Count
    total: int
    reason: str = ""
    for_s: float | None = None
    cut_in_s: float | None = None
    is_backup: bool = False
    is_leaving: bool = False
    is_full: bool = False
    check_error: str = ""
    check_error_for_s: float | None = None
    host_name: str = ""
    half_open_for_s: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether it gets new connections, and not only because its check cannot be made."""
        return self.percent > 0 and not (self.check_error and self.health is Health.UNKNOWN)


@dataclass(frozen=True, slots=True)
class FrontendStatus:
    """One frontend; `refused` packets would have begun connections and may not. `ports_used` (0 to
    1) of what backends see are in use, at the backend that has most."""

    name: str
    binds: tuple[Bind, ...]
    source: str
    backends: tuple[BackendStatus, ...]
    is_leaving: bool = False
    refused: int = 0
    ports_used: float = 0.0

    @property
    def is_served(self) -> bool:
        """Whether some backend can take a connection: it has a share, or all that it may have.

        Those that are served as if they were up (`no_backend: serve-all`) do not count.
        """
        return any(
            backend.health in (Health.UP, Health.UNKNOWN) and (backend.percent or backend.is_full)
            for backend in self.backends
        )


@dataclass(frozen=True, slots=True)
class Overdue:
    """What the kernel should hold and does not: `what` it is, for how long, and why."""

    what: str
    for_s: float
    why: str


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The agent that keeps all this true: its process, how long it has run, what happened, and
    what host names stand for.

    `count_error` is why the connections are those of the last count. `overdue` is what the kernel
    should hold by now and does not; `read_age_s` how old what the rules say is, None before they
    were read, and `read_error` why they were not read again."""

    pid: int
    up_s: float
    counters: Counters
    names: tuple[NameStatus, ...] = ()
    count_error: str = ""
    overdue: Overdue | None = None
    read_age_s: float | None = 0.0
    read_error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What the kernel does, and what it runs on. `forwarding` holds the families in use only;
    `answer_tables` are the routing tables of answers from some address, where policy rules choose;
    `is_whole` is whether every rule, and the NAT anchor, is in place; `findings`
    are what keeps connections from passing all the same."""

    is_whole: bool
    choice: Choice
    conntrack: Conntrack | None
    forwarding: Mapping[Family, bool]
    frontends: tuple[FrontendStatus, ...]
    agent: AgentStatus | None = None
    answer_tables: Mapping[Network, Sequence[int]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether there are any rules of ours."""
        return bool(self.forwarding)

    @property
    def overdue(self) -> Overdue | None:
        """What the kernel should hold by now and does not."""
        return self.agent.overdue if self.agent else None

    @property
    def unserved(self) -> tuple[str, ...]:
        """The names of the configured frontends that no backend serves."""
        lost = (f.name for f in self.frontends if not (f.is_leaving or f.is_served))
        return tuple(dict.fromkeys(lost))

    @property
    def exit_code(self) -> int:
        """What the command `status` ends with."""
        if not self.is_whole or self.overdue:
            return ParagliderError.exit_code
        return NO_BACKEND_EXIT_CODE if self.unserved else 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the kernel says at `now_s` of the monotonic clock: services as the rules tell them,
    connections sent (`totals`), and those that there are (`counts`)."""

    now_s: float
    services: tuple[Service, ...]
    totals: Mapping[Pair, int]
    counts: Mapping[Pair, Count]
    refused: Mapping[Bind, int]
    ports: Use
    families: Sequence[Family]
    is_whole: bool
    answer_tables: Mapping[Network, Sequence[int]] = field(default_factory=dict)
    # For how long most connections of a pair have been half-open, which an agent knows.
    half_open_for_s: Mapping[Pair, float] = field(default_factory=dict)


def read_kernel(
    choice: Choice,
    host: Host,
    now_s: float,
    *,
    count: Callable[[Collection[Service]], Mapping[Pair, Count]] = count_by_phase,
) -> Reading:
    """Read the rules of this host, and its connections."""
    states = read_states(choice.variant, host)
    description = decode_states(states)
    is_whole = description.is_whole and not find_missing_anchors(choice.variant, states, host)
    tables, is_routed = find_tables(PolicyWatch().rules(), description.marks)
    counts = count(description.services)
    tracked = {pair: found.tracked for pair, found in counts.items()}
    return Reading(
        now_s,
        description.services,
        description.connections,
        counts,
        description.refused,
        count_use(description.services, tracked),
        sorted(states),
        is_whole and is_routed,
        tables,
    )


def nothing_read(services: Sequence[Service], now_s: float) -> Reading:
    """Return what stands for a reading before there is one: no totals, and rules as written."""
    families = sorted({service.family for service in services})
    return Reading(now_s, tuple(services), {}, {}, {}, {}, families, is_whole=True)


def read_status(choice: Choice, host: Host, now_s: float) -> Status:
    """Return the state of this host, at `now_s` of the monotonic clock, where no agent runs."""
    reading = read_kernel(choice, host, now_s)
    frontends = tuple(frontend_status(service, reading) for service in reading.services)
    findings = survey_services(reading.services, choice.variant, host=host)
    return replace(make_status(choice, host, reading, frontends), findings=tuple(findings))


def make_status(
    choice: Choice,
    host: Host,
    reading: Reading,
    frontends: tuple[FrontendStatus, ...],
    agent: AgentStatus | None = None,
) -> Status:
    """Return the status of `frontends`, with what else this host says."""
    forwarding = {family: host.is_forwarding(family) for family in reading.families}
    conntrack = read_conntrack(host)
    return Status(
        reading.is_whole,
        choice,
        conntrack,
        forwarding,
        frontends,
        agent,
        reading.answer_tables,
    )


def frontend_status(service: Service, reading: Reading) -> FrontendStatus:
    """Return how it stands with a frontend, as far as its service and the kernel tell."""
    parts = {share.backend: share.weight * share.percent for share in service.serving}
    largest = max(parts.values(), default=1)
    backends = tuple(
        BackendStatus(
            backend=member.backend,
            health=member.health,
            percent=_percent(parts.get(member.backend, 0), largest),
            connections=reading.counts.get((service.bind, member.backend), Count()),
            total=reading.totals.get((service.bind, member.backend), 0),
            cut_in_s=_left_s(member.until_s, reading.now_s),
            half_open_for_s=reading.half_open_for_s.get((service.bind, member.backend)),
        )
        for member in service.members
    )
    return FrontendStatus(
        service.name,
        service.binds,
        str(service.source),
        backends,
        service.is_leaving,
        reading.refused.get(service.bind, 0),
        _ports_used(service, reading.ports),
    )


def _left_s(until_s: float | None, now_s: float) -> float | None:
    return None if until_s is None else max(0.0, bound_deadline(until_s, now_s) - now_s)


def _ports_used(service: Service, ports: Use) -> float:
    if service.source.kind is SourceKind.KEEP:
        return 0.0
    most = max((ports.get((service.source, m.backend), 0) for m in service.members), default=0)
    return most / count_room(service.source)


def _percent(part: int, largest: int) -> int:
    return max(1, round(FULL * part / largest)) if part else 0
