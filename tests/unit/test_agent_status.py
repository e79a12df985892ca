"""The status: what a person, a program and Prometheus are told of the same host."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from ipaddress import ip_address

import pytest

from paraglider.agent.counters import Counters
from paraglider.agent.metrics import metrics_text
from paraglider.agent.names import NameStatus
from paraglider.agent.status import AgentStatus, BackendStatus, FrontendStatus, Status
from paraglider.agent.status_text import status_json, status_text
from paraglider.config.model import Endpoint, Family, Protocol
from paraglider.health.service import Health
from paraglider.kernel.conntrack import Count
from paraglider.kernel.conntrack_table import Conntrack
from paraglider.kernel.iptables import Variant
from paraglider.kernel.variant import Choice
from tests.services import bind_at


def _endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(ip_address(address), port)


WEB = FrontendStatus(
    "web",
    (bind_at(_endpoint("192.0.2.10", 80)),),
    "10.0.0.4",
    (
        BackendStatus(
            _endpoint("10.0.0.11", 8080), Health.UP, 100, Count(3), 30, "connected", for_s=3600.0
        ),
        BackendStatus(
            _endpoint("10.0.0.12", 8080), Health.DOWN, 0, Count(), 10, "refused", for_s=12.4
        ),
        BackendStatus(
            _endpoint("10.0.0.13", 8080), Health.DRAINING, 0, Count(2), 0, for_s=150.0, cut_in_s=0.0
        ),
        BackendStatus(
            _endpoint("10.0.0.14", 8080), Health.UNKNOWN, 5, Count(), 0, for_s=1.0, is_backup=True
        ),
    ),
)
LEFT = FrontendStatus(
    "192.0.2.10:81",
    (bind_at(_endpoint("192.0.2.10", 81)),),
    "192.0.2.10",
    (
        BackendStatus(
            _endpoint("10.0.0.15", 80), Health.DRAINING, 0, Count(1), 0, for_s=5.0, is_leaving=True
        ),
    ),
    is_leaving=True,
)
RECORD = Counters(
    started_s=0.0,
    config="/etc/paraglider/glider.yaml",
    reloads=2,
    reloaded_s=1764000000.5,
    config_missing="f is gone",
    reload_error="f:1:1: wrong",
    repairs=1,
    last_repair="nat PREROUTING",
    sync_failures=3,
    trouble="cannot change the rules: x",
)
STATUS = Status(
    is_whole=True,
    choice=Choice(Variant.NFT, "it says so"),
    conntrack=Conntrack(26, 262144, 10),
    forwarding={Family.IPV4: True, Family.IPV6: False},
    frontends=(WEB, LEFT),
    agent=AgentStatus(7, 90.25, RECORD),
)
WITHOUT_AGENT = replace(STATUS, frontends=(), conntrack=None, forwarding={}, agent=None)


def test_a_person_is_told_what_is_what() -> None:
    """Columns under each other, and why somebody gets nothing."""
    assert status_text(STATUS).splitlines() == [
        "running, in iptables (nft)",
        "agent: process 7, up 90 s, /etc/paraglider/glider.yaml, 1 repairs (last: nat PREROUTING)",
        "f is gone",
        "the current configuration is NOT in force: f:1:1: wrong",
        "trouble: cannot change the rules: x",
        "web: 192.0.2.10:80, source 10.0.0.4",
        "  10.0.0.11:8080  up        3 open  30 connections   75.0 %  for 60 min",
        "  10.0.0.12:8080  down      0 open  10 connections   25.0 %  for 12 s, refused",
        "  10.0.0.13:8080  draining  2 open   0 connections    0.0 %  for 2 min, deadline over",
        "  10.0.0.14:8080  unknown   0 open   0 connections    0.0 %  backup, 5 % of a share",
        "192.0.2.10:81: no longer configured; existing connections continue",
        "  10.0.0.15:80  draining  1 open  0 connections           for 5 s, no longer configured",
        "conntrack: 26 of 262144 entries in use (0 %); ended ones kept for 10 s",
        "IPv6 forwarding is OFF: no connection passes",
    ]


def test_where_nothing_runs_that_is_all_there_is_to_tell() -> None:
    """In one line."""
    assert status_text(replace(WITHOUT_AGENT, is_whole=False)) == "not running"


def test_a_program_is_told_the_same() -> None:
    """What there is nothing to say of is null."""
    reason = json.loads(status_json(STATUS))
    assert reason["agent"] == {
        "pid": 7,
        "up_s": 90.25,
        "config": "/etc/paraglider/glider.yaml",
        "config_missing": "f is gone",
        "reload_error": "f:1:1: wrong",
        "repairs_total": 1,
        "last_repair": "nat PREROUTING",
        "trouble": "cannot change the rules: x",
        "count_error": None,
        "counters_age_s": 0.0,
        "names": [],
    }
    assert reason["frontends"][0]["backends"][1] == {
        "backend": "10.0.0.12:8080",
        "health": "down",
        "health_for_s": 12.4,
        "last_probe": "refused",
        "share_percent": 0,
        "connections_open": 0,
        "connections_half_open": 0,
        "half_open_for_s": None,
        "connections_total": 10,
        "cut_in_s": None,
        "cut_at": None,
        "backup": False,
        "leaving": False,
        "full": False,
        "host_name": None,
        "check_error": None,
        "check_error_for_s": None,
    }
    assert json.loads(status_json(WITHOUT_AGENT))["agent"] is None


def _with_count(count: Count, for_s: float | None, protocol: Protocol = Protocol.TCP) -> Status:
    backend = replace(WEB.backends[0], connections=count, half_open_for_s=for_s)
    bind = bind_at(_endpoint("192.0.2.10", 80), protocol)
    return replace(STATUS, frontends=(replace(WEB, binds=(bind,), backends=(backend,)),))


def test_half_open_connections_are_told_apart() -> None:
    """To everybody; those that have ended to nobody."""
    status = _with_count(Count(5, 2, 1, ended=9), None)
    assert "5 open  30 connections  100.0 %  for 60 min, 3 half-open" in status_text(status)
    (backend,) = json.loads(status_json(status))["frontends"][0]["backends"]
    assert (backend["connections_open"], backend["connections_half_open"]) == (5, 3)
    at = 'frontend="web",backend="10.0.0.11:8080"'
    lines = metrics_text(status).splitlines()
    assert f"paraglider_backend_current_connections{{{at}}} 5" in lines
    assert f"paraglider_backend_current_half_open_connections{{{at}}} 3" in lines


@pytest.mark.parametrize(
    ("count", "protocol", "reason"),
    [
        (
            Count(2, 40, 1),
            Protocol.TCP,
            "41 of 43 .* for 25 s: the backend does not answer, or its",
        ),
        (
            Count(0, 1, 3),
            Protocol.TCP,
            "4 of 4 .*: the backend answers, but clients do not complete",
        ),
        (
            Count(0, 2),
            Protocol.UDP,
            r"2 of 2 .* \(normal for UDP without answers, such as syslog\)",
        ),
    ],
)
def test_it_is_told_that_most_connections_get_no_answer_and_why(
    count: Count, protocol: Protocol, reason: str
) -> None:
    """In a line of its own."""
    lines = status_text(_with_count(count, 25.0, protocol)).splitlines()
    (found,) = (line for line in lines if " connections half-open" in line)
    assert re.match(rf"  10\.0\.0\.11:8080: {reason}", found)


@pytest.mark.parametrize(
    ("count", "for_s"), [(Count(0, 9), 9.9), (Count(0, 9), None), (Count(9, 9), 25.0)]
)
def test_it_is_not_told_before_it_has_lasted(count: Count, for_s: float | None) -> None:
    """Connections are half-open for a moment everywhere; nor where most are established again."""
    assert " connections half-open" not in status_text(_with_count(count, for_s))


def test_numbers_that_are_old_are_told_to_be() -> None:
    """With the reason."""
    agent = AgentStatus(7, 90.25, RECORD, count_error="cannot read the connections: it changed")
    status = replace(STATUS, agent=agent)
    age = "connection counts are the last ones that could be read"
    line = f"{age}: cannot read the connections: it changed"
    assert line in status_text(status).splitlines()
    assert json.loads(status_json(status))["agent"]["count_error"] == agent.count_error


def test_a_deadline_is_told_by_the_clock_as_it_is_set_now() -> None:
    """For programs that show a date; the seconds that are left are told beside it."""
    draining = replace(WEB.backends[2], cut_in_s=30.25)
    status = replace(STATUS, frontends=(replace(WEB, backends=(draining,)),))
    reason = json.loads(status_json(status, wall_clock=lambda: 1_766_000_000.5))
    (backend,) = reason["frontends"][0]["backends"]
    assert (backend["cut_in_s"], backend["cut_at"]) == (30.25, 1_766_000_031)
    assert "for 2 min, cut in 30 s" in status_text(status)


def test_prometheus_is_told_how_each_backend_is() -> None:
    """One series a backend, and one for each health that it could have."""
    lines = metrics_text(STATUS).splitlines()
    down = 'frontend="web",backend="10.0.0.12:8080"'
    assert [line for line in lines if down in line] == [
        f"paraglider_backend_up{{{down}}} 0",
        f"paraglider_backend_check_error{{{down}}} 0",
        f'paraglider_backend_status{{{down},state="unknown"}} 0',
        f'paraglider_backend_status{{{down},state="up"}} 0',
        f'paraglider_backend_status{{{down},state="down"}} 1',
        f'paraglider_backend_status{{{down},state="draining"}} 0',
        f'paraglider_backend_status{{{down},state="disabled"}} 0',
        f"paraglider_backend_connections_total{{{down}}} 10",
        f"paraglider_backend_current_connections{{{down}}} 0",
        f"paraglider_backend_current_half_open_connections{{{down}}} 0",
    ]


def test_prometheus_is_told_how_the_agent_is() -> None:
    """A file that is not in force, what was undone and what failed; nothing where none runs."""
    lines = metrics_text(replace(STATUS, frontends=())).splitlines()
    assert [line for line in lines if "{" not in line and not line.startswith("#")] == [
        "paraglider_rules_whole 1",
        "paraglider_conntrack_entries 26",
        "paraglider_conntrack_entries_limit 262144",
        "paraglider_conntrack_stat_drop_total 0",
        "paraglider_uptime_seconds 90.25",
        "paraglider_rules_repairs_total 1",
        "paraglider_sync_failures_total 3",
        "paraglider_changes_overdue_seconds 0",
        "paraglider_config_reloads_total 2",
        "paraglider_config_file_missing 1",
        "paraglider_config_last_reload_successful 0",
        "paraglider_config_last_reload_success_timestamp_seconds 1764000000.5",
    ]
    assert "uptime" not in metrics_text(WITHOUT_AGENT)


def test_a_frontend_of_both_families_is_one_series() -> None:
    """The file has one, and so has Prometheus: what was refused is added up."""
    both = (replace(WEB, refused=3, ports_used=0.1), replace(WEB, refused=4, ports_used=0.6))
    lines = metrics_text(replace(STATUS, frontends=both)).splitlines()
    assert [line for line in lines if line.startswith("paraglider_frontend_")] == [
        'paraglider_frontend_up{frontend="web"} 1',
        'paraglider_frontend_refused_total{frontend="web"} 7',
        'paraglider_frontend_source_ports_used_ratio{frontend="web"} 0.6',
    ]
    assert "; 3 refused; 10 % of its ports in use" in status_text(replace(STATUS, frontends=both))


def test_a_check_that_cannot_be_made_is_shown_with_reason_and_time() -> None:
    """In the status, as JSON and in the metrics; a backend that was up before still counts so."""
    why = "cannot read ca /ca.pem"
    up, _, _, unknown = WEB.backends
    backends = tuple(
        replace(found, check_error=why, check_error_for_s=61.0) for found in (up, unknown)
    )
    status = replace(STATUS, frontends=(replace(WEB, backends=backends),))
    assert status_text(status).count(f"cannot be probed for 61 s: {why}") == 2
    shown = json.loads(status_json(status))["frontends"][0]["backends"][1]
    assert (shown["check_error"], shown["check_error_for_s"]) == (why, 61.0)
    lines = metrics_text(status).splitlines()
    for address, is_up in (("10.0.0.11:8080", 1), ("10.0.0.14:8080", 0)):
        labels = f'{{frontend="web",backend="{address}"}}'
        assert f"paraglider_backend_up{labels} {is_up}" in lines
        assert f"paraglider_backend_check_error{labels} 1" in lines


def test_a_backend_of_a_name_says_which() -> None:
    """So that whoever reads of an address knows what to change."""
    named = replace(WEB.backends[0], host_name="shop")
    status = replace(STATUS, frontends=(replace(WEB, backends=(named,)),))
    shown = json.loads(status_json(status))["frontends"][0]["backends"][0]
    assert shown["host_name"] == "shop"
    labels = '{frontend="web",backend="10.0.0.11:8080",host_name="shop"}'
    assert f"paraglider_backend_info{labels} 1" in metrics_text(status).splitlines()
    assert "for 60 min, of shop" in status_text(status)


@pytest.mark.parametrize(
    ("health", "percent", "is_full", "is_served"),
    [
        (Health.UP, 100, False, True),
        (Health.UNKNOWN, 100, False, True),
        (Health.UP, 0, True, True),
        (Health.UP, 0, False, False),  # no quorum, or weight 0
        (Health.UNKNOWN, 0, False, False),  # start: down
        (Health.DOWN, 0, False, False),
        (Health.DOWN, 100, False, False),  # no_backend: serve-all
        (Health.DRAINING, 0, False, False),
        (Health.DISABLED, 0, False, False),
    ],
)
def test_a_frontend_is_served_by_a_backend_that_may_be_up(
    health: Health, percent: int, is_full: bool, is_served: bool
) -> None:
    """One with all the connections that it may have serves, too."""
    backend = replace(WEB.backends[0], health=health, percent=percent, is_full=is_full)
    status = replace(STATUS, frontends=(replace(WEB, backends=(backend,)), LEFT))
    assert status.exit_code == (0 if is_served else 3)
    assert ("no backend serves: web" in status_text(status).splitlines()) is not is_served
    served = json.loads(status_json(status))["frontends"][0]["served"]
    assert served is is_served
    up = f'paraglider_frontend_up{{frontend="web"}} {is_served:d}'
    assert up in metrics_text(status).splitlines()


def test_a_family_without_a_backend_is_a_frontend_without_one() -> None:
    """Clients of the other family are served; these are not. It is named once."""
    lost = replace(WEB, backends=WEB.backends[1:2])
    status = replace(STATUS, frontends=(WEB, lost, lost))
    assert (status.unserved, status.exit_code) == (("web",), 3)
    assert 'paraglider_frontend_up{frontend="web"} 0' in metrics_text(status)


def test_damaged_rules_come_before_a_frontend_without_backends() -> None:
    """One exit code; the worse thing has it."""
    lost = replace(STATUS, frontends=(replace(WEB, backends=()),), is_whole=False)
    assert lost.exit_code == 1


def test_a_name_without_an_answer_is_shown_with_reason_and_time() -> None:
    """In the status, as JSON and in the metrics; one that resolves takes no line."""
    one, two = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    names = (
        NameStatus("shop", Family.IPV4, (one, two), {two: 12.0}),
        NameStatus("db", Family.IPV6, (), {}, "no answer yet"),
        NameStatus("web", Family.IPV4, (one,), {}, "name or service not known", 61.0),
    )
    status = replace(STATUS, agent=AgentStatus(7, 90.25, RECORD, names))
    lines = status_text(status).splitlines()
    assert [line for line in lines if " has no answer" in line] == [
        "db (IPv6) has no answer: no answer yet; it has no addresses",
        "web (IPv4) has no answer for 61 s: name or service not known; its addresses are kept",
    ]
    reason = json.loads(status_json(status))["agent"]["names"]
    assert reason[0] == {
        "name": "shop",
        "family": "ipv4",
        "addresses": ["10.0.0.1", "10.0.0.2"],
        "missing_for_s": {"10.0.0.2": 12.0},
        "error": None,
        "error_for_s": None,
    }
    assert (reason[2]["error"], reason[2]["error_for_s"]) == ("name or service not known", 61.0)
    metrics = metrics_text(status).splitlines()
    web, shop = ('{name="web",family="ipv4"}', '{name="shop",family="ipv4"}')
    assert f"paraglider_name_lookup_error{web} 1" in metrics
    assert f"paraglider_name_lookup_error_seconds{web} 61" in metrics
    assert f"paraglider_name_lookup_error{shop} 0" in metrics
    assert f"paraglider_name_addresses{shop} 2" in metrics
