"""Who may connect, with real connections through real rules, in both variants and families."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from paraglider.lab.actors import TRAFFIC, HeldConnections
from paraglider.lab.results import Results, parse_json
from tests.netns.datagrams import send_from, serve_datagrams
from tests.netns.harness import BACKENDS, CLIENT, IPV4, Topology

_REFUSED = "connection refused"
_SILENT = "timed out"


def _start(topology: Topology, *options: str) -> None:
    plan = topology.addresses
    config = plan.make_config(plan.backend_endpoints, *options)
    done = topology.balancer.paraglider("start", config=config)
    assert done.returncode == 0, done.stderr


def _add_client(topology: Topology) -> str:
    """Give the client one address more; return it."""
    plan = topology.addresses
    address = str(ip_address(plan.client) + 1)
    nodad = ["nodad"] if plan.version == 6 else []
    where = [f"{address}/{plan.clients_prefix}", "dev", "clients", *nodad]
    topology.lab.run(CLIENT, ["ip", "addr", "add", *where])
    return address


def _connect(topology: Topology, count: int = 3, *, source: str = "", to: str = "") -> Results:
    plan = topology.addresses
    argv = [*TRAFFIC, "connect", "--to", to or plan.bind_endpoint, "--count", str(count)]
    argv += ["--json", "--timeout", "1", "--from", source or plan.client]
    return parse_json(topology.lab.run(CLIENT, argv, check=False).stdout)


def _listed(key: str, networks: Sequence[str]) -> str:
    return f"{key}: [{', '.join(json.dumps(network) for network in networks)}]"


def _refused(topology: Topology) -> int:
    """Return what status and metrics say of how many were refused; they say the same."""
    balancer = topology.balancer
    (frontend,) = json.loads(balancer.paraglider("status", "--json").stdout)["frontends"]
    metrics = balancer.paraglider("metrics").stdout
    found = re.findall(r"^paraglider_frontend_refused_total\{.*\} (\d+)$", metrics, re.MULTILINE)
    assert found == [str(frontend["refused_total"])]
    return int(found[0])


def test_rates_are_in_force_however_iptables_prints_them(topology: Topology) -> None:
    """60/min comes back as 1/sec, 1500/s as 1501/sec."""
    for rate in ("60/min", "1500/s", "3600/h", "1440/day", "1000000/s"):
        _start(topology, f"rate: {rate}")
        assert topology.balancer.paraglider("status").returncode == 0


def test_who_is_allowed_may_connect_and_nobody_else(topology: Topology) -> None:
    """The other one is refused at once, each time, and that is counted."""
    client, other = topology.addresses.client, _add_client(topology)
    _start(topology, _listed("allow", [client]))
    assert _connect(topology).by_backend == dict.fromkeys(BACKENDS, 1)
    assert _refused(topology) == 0
    assert _connect(topology, source=other).failures == (_REFUSED,) * 3
    assert _refused(topology) == 3


def test_who_is_denied_may_not_though_allowed(topology: Topology) -> None:
    """One address of an allowed network."""
    plan, other = topology.addresses, _add_client(topology)
    network = ip_network(f"{plan.client}/{plan.clients_prefix}", strict=False)
    _start(topology, _listed("allow", [str(network)]), _listed("deny", [other]))
    assert _connect(topology).by_backend == dict.fromkeys(BACKENDS, 1)
    assert _connect(topology, source=other).failures == (_REFUSED,) * 3


def test_thousands_of_networks_are_looked_up(topology: Topology) -> None:
    """3,000 that are allowed: the client, which is in one of them, and not its neighbour."""
    plan, other = topology.addresses, _add_client(topology)
    bits = 8 if plan.version == 4 else 64
    length = ip_address(plan.client).max_prefixlen
    first = ip_network(f"{plan.client}/{length}")
    start = int(ip_address("11.0.0.0" if plan.version == 4 else "2001:db8::"))
    others = [f"{ip_address(start + (2 * n << bits))}/{length - bits}" for n in range(2999)]
    _start(topology, _listed("allow", [*others[:1500], str(first), *others[1500:]]))
    assert _connect(topology).by_backend == dict.fromkeys(BACKENDS, 1)
    assert _connect(topology, source=other).failures == (_REFUSED,) * 3
    assert topology.balancer.paraglider("status").returncode == 0


def test_who_is_dropped_hears_nothing(topology: Topology) -> None:
    """And gives up; what it has sent is counted."""
    _start(topology, _listed("deny", [topology.addresses.client]), "refuse: drop")
    assert _connect(topology, 1).failures == (_SILENT,)
    assert _refused(topology) >= 1


def test_the_sixth_connection_of_a_minute_is_refused(topology: Topology) -> None:
    """Of one client; another has five of its own."""
    other = _add_client(topology)
    _start(topology, "rate: 5/min")
    results = _connect(topology, 7)
    assert (len(results.answers), results.failures) == (5, (_REFUSED,) * 2)
    assert len(_connect(topology, 5, source=other).answers) == 5
    assert _refused(topology) == 2


def test_the_fourth_connection_at_a_time_is_refused(topology: Topology) -> None:
    """Of one client, with three held; when they are closed it may connect again."""
    plan = topology.addresses
    _start(topology, "max_connections: 3")
    with HeldConnections(topology.lab, CLIENT, to=plan.bind_endpoint, count=3) as held:
        assert held.opened.open == 3
        other = _add_client(topology)
        assert _connect(topology, 2, source=plan.client).failures == (_REFUSED,) * 2
        assert _connect(topology, 3, source=other).failures == ()
        assert held.settle().broken == 0
    assert _refused(topology) == 2
    assert _connect(topology, 1, source=plan.client).failures == ()


def test_a_connection_that_is_open_goes_on_when_its_client_is_denied(topology: Topology) -> None:
    """New ones are refused; and when it is denied no more, they are served."""
    denied = _listed("deny", [topology.addresses.client])
    _start(topology)
    with topology.hold(9) as held:
        _start(topology, denied)
        assert _connect(topology, 1).failures == (_REFUSED,)
        assert held.settle().broken == 0
        _start(topology)
        assert _connect(topology).failures == ()
        assert held.settle().broken == 0


def test_what_is_refused_of_several_binds_adds_up(topology: Topology) -> None:
    """Of an address, of ports that join, and of any address."""
    plan = topology.addresses
    binds = [f"{plan.endpoint(plan.bind, 9000)}-9001", f"{plan.endpoint(plan.bind, 9002)}", "*:80"]
    config = plan.make_config(plan.backend_endpoints, _listed("deny", [plan.client]), binds=binds)
    assert topology.balancer.paraglider("start", config=config).returncode == 0
    for port in (9000, 9001, 9002, 80):
        to = plan.endpoint(plan.bind, port)
        assert _connect(topology, 1, to=to).failures == (_REFUSED,)
    assert _refused(topology) == 4
    assert topology.balancer.paraglider("diff", config=config).returncode == 0


# ip6tables-nft reads counters only since 1.8.11 (Debian 12 has 1.8.9).
@pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
def test_what_was_refused_stays_counted_whatever_becomes_of_another_frontend(
    topology: Topology,
) -> None:
    """Rules of its own are written when the other one loses its last backend, and has it again."""
    plan = topology.addresses
    *some, last = plan.backend_endpoints
    web = plan.make_config(some, _listed("deny", [plan.client]))
    other = plan.make_config([last], binds=[plan.endpoint(plan.bind, 9000)])
    items = [text.removeprefix("frontend:\n") for text in (web, other)]
    agent = topology.start_agent(
        config="frontends:\n" + "".join(f"- name: n{n}\n{item}" for n, item in enumerate(items))
    )
    assert _connect(topology).failures == (_REFUSED,) * 3
    for order in ("disable", "enable"):
        agent.order(order, last)
        status = json.loads(topology.balancer.paraglider("status", "--json").stdout)
        assert [frontend["refused_total"] for frontend in status["frontends"]] == [3, 0]
    assert "repairs" not in agent.said


def test_access_holds_for_datagrams_too(topology: Topology) -> None:
    """A flow more than a client may open is refused with ICMP's word; TCP is counted with it."""
    plan = topology.addresses
    for host, listen in zip(BACKENDS, plan.backend_endpoints, strict=True):
        serve_datagrams(topology.lab, host, listen=listen, name=host)
    _start(topology, "protocol: tcp+udp", "rate: 5/min")
    assert _connect(topology, 2).failures == ()
    results = send_from(topology.lab, CLIENT, to=plan.bind_endpoint, count=5)
    assert (len(results.answers), results.failures) == (3, (_REFUSED,) * 2)
    assert _connect(topology, 1).failures == (_REFUSED,)
    assert _refused(topology) == 3


def test_another_rate_in_the_file_holds_at_once(topology: Topology) -> None:
    """For clients that were counted under the old one, too: they have what the new one allows."""
    other = _add_client(topology)
    _start(topology, "rate: 5/min")
    assert len(_connect(topology, 2).answers) == 2
    _start(topology, "rate: 3/min")
    assert len(_connect(topology, 6, source=other).answers) == 3
    assert len(_connect(topology, 6).answers) == 3
    _start(topology, "rate: 100/min")
    assert _connect(topology, 10).failures == ()
