"""A backend on the balancer itself: reached through its firewall, and seen as the file says."""

from __future__ import annotations

import json

import pytest

from paraglider.lab.actors import connect_from, start_backend
from tests.netns.datagrams import send_from, serve_datagrams
from tests.netns.harness import BALANCER, CHECK, FOREIGN, Topology
from tests.waiting import until

_PORT = 7777
_WITHIN_S = 15.0


def _close_input(topology: Topology) -> None:
    """Let the balancer take nothing but what it began itself, as firewalls of hosts do."""
    for rule in (
        ("-A", "INPUT", "-i", "lo", "-j", "ACCEPT"),
        ("-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
        ("-P", "INPUT", "DROP"),
    ):
        topology.balancer.iptables(*rule)
    if topology.addresses.version == 6:  # neighbours have to find it
        topology.balancer.iptables("-I", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")


def _local(topology: Topology, host: str = "") -> str:
    return topology.addresses.endpoint(host or topology.addresses.privateip, _PORT)


def _config(topology: Topology, *more: str, privateip: str = "", host: str = "") -> str:
    """Two backends, the first on the balancer."""
    plan = topology.addresses
    backends = [_local(topology, host), plan.backend_endpoints[0]]
    return plan.make_config(backends, *more, privateip=privateip)


def _start(topology: Topology, config: str) -> None:
    done = topology.balancer.paraglider("start", config=config)
    assert done.returncode == 0, done.stderr


def _add_address(topology: Topology, number: int, *, action: str = "add") -> str:
    plan = topology.addresses
    base, _, last = plan.privateip.rpartition(":" if plan.version == 6 else ".")
    address = f"{base}{':' if plan.version == 6 else '.'}{int(last) + number}"
    where = [f"{address}/{plan.backends_prefix}", "dev", "backends"]
    nodad = ["nodad"] if plan.version == 6 and action == "add" else []
    topology.lab.run(BALANCER, ["ip", "addr", action, *where, *nodad])
    return address


def _seen_by(topology: Topology, privateip: str, local: str) -> tuple[str, set[str]]:
    """Return what the file says of `privateip`, and whom the local backend is to see."""
    plan = topology.addresses
    match privateip:
        case "address":
            return "", {plan.privateip}
        case "list":
            other = _add_address(topology, 50)
            return f'["{plan.privateip}", "{other}"]', {plan.privateip, other}
        case "range":
            first, last = _add_address(topology, 60), _add_address(topology, 61)
            return f"{first}-{last}", {first, last}
        case "auto":
            return "auto", {local}
    return "keep", {plan.client}


@pytest.mark.parametrize("where", ["privateip", "bind", "secondary"])
def test_it_is_reached_behind_a_firewall(topology: Topology, where: str) -> None:
    """As many connections as the other backend has, at whichever address of the balancer it
    listens; without the rules its own are dropped by INPUT."""
    plan = topology.addresses
    address = {"privateip": plan.privateip, "bind": plan.bind}.get(where, "")
    address = address or _add_address(topology, 70)
    start_backend(topology.lab, BALANCER, listen=_local(topology, address), name="here")
    _close_input(topology)
    _start(topology, _config(topology, host=address))
    results = topology.connect(20, timeout_s=3.0)
    assert results.failures == ()
    assert results.by_backend == {"here": 10, "b1": 10}
    assert results.peers == {plan.privateip}


@pytest.mark.parametrize("privateip", ["address", "list", "range", "auto", "keep"])
def test_it_sees_whom_the_file_says(topology: Topology, privateip: str) -> None:
    """TCP and UDP; with `auto` itself, as of a program of its own host."""
    plan = topology.addresses
    listed, seen = _seen_by(topology, privateip, plan.privateip)
    start_backend(topology.lab, BALANCER, listen=_local(topology), name="here")
    serve_datagrams(topology.lab, BALANCER, listen=_local(topology), name="here")
    _close_input(topology)
    config = plan.make_config([_local(topology)], "protocol: tcp+udp", privateip=listed)
    _start(topology, config)
    results = topology.connect(40, timeout_s=3.0)
    assert results.failures == ()
    assert results.peers == seen
    datagrams = send_from(topology.lab, "client", to=plan.bind_endpoint, count=40)
    assert datagrams.failures == ()
    assert datagrams.peers == seen
    own = connect_from(topology.lab, BALANCER, to=plan.bind_endpoint, count=4, timeout_s=3.0)
    assert own.failures == ()


def test_nothing_else_comes_in(topology: Topology) -> None:
    """The firewall still keeps clients from the backend's own port."""
    start_backend(topology.lab, BALANCER, listen=_local(topology, topology.addresses.bind))
    _close_input(topology)
    _start(topology, _config(topology, host=topology.addresses.bind))
    to = _local(topology, topology.addresses.bind)
    straight = connect_from(topology.lab, "client", to=to, count=1, timeout_s=1.0)
    assert straight.failures == ("timed out",)


def test_rules_are_whole_the_same_twice_and_gone_after_stop(topology: Topology) -> None:
    """`diff`, `status` and `stop` know both forms; connections live through the change."""
    balancer = topology.balancer
    balancer.restore(FOREIGN)
    _close_input(topology)
    before = topology.save()
    start_backend(topology.lab, BALANCER, listen=_local(topology), name="here")
    config = _config(topology)
    _start(topology, config)
    assert "PARAGLIDER-INPUT" in balancer.iptables("-t", "nat", "-S", "INPUT")
    assert "nothing to change" in balancer.paraglider("start", config=config).stdout
    assert balancer.paraglider("diff", config=config).returncode == 0
    assert json.loads(balancer.paraglider("status", "--json").stdout)["whole"]
    with topology.hold(20) as held:
        _start(topology, topology.config)  # none of these is here
        assert "PARAGLIDER" not in balancer.iptables("-t", "nat", "-S", "INPUT")
        assert held.settle().broken == 0
        _start(topology, config)
        assert held.settle().broken == 0
    balancer.iptables("-t", "nat", "-D", "INPUT", "-j", "PARAGLIDER-INPUT")
    assert not json.loads(balancer.paraglider("status", "--json").stdout)["whole"]
    assert balancer.paraglider("diff", config=config).returncode == 1
    assert balancer.paraglider("stop").returncode == 0
    assert topology.save() == before


def test_an_address_that_comes_and_goes_is_followed(topology: Topology) -> None:
    """By the agent, at once: the backend moves to the balancer with its address, and away."""
    plan = topology.addresses
    _close_input(topology)
    address = _add_address(topology, 80)
    _add_address(topology, 80, action="del")
    config = plan.make_config([_local(topology, address)], "check: none")
    topology.start_agent(config=config)

    def is_local() -> bool:
        return "PARAGLIDER" in topology.balancer.iptables("-t", "nat", "-S", "INPUT")

    assert not is_local()
    _add_address(topology, 80)
    start_backend(topology.lab, BALANCER, listen=_local(topology, address), name="here")
    until(is_local, what="the rule for a local backend is there", within_s=_WITHIN_S)
    with topology.hold(10, timeout_s=5.0) as held:
        assert held.settle().broken == 0
        results = topology.connect(4, timeout_s=3.0)
        assert results.failures == ()
        assert results.peers == {plan.privateip}
    _add_address(topology, 80, action="del")
    until(lambda: not is_local(), what="that rule is gone", within_s=_WITHIN_S)


def test_the_agent_puts_its_rules_back(topology: Topology) -> None:
    """After a flush of nat by somebody else, with every connection as it was."""
    start_backend(topology.lab, BALANCER, listen=_local(topology), name="here")
    _close_input(topology)
    config = topology.addresses.make_config([_local(topology)], CHECK)
    agent = topology.start_agent(config=config)
    with topology.hold(20) as held:
        topology.balancer.iptables("-t", "nat", "-F")
        agent.until("repaired nat")
        until(
            lambda: topology.connect(1, timeout_s=1.0).failures == (),
            what="connections pass",
            within_s=_WITHIN_S,
        )
        assert held.settle().broken == 0
