"""Datagrams through real rules, in both variants and both families."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.netns.datagrams import Flows, send_from, serve_datagrams
from tests.netns.harness import BACKENDS, BALANCER, CLIENT, Agent, Topology

_REFUSED = "connection refused"


@pytest.fixture(autouse=True)
def _servers(topology: Topology) -> None:
    """Each backend answers datagrams at the port where it takes connections."""
    for host, listen in zip(BACKENDS, topology.addresses.backend_endpoints, strict=True):
        serve_datagrams(topology.lab, host, listen=listen, name=host)


def _config(topology: Topology, *more: str, backends: Sequence[str] = ()) -> str:
    plan = topology.addresses
    return plan.make_config(backends or plan.backend_endpoints, *(more or ("protocol: udp",)))


def _flows(topology: Topology, count: int = 3) -> Flows:
    return Flows(topology.lab, CLIENT, to=topology.addresses.bind_endpoint, count=count)


def test_datagrams_go_to_the_backends_in_turn_from_the_privateip(topology: Topology) -> None:
    """Each from a port of its own; and a connection to the same port is not taken."""
    plan = topology.addresses
    assert topology.balancer.paraglider("start", config=_config(topology)).returncode == 0
    results = send_from(topology.lab, CLIENT, to=plan.bind_endpoint, count=30)
    assert [answer.backend for answer in results.answers] == list(BACKENDS) * 10
    assert results.peers == {plan.privateip}
    assert topology.connect(1).failures == (_REFUSED,)


def test_one_port_may_serve_tcp_and_udp(topology: Topology) -> None:
    """Each has turns of its own."""
    plan = topology.addresses
    config = _config(topology, "protocol: tcp+udp")
    assert topology.balancer.paraglider("start", config=config).returncode == 0
    results = send_from(topology.lab, CLIENT, to=plan.bind_endpoint, count=4)
    assert [answer.backend for answer in results.answers] == [*BACKENDS, "b1"]
    assert [answer.backend for answer in topology.connect(6).answers] == [*BACKENDS] * 2


def _send_away(topology: Topology, agent: Agent, way: str) -> None:
    first, *others = topology.addresses.backend_endpoints
    match way:
        case "disabled":
            agent.order("disable", first)
        case "down":
            topology.stop_backend("b1")
        case "gone":
            agent.write(_config(topology, *_CHECKED, backends=others))


# Down is who takes no connections.
_CHECKED = ("protocol: udp", "check: {type: tcp, interval: 400ms, timeout: 400ms, fall: 2}")


@pytest.mark.parametrize("way", ["disabled", "down", "gone"])
def test_a_flow_leaves_a_backend_that_serves_no_more(topology: Topology, way: str) -> None:
    """Though it never pauses; flows of other backends stay where they are."""
    agent = topology.start_agent(config=_config(topology, *_CHECKED))
    with _flows(topology) as flows:
        flows.until(*BACKENDS)
        _send_away(topology, agent, way)
        flows.until("b2", "b2", "b3")
        flows.settle()
        assert sorted(flows.seen.values()) == [["b1", "b2"], ["b2"], ["b3"]]


def test_a_flow_to_a_bind_that_left_is_refused(topology: Topology) -> None:
    """Though the frontend stays, at another one."""
    plan = topology.addresses
    other = plan.endpoint(plan.bind, plan.bind_port + 1)
    udp = ("protocol: udp",)
    both = plan.make_config(plan.backend_endpoints, *udp, binds=(plan.bind_endpoint, other))
    agent = topology.start_agent(config=both)
    with _flows(topology, 2) as flows:
        flows.until("b1", "b2")
        agent.write(plan.make_config(plan.backend_endpoints, *udp, binds=[other]))
        flows.until(_REFUSED, _REFUSED)


def test_a_flow_stays_with_a_backend_that_drains(topology: Topology) -> None:
    """And goes elsewhere when its time is over."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology))
    with _flows(topology) as flows:
        flows.until(*BACKENDS)
        agent.order("drain", first)
        flows.settle()
        flows.until(*BACKENDS)
        agent.order("drain", first, "--deadline", "1s")
        flows.until("b2", "b2", "b3")


def test_a_flow_of_the_last_backend_is_refused(topology: Topology) -> None:
    """The sender is told by ICMP, and served again when somebody is back."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=_config(topology, backends=[first]))
    with _flows(topology, 2) as flows:
        flows.until("b1", "b1")
        agent.order("disable", first)
        flows.until(_REFUSED, _REFUSED)
        agent.order("enable", first)
        flows.until("b1", "b1")


def test_flows_stay_where_all_serve_though_they_are_down(topology: Topology) -> None:
    """no_backend: serve-all. Whatever changes in the rules, none is forgotten."""
    options = (*_CHECKED, "on_down: keep", "no_backend: serve-all")
    agent = topology.start_agent(config=_config(topology, *options))
    for host in BACKENDS:
        topology.stop_backend(host)
    while agent.said.count(" is down") < len(BACKENDS):
        agent.until(" is down")
    with _flows(topology, 9) as flows:
        flows.until(*BACKENDS * 3)
        agent.order("disable", topology.addresses.backend_endpoints[2])
        agent.until("forgot 3 UDP flows that no longer fit the configuration")
        flows.settle()
        stayed = [seen for seen in flows.seen.values() if seen[0] != "b3"]
        assert sorted(stayed) == [["b1"]] * 3 + [["b2"]] * 3


def _with_another(topology: Topology, bind: str) -> str:
    """Return a configuration with one frontend more, of b2 alone."""
    plan = topology.addresses
    web = _config(topology).replace("frontend:\n  bind", "frontends:\n- name: web\n  bind")
    return (
        f'{web}- {{name: dns, protocol: udp, bind: "{bind}", privateip: "{plan.privateip}", '
        f'backends: ["{plan.backend_endpoints[1]}"]}}\n'
    )


def test_a_flow_of_a_frontend_that_leaves_the_file_is_refused(topology: Topology) -> None:
    """By the host, whose port it is again; the flows of the frontend that stays go on."""
    other = topology.addresses.endpoint(topology.addresses.bind, 5353)
    agent = topology.start_agent(config=_with_another(topology, other))
    with _flows(topology) as flows, Flows(topology.lab, CLIENT, to=other, count=1) as leaving:
        flows.until(*BACKENDS)
        leaving.until("b2")
        agent.write(_config(topology).replace("frontend:\n", "frontends:\n- name: web\n"))
        leaving.until(_REFUSED)
        flows.settle()
        assert sorted(flows.seen.values()) == [["b1"], ["b2"], ["b3"]]


@pytest.mark.parametrize("command", ["start", "run"])
def test_a_flow_that_began_before_the_rules_is_balanced(topology: Topology, command: str) -> None:
    """Though conntrack knows it, from before, as one that nobody translates."""
    # Without a word of ours the lab's balancer would not track connections at all.
    topology.balancer.iptables("-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW")
    serve_datagrams(topology.lab, BALANCER, listen=topology.addresses.bind_endpoint, name="before")
    with _flows(topology, 2) as flows:
        flows.until("before", "before")
        if command == "start":
            topology.balancer.paraglider("start", config=_config(topology))
        else:
            topology.start_agent(config=_config(topology))
        flows.until("b1", "b2")


def test_a_flow_of_what_is_served_no_more_is_refused_without_an_agent(topology: Topology) -> None:
    """After a start with another file, and after a stop."""
    other = topology.addresses.endpoint(topology.addresses.bind, 5353)
    paraglider = topology.balancer.paraglider
    paraglider("start", config=_with_another(topology, other))
    with _flows(topology) as flows, Flows(topology.lab, CLIENT, to=other, count=1) as leaving:
        flows.until(*BACKENDS)
        leaving.until("b2")
        paraglider("start", config=_config(topology))
        leaving.until(_REFUSED)
        flows.settle()
        assert sorted(flows.seen.values()) == [["b1"], ["b2"], ["b3"]]
    with _flows(topology, 1) as flow:  # one: the host sends one ICMP error a second
        flow.until("b1")
        paraglider("stop")
        flow.until(_REFUSED)
