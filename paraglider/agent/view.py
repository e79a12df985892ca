"""View: the status of this host as its agent knows it."""

from __future__ import annotations

import os
from collections.abc import Collection
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
    read_kernel,
)
from paraglider.config.model import Endpoint
from paraglider.health.board import FrontendView
from paraglider.health.service import Service
from paraglider.health.standing import Standing
from paraglider.kernel.host import Host


def read_view(agent: Agent, host: Host, now_s: float) -> Status:
    """Return the status: what the kernel says, and what the agent knows beyond it."""
    choice = agent.chosen
    connections = agent.connections
    reading = read_kernel(choice, host, now_s, count=connections.count)
    reading = replace(reading, half_open_for_s=connections.half_open_for_s())
    full = agent.full()
    frontends = tuple(
        _frontend(view, service, reading, full.get(service.bind, ()), agent.prober_error)
        for view, service in zip(agent.views(), agent.services(), strict=True)
    )
    record = agent.record
    itself = AgentStatus(
        os.getpid(),
        now_s - record.started_s,
        record,
        tuple(agent.names()),
        connections.error,
    )
    status = make_status(choice, host, reading, frontends, itself)
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
    found: BackendStatus, standing: Standing, prober_error: tuple[str, float], now_s: float
) -> BackendStatus:
    error, since_s = standing.error, standing.error_since_s
    if not error and standing.is_probed:
        error, since_s = prober_error
    host = None if standing.backend is None else standing.backend.host
    return replace(
        found,
        check_error=error,
        check_error_for_s=now_s - since_s if error else None,
        host_name=host if isinstance(host, str) else "",
        told=standing.told,
        for_s=now_s - standing.since_s,
        is_backup=standing.is_backup,
        is_leaving=standing.is_leaving,
    )
