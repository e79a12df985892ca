"""Binds of all kinds, with real connections through real rules, in both variants and families."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from paraglider.lab.actors import HeldConnections, connect_from, start_backend
from paraglider.lab.results import Results
from tests.netns.harness import BACKENDS, BALANCER, CLIENT, AddressPlan, Topology

_ROUND = dict.fromkeys(BACKENDS, 1)


def _start(topology: Topology, config: str) -> None:
    done = topology.balancer.paraglider("start", config=config)
    assert done.returncode == 0, done.stderr


def _connect(topology: Topology, to: str, count: int = 3, *, by: str = CLIENT) -> Results:
    return connect_from(topology.lab, by, to=to, count=count, timeout_s=2.0)


def _serve_at(topology: Topology, ports: Sequence[int]) -> None:
    """Start servers beside those of the topology; each is called ``b1:9000`` or alike."""
    plan = topology.addresses
    for host, address in zip(BACKENDS, plan.backends, strict=True):
        for port in ports:
            listen = plan.endpoint(address, port)
            start_backend(topology.lab, host, listen=listen, name=f"{host}:{port}")


def _without_port(plan: AddressPlan) -> list[str]:
    return [f"[{a}]" if plan.version == 6 else a for a in plan.backends]


def _any(plan: AddressPlan) -> str:
    return "[::]" if plan.version == 6 else "0.0.0.0"


def _add_routes(topology: Topology) -> None:
    """Let the client reach the inner address of the balancer, and b2 the outer one."""
    plan = topology.addresses
    topology.lab.add_route(CLIENT, plan.privateip, plan.bind)
    topology.lab.add_route("b2", plan.bind, plan.privateip)


def test_several_binds_share_one_cycle_of_turns(topology: Topology) -> None:
    """Whichever of three ports of two binds is connected to, the next backend has its turn."""
    plan = topology.addresses
    binds = [plan.bind_endpoint, f"{plan.endpoint(plan.bind, 8000)}-8001"]
    _start(topology, plan.make_config(plan.backend_endpoints, binds=binds))
    found = [
        answer.backend
        for port in (8001, plan.bind_port, 8000, 8000, plan.bind_port, 8001)
        for answer in _connect(topology, plan.endpoint(plan.bind, port), 1).answers
    ]
    assert found == [*BACKENDS, *BACKENDS]


def test_a_backend_without_a_port_gets_the_port_that_the_client_chose(topology: Topology) -> None:
    """Of a range, and no connection to a port beside it."""
    plan, ports = topology.addresses, (9000, 9001, 9002)
    _serve_at(topology, [*ports, 9003])
    bind = f"{plan.endpoint(plan.bind, 9000)}-9002"
    _start(topology, plan.make_config(_without_port(plan), binds=[bind]))
    for port in ports:
        results = _connect(topology, plan.endpoint(plan.bind, port))
        assert results.by_backend == {f"{host}:{port}": 1 for host in BACKENDS}
        assert results.peers == {plan.privateip}
    beside = _connect(topology, plan.endpoint(plan.bind, 9003), 1)
    assert beside.failures == ("connection refused",)


def test_a_backend_without_a_port_is_probed_at_the_first_of_the_bind(topology: Topology) -> None:
    """And is down once nobody listens there."""
    plan = topology.addresses
    where = [plan.endpoint(plan.bind, plan.backend_port)]
    config = plan.make_config(_without_port(plan), "check: {interval: 400ms}", binds=where)
    agent = topology.start_agent(config=config)
    topology.stop_backend("b1")
    agent.until(" is down")


def test_a_range_of_ports_is_mapped_to_another(topology: Topology) -> None:
    """The first port to the first, and so on; for each of the backends."""
    plan = topology.addresses
    _serve_at(topology, (7000, 7001, 7002))
    bind = f"{plan.endpoint(plan.bind, 9000)}-9002"
    backends = [f"{plan.endpoint(address, 7000)}-7002" for address in plan.backends]
    _start(topology, plan.make_config(backends, binds=[bind]))
    for offset in range(3):
        results = _connect(topology, plan.endpoint(plan.bind, 9000 + offset))
        assert results.by_backend == {f"{host}:{7000 + offset}": 1 for host in BACKENDS}


@pytest.mark.parametrize("form", ["any", "*"])
def test_a_bind_of_any_address_serves_them_all(topology: Topology, form: str) -> None:
    """The outer and the inner one, for who comes from outside, from inside and from the balancer
    itself; what listens on loopback alone is left to the balancer."""
    plan = topology.addresses
    _add_routes(topology)
    loopback = plan.endpoint("::1" if plan.version == 6 else "127.0.0.1", plan.bind_port)
    start_backend(topology.lab, BALANCER, listen=loopback, name="own")
    bind = f"{_any(plan) if form == 'any' else form}:{plan.bind_port}"
    _start(topology, plan.make_config(plan.backend_endpoints, binds=[bind]))
    inner = plan.endpoint(plan.privateip, plan.bind_port)
    for host in (CLIENT, "b2", BALANCER):
        for to in (plan.bind_endpoint, inner):
            results = _connect(topology, to, by=host)
            assert (results.by_backend, results.failures) == (_ROUND, ())
    assert _connect(topology, loopback, by=BALANCER).by_backend == {"own": 3}


def test_any_address_is_no_address_behind_the_balancer(topology: Topology) -> None:
    """A connection that the balancer only forwards to the same port goes where it was sent."""
    plan = topology.addresses
    topology.lab.add_route(CLIENT, plan.backends[0], plan.bind)
    topology.lab.add_route("b1", plan.client, plan.privateip)
    bind = f"{_any(plan)}:{plan.backend_port}"
    _start(topology, plan.make_config(plan.backend_endpoints[1:], binds=[bind]))
    results = _connect(topology, plan.backend_endpoints[0])
    assert results.by_backend == {"b1": 3}
    assert results.peers == {plan.client}


def test_an_interface_takes_what_comes_in_there(topology: Topology) -> None:
    """To any address, and from nowhere else: the host refuses what comes from the backends' side,
    and what it sends itself."""
    plan = topology.addresses
    _add_routes(topology)
    bind = f"clients:{plan.bind_port}"
    _start(topology, plan.make_config(plan.backend_endpoints, binds=[bind]))
    for address in (plan.bind, plan.privateip):
        to = plan.endpoint(address, plan.bind_port)
        assert _connect(topology, to).by_backend == _ROUND
        for host in ("b2", BALANCER):
            assert set(_connect(topology, to, by=host).failures) <= {"connection refused"}
            assert _connect(topology, to, by=host).answers == ()


def _one_for_each(plan: AddressPlan) -> str:
    """Return frontends at any address, at an interface and at an address: of b1, b2, and b3, which
    sees another source."""
    binds = (f"*:{plan.bind_port}", f"clients:{plan.bind_port}", plan.bind_endpoint)
    frontends = [
        f'  - {{name: f{number}, bind: "{bind}", privateip: "{source}", backends: ["{backend}"]}}\n'
        for number, (bind, backend, source) in enumerate(
            zip(binds, plan.backend_endpoints, ("auto", "auto", plan.bind), strict=True)
        )
    ]
    return "frontends:\n" + "".join(frontends)


def test_the_more_exact_bind_takes_the_connection(topology: Topology) -> None:
    """An address before an interface, and that before any; and it gives its source."""
    plan = topology.addresses
    _add_routes(topology)
    topology.lab.add_route("b3", plan.bind, plan.privateip)
    _start(topology, _one_for_each(plan))
    inner = plan.endpoint(plan.privateip, plan.bind_port)
    assert _connect(topology, inner, by="b2").by_backend == {"b1": 3}
    assert _connect(topology, inner).by_backend == {"b2": 3}
    assert _connect(topology, plan.bind_endpoint).by_backend == {"b3": 3}
    exact = _connect(topology, plan.bind_endpoint, by="b2")
    assert exact.by_backend == {"b3": 3}
    assert exact.peers == {plan.bind}


def test_connections_to_any_address_are_counted_where_they_are(topology: Topology) -> None:
    """Though conntrack does not tell through which interface they came, backends do. Those of b3,
    which has no way back to its source, stay half-open."""
    plan = topology.addresses
    _add_routes(topology)
    _start(topology, _one_for_each(plan))
    inner = plan.endpoint(plan.privateip, plan.bind_port)
    with (
        HeldConnections(topology.lab, "b2", to=inner, count=1),
        HeldConnections(topology.lab, CLIENT, to=inner, count=2),
        HeldConnections(topology.lab, CLIENT, to=plan.bind_endpoint, count=3),
    ):
        reason = json.loads(topology.balancer.paraglider("status", "--json").stdout)
    backends = {f["name"]: f["backends"][0] for f in reason["frontends"]}
    found = {
        name: (backend["connections_open"], backend["connections_half_open"])
        for name, backend in backends.items()
    }
    assert found == {"f0": (1, 0), "f1": (2, 0), "f2": (0, 3)}


def _files(plan: AddressPlan) -> dict[str, str]:
    outer = plan.endpoint(plan.bind, 9000)
    mapped = [f"{plan.endpoint(address, 7000)}-7002" for address in plan.backends]
    backends = plan.backend_endpoints
    both = plan.make_config(backends, "protocol: tcp+udp", binds=["*:53", f"{outer}-9002"])
    return {
        "several": plan.make_config(backends, binds=[f"{outer},9005,9010-9020", "clients:80"]),
        "no port": plan.make_config(_without_port(plan), binds=[f"{outer}-9002"]),
        "mapped": plan.make_config(mapped, binds=[f"{outer}-9002"]),
        "any": plan.make_config(backends, binds=[f"{_any(plan)}:9000"]),
        "interface": plan.make_config(backends, binds=["clients:9000-9002"], privateip="keep"),
        "both protocols": both,
    }


def test_connections_count_for_the_bind_that_takes_them_now(topology: Topology) -> None:
    """Not for the one that left, though it is the more exact."""
    plan = topology.addresses
    agent = topology.start_agent(config=plan.config)
    with topology.hold(3):
        anywhere = [f"{_any(plan)}:{plan.bind_port}"]
        agent.write(plan.make_config(plan.backend_endpoints, binds=anywhere))
        agent.until("rules are in iptables")
        with topology.hold(6):
            assert sum(b["connections_open"] for b in agent.backends().values()) == 9


def test_what_is_in_the_kernel_agrees_with_the_file(topology: Topology) -> None:
    """For each kind of bind: a second start finds nothing to do, there is no difference, and status
    finds every rule, every bind and every backend."""
    balancer = topology.balancer
    for kind, config in _files(topology.addresses).items():
        _start(topology, config)
        again = balancer.paraglider("start", config=config)
        assert (kind, again.returncode) == (kind, 0)
        assert "already running" in again.stdout
        difference = balancer.paraglider("diff", config=config)
        assert (kind, difference.returncode, difference.stderr) == (kind, 0, "")
        status = balancer.paraglider("status", "--json")
        assert (kind, status.returncode) == (kind, 0)
        reason = json.loads(status.stdout)
        assert reason["running"] is True
        assert [len(f["backends"]) for f in reason["frontends"]] == [3]


def test_ports_that_join_stay_those_of_the_file(topology: Topology) -> None:
    """Two binds whose ports are neighbours: connections are counted, and the agent after one that
    was killed knows who was disabled."""
    plan = topology.addresses
    binds = [plan.endpoint(plan.bind, 9001), f"{plan.endpoint(plan.bind, 9002)}-9003"]
    agent = topology.start_agent(config=plan.make_config(plan.backend_endpoints, binds=binds))
    _connect(topology, plan.endpoint(plan.bind, 9002), 6)
    first = plan.backend_endpoints[0]
    assert [b["connections_total"] for b in agent.backends().values()] == [2, 2, 2]
    agent.order("disable", first)
    agent.kill()
    agent.start()
    assert agent.backends()[first]["health"] == "disabled"
    assert _connect(topology, plan.endpoint(plan.bind, 9003), 4).by_backend == {"b2": 2, "b3": 2}


def test_a_bind_that_nobody_serves_leaves_nothing_to_one_of_any_address(topology: Topology) -> None:
    """Its connections are refused, also where others would take them."""
    plan = topology.addresses
    _add_routes(topology)
    out = f'{{address: "{plan.backend_endpoints[2]}", weight: 0}}'
    config = _one_for_each(plan).replace(f'"{plan.backend_endpoints[2]}"', out)
    _start(topology, config)
    assert _connect(topology, plan.bind_endpoint, 1).failures == ("connection refused",)
    inner = plan.endpoint(plan.privateip, plan.bind_port)
    assert _connect(topology, inner).by_backend == {"b2": 3}
