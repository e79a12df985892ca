"""View: the status of this host as its agent knows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace

from paraglider.agent.agent import Agent
from paraglider.agent.status import (
    AgentStatus,
    BackendStatus,
    FrontendStatus,
    Reading,
    Status,
    frontend_status,
    make_status,
    nothing_read,
    read_kernel,
)
from paraglider.agent.tries import Backoff
from paraglider.config.model import Endpoint
from paraglider.errors import ParagliderError, explain
from paraglider.health.backend_state import BackendState
from paraglider.health.health_state import FrontendView
from paraglider.health.service import Service
from paraglider.kernel.host import Host


class View:
    """What the kernel said when it was read last, and what the agent knows now."""

    def __init__(self, agent: Agent, host: Host, clock: Callable[[], float]) -> None:
        self._agent = agent
        self._host = host
        self._clock = clock
        self._reading: Reading | None = None
        self._backoff = Backoff()
        self._error = ""

    def refresh(self) -> None:
        """Read the kernel again, by programs. Where that fails, what was read last stays, and it is
        not tried again at once."""
        if not self._backoff.is_due(self._clock()):
            return
        try:
            self._reading = read_kernel(
                self._agent.chosen, self._host, self._clock(), count=self._agent.connections.count
            )
        except (ParagliderError, OSError) as error:
            self._backoff.fail(self._clock())
            self._error = explain(error)
        else:
            self._backoff, self._error = Backoff(), ""

    def status(self) -> Status:
        """Return the status; starts no program."""
        agent, now_s = self._agent, self._clock()
        reading = self._reading or nothing_read(agent.services(), now_s)
        read_age_s = now_s - reading.now_s if self._reading else None
        # What the agent knows is of now, also where the kernel was read before.
        reading = replace(reading, now_s=now_s, half_open_for_s=agent.connections.half_open_for_s())
        full = agent.full()
        frontends = tuple(
            _frontend(view, service, reading, full.get(service.bind, ()), agent.prober_error)
            for view, service in zip(agent.views(), agent.services(), strict=True)
        )
        counters = agent.counters
        itself = AgentStatus(
            os.getpid(),
            now_s - counters.started_s,
            counters,
            tuple(agent.names()),
            agent.connections.error,
            overdue=agent.overdue(),
            read_age_s=read_age_s,
            read_error=self._error,
        )
        status = make_status(agent.chosen, self._host, reading, frontends, itself)
        return replace(status, findings=tuple(agent.findings))


def _frontend(
    view: FrontendView,
    service: Service,
    reading: Reading,
    full: Collection[Endpoint],
    prober_error: tuple[str, float],
) -> FrontendStatus:
    serving = tuple(share for share in service.serving if share.backend not in full)
    found = frontend_status(replace(service, serving=serving), reading)
    now_s = reading.now_s
    backends = (
        replace(
            _with_standing(b, view.members[b.backend], prober_error, now_s),
            is_full=b.backend in full,
        )
        for b in found.backends
    )
    return replace(found, backends=tuple(backends))


def _with_standing(
    found: BackendStatus, backend_state: BackendState, prober_error: tuple[str, float], now_s: float
) -> BackendStatus:
    error, since_s = backend_state.error, backend_state.error_since_s
    if not error and backend_state.is_probed:
        error, since_s = prober_error
    host = None if backend_state.backend is None else backend_state.backend.host
    return replace(
        found,
        check_error=error,
        check_error_for_s=now_s - since_s if error else None,
        host_name=host if isinstance(host, str) else "",
        reason=backend_state.reason,
        for_s=now_s - backend_state.since_s,
        is_backup=backend_state.is_backup,
        is_leaving=backend_state.is_leaving,
    )
