"""Status as text: for a person, and as JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from paraglider.agent.names import NameStatus
from paraglider.agent.status import AgentStatus, BackendStatus, FrontendStatus, Status
from paraglider.config.model import Protocol
from paraglider.health.service import FULL, Health
from paraglider.kernel.conntrack_table import Conntrack
from paraglider.kernel.finding import Finding
from paraglider.rules.policy_rules import as_matched

# From that age on, the text shows how old the counters are.
_OLD_S = 2.0
_ORDERED = (Health.DRAINING, Health.DISABLED)
# When it is told that most connections of a backend are half-open.
_HALF_OPEN_S = 10.0
_UNANSWERED = "the backend does not answer, or its answers do not come through this host"
_SYN_RECV = "the backend answers, but clients do not complete the handshake: check the return path"
_ONE_WAY = " (normal for UDP without answers, such as syslog)"


def status_text(status: Status, *, unasked: str = "") -> str:
    """Return the lines that a person reads; `unasked` says which agent there is, and why it was
    not asked."""
    return "\n".join(_lines(status, unasked))


def _lines(status: Status, unasked: str) -> Iterator[str]:
    variant = status.choice.variant.value
    if status.is_whole:
        yield f"running, in iptables ({variant})"
    elif status.is_running and (status.agent or unasked):
        yield "damaged: rules are missing or changed; the agent is repairing them"
    elif status.is_running:
        yield "damaged: rules are missing or changed; repair them with 'paraglider start'"
    else:
        yield "not running"
    if status.agent is not None:
        yield from _agent_lines(status.agent)
    elif unasked:
        yield unasked
    elif status.is_running:
        yield "no agent running: backends are not health-checked (start one with 'paraglider run')"
    if status.unserved:
        yield f"no backend serves: {', '.join(status.unserved)}"
    for frontend in status.frontends:
        yield f"{frontend.name}: {_what(frontend)}"
        yield from _backend_lines(frontend)
        yield from _half_open_lines(frontend)
    yield from _network_lines(status)


def _network_lines(status: Status) -> Iterator[str]:
    for prefix, tables in status.answer_tables.items():
        yield f"answers from {as_matched(prefix)}: table {', '.join(map(str, tables))} (ip rule)"
    if status.conntrack is not None:
        used, limit = status.conntrack.entries, status.conntrack.limit
        share = f" ({100 * used / limit:.0f} %)" if limit else ""
        kept = f"; ended ones kept for {status.conntrack.time_wait_s} s"
        dropped = status.conntrack.dropped
        lost = f"; {dropped} packets dropped (table full)" if dropped else ""
        yield f"conntrack: {used} of {limit} entries in use{share}{kept}{lost}"
    is_found = any(finding.code == "forwarding-off" for finding in status.findings)
    for family, is_on in status.forwarding.items():
        if not is_on and not is_found:
            yield f"IPv{family.value} forwarding is OFF: no connection passes"
    for finding in status.findings:
        yield f"warning: {finding}"


def _what(frontend: FrontendStatus) -> str:
    if frontend.is_leaving:
        return "no longer configured; existing connections continue"
    refused = f"; {frontend.refused} refused" if frontend.refused else ""
    percent = round(100 * frontend.ports_used)
    if percent:
        refused += f"; {percent} % of its ports in use"
    return f"{', '.join(map(str, frontend.binds))}, source {frontend.source}{refused}"


def _agent_lines(agent: AgentStatus) -> Iterator[str]:
    counters = agent.counters
    repairs = (
        f", {counters.repairs} repairs (last: {counters.last_repair})" if counters.repairs else ""
    )
    yield f"agent: process {agent.pid}, up {_span(agent.up_s)}, {counters.config}{repairs}"
    if counters.config_missing:
        yield counters.config_missing
    if counters.reload_error:
        yield f"the current configuration is NOT in force: {counters.reload_error}"
    if agent.overdue:
        why = f": {agent.overdue.why}" if agent.overdue.why else ""
        yield f"OVERDUE for {_span(agent.overdue.for_s)}: {agent.overdue.what}{why}"
    elif counters.trouble:
        yield f"trouble: {counters.trouble}"
    if agent.count_error:
        yield f"connection counts are the last ones that could be read: {agent.count_error}"
    if agent.read_error or agent.read_age_s is None or agent.read_age_s >= _OLD_S:
        is_read = agent.read_age_s is not None
        age = f"{_span(agent.read_age_s or 0)} old" if is_read else "not read yet"
        yield f"connection counts are {age}{': ' if agent.read_error else ''}{agent.read_error}"
    yield from (_name_line(name) for name in agent.names if name.error)


def _name_line(name: NameStatus) -> str:
    for_ = "" if name.error_for_s is None else f" for {_span(name.error_for_s)}"
    stays = "its addresses are kept" if name.addresses else "it has no addresses"
    return f"{name.name} (IPv{name.family.value}) has no answer{for_}: {name.error}; {stays}"


def _backend_lines(frontend: FrontendStatus) -> Iterator[str]:
    total = sum(backend.total for backend in frontend.backends)
    rows = [_row(backend, total) for backend in frontend.backends]
    widths = [max(len(row[i]) for row in rows) for i in range(4)] if rows else []
    for name, health, is_open, sent, share, note in rows:
        cells = f"{name:<{widths[0]}}  {health:<{widths[1]}}  {is_open:>{widths[2]}} open"
        yield f"  {cells}  {sent:>{widths[3]}} connections  {share:>7}  {note}".rstrip()


def _row(backend: BackendStatus, total: int) -> tuple[str, ...]:
    share = f"{100 * backend.total / total:5.1f} %" if total else ""
    health = backend.health.value
    return (
        str(backend.backend),
        health,
        str(backend.connections.established),
        str(backend.total),
        share,
        _note(backend),
    )


def _note(backend: BackendStatus) -> str:
    notes = []
    if backend.for_s is not None and backend.health is not Health.UNKNOWN:
        notes.append(f"for {_span(backend.for_s)}")
    if backend.host_name:
        notes.append(f"of {backend.host_name}")
    if backend.connections.half_open:
        notes.append(f"{backend.connections.half_open} half-open")
    if backend.is_leaving:
        notes.append("no longer configured")
    if backend.cut_in_s is not None:
        left_s = backend.cut_in_s
        notes.append(f"cut in {_span(left_s)}" if left_s else "deadline over")
    if backend.is_backup:
        notes.append("backup")
    if backend.is_full:
        notes.append("max_connections reached")
    if 0 < backend.percent < FULL:
        notes.append(f"{backend.percent} % of a share")
    if backend.check_error:
        for_ = f" for {_span(backend.check_error_for_s or 0.0)}"
        notes.append(f"cannot be probed{for_}: {backend.check_error}")
    elif backend.health in (Health.DOWN, Health.UNKNOWN) and backend.reason:
        notes.append(backend.reason)
    if backend.percent and backend.health in (Health.DOWN, *_ORDERED):
        notes.append("serving: no other backend is up")
    return ", ".join(notes)


def _half_open_lines(frontend: FrontendStatus) -> Iterator[str]:
    """Say of which backends most connections get no answer, and what that means."""
    for backend in frontend.backends:
        count, for_s = backend.connections, backend.half_open_for_s
        if for_s is None or for_s < _HALF_OPEN_S or count.half_open <= count.established:
            continue
        why = _UNANSWERED if count.unanswered >= count.syn_recv else _SYN_RECV
        if why is _UNANSWERED and any(b.protocol is Protocol.UDP for b in frontend.binds):
            why += _ONE_WAY
        yield (
            f"  {backend.backend}: {count.half_open} of {count.live} connections half-open, most "
            f"of them for {_span(for_s)}: {why}"
        )


def _span(seconds: float) -> str:
    """Return a span of time as people say it: ``5 s``, ``12 min``, ``3 h``, ``9 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def status_json(status: Status, *, wall_clock: Callable[[], float] = time.time) -> str:
    """Return the same as JSON, for programs."""
    wall_s = wall_clock()
    conntrack, agent = status.conntrack, status.agent
    document = {
        "running": status.is_running,
        "whole": status.is_whole,
        "overdue_s": round(status.overdue.for_s, 3) if status.overdue else 0.0,
        "overdue": f"{status.overdue.what}: {status.overdue.why}" if status.overdue else None,
        "iptables": status.choice.variant.value,
        "iptables_reason": status.choice.reason,
        "forwarding": {f"ipv{f.value}": is_on for f, is_on in status.forwarding.items()},
        "findings": [_finding_json(finding) for finding in status.findings],
        "conntrack": conntrack and _conntrack_json(conntrack),
        "agent": agent and _agent_json(agent),
        "answer_tables": {str(as_matched(p)): list(t) for p, t in status.answer_tables.items()},
        "frontends": [_frontend_json(frontend, wall_s) for frontend in status.frontends],
    }
    return json.dumps(document, indent=2)


def _finding_json(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "frontend": finding.frontend or None,
        "told": finding.sentence,
        "mend": finding.mend or None,
    }


def _conntrack_json(conntrack: Conntrack) -> dict[str, object]:
    return {
        "entries": conntrack.entries,
        "limit": conntrack.limit,
        "time_wait_s": conntrack.time_wait_s,
        "dropped_total": conntrack.dropped,
    }


def _agent_json(agent: AgentStatus) -> dict[str, object]:
    counters = agent.counters
    return {
        "pid": agent.pid,
        "up_s": round(agent.up_s, 3),
        "config": counters.config,
        "config_missing": counters.config_missing or None,
        "reload_error": counters.reload_error or None,
        "repairs_total": counters.repairs,
        "last_repair": counters.last_repair or None,
        "trouble": counters.trouble or None,
        "count_error": agent.count_error or None,
        "counters_age_s": None if agent.read_age_s is None else round(agent.read_age_s, 3),
        "names": [_name_json(name) for name in agent.names],
    }


def _name_json(name: NameStatus) -> dict[str, object]:
    return {
        "name": name.name,
        "family": f"ipv{name.family.value}",
        "addresses": [str(address) for address in name.addresses],
        "missing_for_s": {str(it): _rounded(for_s) for it, for_s in name.missing_for_s.items()},
        "error": name.error or None,
        "error_for_s": _rounded(name.error_for_s),
    }


def _frontend_json(frontend: FrontendStatus, wall_s: float) -> dict[str, object]:
    return {
        "name": frontend.name,
        "bind": ",".join(map(str, frontend.binds)),
        "privateip": frontend.source,
        "refused_total": frontend.refused,
        "source_ports_used_ratio": round(frontend.ports_used, 4),
        "leaving": frontend.is_leaving,
        "served": frontend.is_served,
        "backends": [_backend_json(backend, wall_s) for backend in frontend.backends],
    }


def _backend_json(backend: BackendStatus, wall_s: float) -> dict[str, object]:
    cut_in_s = backend.cut_in_s
    return {
        "backend": str(backend.backend),
        "health": backend.health.value,
        "health_for_s": _rounded(backend.for_s),
        "last_probe": backend.reason or None,
        "share_percent": backend.percent,
        "connections_open": backend.connections.established,
        "connections_half_open": backend.connections.half_open,
        "half_open_for_s": _rounded(backend.half_open_for_s),
        "connections_total": backend.total,
        "cut_in_s": _rounded(cut_in_s),
        "cut_at": None if cut_in_s is None else round(wall_s + cut_in_s),
        "backup": backend.is_backup,
        "leaving": backend.is_leaving,
        "full": backend.is_full,
        "host_name": backend.host_name or None,
        "check_error": backend.check_error or None,
        "check_error_for_s": _rounded(backend.check_error_for_s),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
