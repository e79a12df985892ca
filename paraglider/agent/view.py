"""View: the status of this host as its agent knows it."""

from __future__ import annotations

import os
from dataclasses import replace

from paraglider.agent.agent import Agent
from paraglider.agent.status import (
    AgentStatus,
    BackendStatus,
    FrontendStatus,
    Status,
    frontend_status,
    make_status,
    read_kernel,
)
from paraglider.health.board import FrontendView
from paraglider.health.standing import Standing
from paraglider.kernel.host import Host


def read_view(agent: Agent, host: Host, now_s: float) -> Status:
    """Return the status: what the kernel says, and what the agent knows beyond it."""
    choice = agent.chosen
    reading = read_kernel(choice, host)
    frontends = tuple(
        _with_standings(frontend_status(service, reading), view, now_s)
        for view, service in zip(agent.views(), agent.services(), strict=True)
    )
    record = agent.record
    itself = AgentStatus(os.getpid(), now_s - record.started_s, record)
    return make_status(choice, host, reading, frontends, itself)


def _with_standings(found: FrontendStatus, view: FrontendView, now_s: float) -> FrontendStatus:
    return replace(
        found,
        backends=tuple(_with_standing(b, view.members[b.backend], now_s) for b in found.backends),
    )


def _with_standing(found: BackendStatus, standing: Standing, now_s: float) -> BackendStatus:
    return replace(
        found,
        told=standing.told,
        for_s=now_s - standing.since_s,
        is_backup=standing.is_backup,
        is_leaving=standing.is_leaving,
    )
