"""Metrics: the status in the text format of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paraglider import __version__
from paraglider.agent.status import BackendStatus, FrontendStatus, Status
from paraglider.health.service import Health

_Sample = tuple[dict[str, str], float]


def metrics_text(status: Status) -> str:
    """Return all metrics of `status`. Labels are names and addresses, never text from outside."""
    return "".join(
        f"# HELP {name} {told}\n# TYPE {name} {kind}\n"
        + "".join(f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples)
        for name, kind, told, samples in _families(status)
    )


def _labels(labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _families(status: Status) -> Iterator[tuple[str, str, str, Iterable[_Sample]]]:
    variant = {"version": __version__, "iptables": status.choice.variant.value}
    yield "paraglider_build_info", "gauge", "Version and variant of iptables.", [(variant, 1)]
    yield (
        "paraglider_rules_whole",
        "gauge",
        "Whether every rule is in place.",
        [({}, status.is_whole)],
    )
    yield from _backend_families(status.frontends)
    if status.agent is not None:
        yield from _agent_families(status)
    if status.conntrack is not None:
        entries: list[_Sample] = [({}, float(status.conntrack.entries))]
        yield "paraglider_conntrack_entries", "gauge", "Connections tracked.", entries
        limit: list[_Sample] = [({}, float(status.conntrack.limit))]
        yield "paraglider_conntrack_entries_limit", "gauge", "Connections that can be.", limit


def _backend_families(
    frontends: tuple[FrontendStatus, ...],
) -> Iterator[tuple[str, str, str, Iterable[_Sample]]]:
    pairs = [(frontend, backend) for frontend in frontends for backend in frontend.backends]

    def samples(value: Iterable[float]) -> list[_Sample]:
        names = (_backend_labels(frontend, backend) for frontend, backend in pairs)
        return list(zip(names, value, strict=True))

    yield (
        "paraglider_backend_up",
        "gauge",
        "Whether the backend gets new connections.",
        samples(float(b.percent > 0) for _, b in pairs),
    )
    yield (
        "paraglider_backend_status",
        "gauge",
        "1 for the health that the backend has.",
        [
            ({**_backend_labels(f, b), "state": health.value}, float(b.health is health))
            for f, b in pairs
            for health in Health
        ],
    )
    yield (
        "paraglider_backend_connections_total",
        "counter",
        "Connections sent to the backend.",
        samples(float(b.total) for _, b in pairs),
    )
    yield (
        "paraglider_backend_current_connections",
        "gauge",
        "Connections that the backend has.",
        samples(float(b.open) for _, b in pairs),
    )


def _backend_labels(frontend: FrontendStatus, backend: BackendStatus) -> dict[str, str]:
    return {"frontend": frontend.name, "backend": str(backend.backend)}


def _agent_families(status: Status) -> Iterator[tuple[str, str, str, Iterable[_Sample]]]:
    agent = status.agent
    if agent is None:
        return
    for name, kind, told, value in (
        ("uptime_seconds", "gauge", "How long the agent has run.", agent.up_s),
        (
            "rules_repairs_total",
            "counter",
            "Changes of our rules by others, undone.",
            agent.repairs,
        ),
        ("sync_failures_total", "counter", "Changes that could not be made.", agent.sync_failures),
        ("config_reloads_total", "counter", "Configurations put in force.", agent.reloads),
        (
            "config_last_reload_successful",
            "gauge",
            "Whether what is configured is in force.",
            not agent.reload_error,
        ),
        (
            "config_last_reload_success_timestamp_seconds",
            "gauge",
            "When a configuration was put in force last.",
            agent.reloaded_s,
        ),
    ):
        yield f"paraglider_{name}", kind, told, [({}, float(value))]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
