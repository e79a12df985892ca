"""View: the status of this host as its agent knows it."""

from __future__ import annotations

from paraglider.agent.agent import Agent
from paraglider.agent.status import (
    BackendStatus,
    FrontendStatus,
    Reading,
    Status,
    make_status,
    read_kernel,
)
from paraglider.health.board import FrontendView
from paraglider.health.service import Service
from paraglider.kernel.host import Host


def read_view(agent: Agent, host: Host, now_s: float) -> Status:
    """Return the status: what the kernel says, and what the agent knows beyond it."""
    choice = agent.chosen
    reading = read_kernel(choice, host)
    services = agent.services()
    frontends = tuple(
        _frontend(view, service, reading, now_s)
        for view, service in zip(agent.views(), services, strict=True)
    )
    return make_status(choice, host, reading, frontends, agent.record.status(now_s))


def _frontend(
    view: FrontendView, service: Service, reading: Reading, now_s: float
) -> FrontendStatus:
    shares = {share.backend: share.percent for share in service.serving}
    backends = tuple(
        BackendStatus(
            backend=backend,
            health=standing.health,
            percent=shares.get(backend, 0),
            open=reading.open.get((view.bind, backend), 0),
            total=reading.totals.get((view.bind, backend), 0),
            told=standing.told,
            for_s=now_s - standing.since_s,
            until_s=standing.until_s,
            is_backup=standing.is_backup,
            is_leaving=standing.is_leaving,
        )
        for backend, standing in view.members.items()
    )
    is_leaving = view.frontend is None
    return FrontendStatus(view.name, view.bind, str(view.privateip), backends, is_leaving)
