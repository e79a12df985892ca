"""Metrics: the status in the text format of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from paraglider import __version__
from paraglider.agent.names import NameStatus
from paraglider.agent.status import AgentStatus, FrontendStatus, Status
from paraglider.health.service import Health
from paraglider.kernel.finding import CODES


class _Metric(NamedTuple):
    """One metric without the prefix: name, type, help, and its samples as (labels, value)."""

    name: str
    kind: str
    help_text: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def metrics_text(status: Status) -> str:
    """Return all metrics of `status`. Labels are names and addresses, never text from outside."""
    metrics = [*_host_metrics(status), *_backend_metrics(status.frontends)]
    if status.agent is not None:
        metrics += _agent_metrics(status.agent)
    return "".join(map(_render, metrics))


def _render(metric: _Metric) -> str:
    name = f"paraglider_{metric.name}"
    lines = [f"# HELP {name} {metric.help_text}", f"# TYPE {name} {metric.kind}"]
    for labels, value in metric.samples:
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
        lines.append(
            f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"
        )
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _single(name: str, kind: str, help_text: str, value: float, **labels: str) -> _Metric:
    return _Metric(name, kind, help_text, [(labels, value)])


def _host_metrics(status: Status) -> Iterator[_Metric]:
    variant = status.choice.variant.value
    help_text = "Version and variant of iptables."
    yield _single("build_info", "gauge", help_text, 1, version=__version__, iptables=variant)
    yield _single("rules_whole", "gauge", "Whether every rule is in place.", status.is_whole)
    codes = Counter(finding.code for finding in status.findings)
    found = [({"code": code}, codes[code]) for code in CODES]
    help_text = "Findings of the survey: what keeps balanced connections from passing."
    yield _Metric("findings", "gauge", help_text, found)
    if status.conntrack is not None:
        entries, limit = status.conntrack.entries, status.conntrack.limit
        yield _single("conntrack_entries", "gauge", "Connections tracked.", entries)
        yield _single(
            "conntrack_entries_limit", "gauge", "Maximum number of tracked connections.", limit
        )
        help_text, dropped = (
            "Packets dropped because the conntrack table was full.",
            status.conntrack.dropped,
        )
        yield _single("conntrack_stat_drop_total", "counter", help_text, dropped)


def _backend_metrics(frontends: Sequence[FrontendStatus]) -> Iterator[_Metric]:
    backends = [
        ({"frontend": frontend.name, "backend": str(backend.backend)}, backend)
        for frontend in frontends
        for backend in frontend.backends
    ]
    yield from _frontend_metrics(frontends)
    up = [(labels, backend.is_up) for labels, backend in backends]
    help_text = "Whether the backend gets new connections; 0 where its check was never made."
    yield _Metric("backend_up", "gauge", help_text, up)
    named = [({**labels, "host_name": b.host_name}, 1) for labels, b in backends if b.host_name]
    help_text = "1, with the host name that the address of the backend comes from."
    yield _Metric("backend_info", "gauge", help_text, named)
    failing = [(labels, bool(backend.check_error)) for labels, backend in backends]
    help_text = "Whether the check of the backend cannot be made on this host."
    yield _Metric("backend_check_error", "gauge", help_text, failing)
    states = [
        ({**labels, "state": health.value}, backend.health is health)
        for labels, backend in backends
        for health in Health
    ]
    yield _Metric(
        "backend_status",
        "gauge",
        "1 for the current health of the backend, 0 for the other states.",
        states,
    )
    sent = [(labels, backend.total) for labels, backend in backends]
    help_text = "Connections sent to the backend."
    yield _Metric("backend_connections_total", "counter", help_text, sent)
    established = [(labels, backend.connections.established) for labels, backend in backends]
    help_text = "Established connections."
    yield _Metric("backend_current_connections", "gauge", help_text, established)
    half_open = [(labels, backend.connections.half_open) for labels, backend in backends]
    help_text = "Half-open connections: no answer seen, or not confirmed by the client."
    yield _Metric("backend_current_half_open_connections", "gauge", help_text, half_open)


def _frontend_metrics(frontends: Sequence[FrontendStatus]) -> Iterator[_Metric]:
    # One of the file may be two here, of both families.
    names = dict.fromkeys(frontend.name for frontend in frontends)
    of_name = {name: [f for f in frontends if f.name == name] for name in names}
    served = [({"frontend": n}, all(f.is_served for f in found)) for n, found in of_name.items()]
    help_text = "1 if every address family of the frontend has a backend that serves."
    yield _Metric("frontend_up", "gauge", help_text, served)
    refused = [({"frontend": n}, sum(f.refused for f in found)) for n, found in of_name.items()]
    help_text = "Connection attempts that Paraglider refused."
    yield _Metric("frontend_refused_total", "counter", help_text, refused)
    used = [({"frontend": n}, max(f.ports_used for f in found)) for n, found in of_name.items()]
    help_text = "Fraction of SNAT source ports in use, maximum over backends."
    yield _Metric("frontend_source_ports_used_ratio", "gauge", help_text, used)


def _name_metrics(names: Sequence[NameStatus]) -> Iterator[_Metric]:
    labelled = [({"name": it.name, "family": f"ipv{it.family.value}"}, it) for it in names]
    counts = [(labels, len(name.addresses)) for labels, name in labelled]
    yield _Metric("name_addresses", "gauge", "Addresses that the host name stands for.", counts)
    failing = [(labels, bool(name.error)) for labels, name in labelled]
    help_text = "Whether the host name cannot be looked up."
    yield _Metric("name_lookup_error", "gauge", help_text, failing)
    times = [(labels, name.error_for_s or 0.0) for labels, name in labelled]
    help_text = "Seconds for which the host name has had no answer; 0 while it has one."
    yield _Metric("name_lookup_error_seconds", "gauge", help_text, times)


def _agent_metrics(agent: AgentStatus) -> Iterator[_Metric]:
    yield from _name_metrics(agent.names)
    counters = agent.counters
    yield _single("uptime_seconds", "gauge", "Seconds since the agent started.", agent.up_s)
    help_text = "Changes by other programs that the agent undid."
    yield _single("rules_repairs_total", "counter", help_text, counters.repairs)
    help_text = "Failed attempts to change the rules."
    yield _single("sync_failures_total", "counter", help_text, counters.sync_failures)
    help_text = "Seconds for which a decided change has been missing from the rules; 0 up to 5 s."
    overdue_s = agent.overdue.for_s if agent.overdue else 0.0
    yield _single("changes_overdue_seconds", "gauge", help_text, overdue_s)
    help_text = "Configurations applied, the first one included."
    yield _single("config_reloads_total", "counter", help_text, counters.reloads)
    help_text = "Whether the configuration file is gone."
    yield _single("config_file_missing", "gauge", help_text, bool(counters.config_missing))
    help_text = "Whether the last reload succeeded."
    yield _single("config_last_reload_successful", "gauge", help_text, not counters.reload_error)
    help_text = "Time of the last successful reload, in seconds since the epoch."
    name = "config_last_reload_success_timestamp_seconds"
    yield _single(name, "gauge", help_text, counters.reloaded_s)
