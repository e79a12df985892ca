"""Several uplinks: balanced connections are answered as the host answers its own."""

from __future__ import annotations

import json

import pytest

from paraglider.lab.actors import connect_from, start_backend
from tests.netns.datagrams import send_from, serve_datagrams
from tests.netns.harness import BACKENDS, BALANCER, IPV4, Agent, Topology, Variant, start_within
from tests.netns.uplinks import FAR, ROUTER2, TABLE, Uplinks, add_uplink, serve_on_balancer
from tests.waiting import until

_ONLY_IPV4 = pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])
_ONLY_NFT = pytest.mark.parametrize("variant", [Variant.NFT], indirect=True, ids=["nft"])
_WITHIN_S = 15.0
_EVENLY = {"b1": 2, "b2": 2, "b3": 2}


@pytest.fixture
def uplinks(topology: Topology) -> Uplinks:
    """Two uplinks, and the rule that sends answers from the second one's address back there."""
    return add_uplink(topology)


def _start_agent(uplinks: Uplinks, *more: str) -> Agent:
    return uplinks.topology.start_agent(config=uplinks.config(*more))


def test_answers_leave_by_the_uplink_that_the_hosts_own_would(uplinks: Uplinks) -> None:
    """A client behind the second uplink, which the default route does not lead to, is served by a
    program of the host and by the balancer; so are one at the first, and the host itself, for
    which table 2 has to have the backends too."""
    own = serve_on_balancer(uplinks, 4445)
    topology = uplinks.topology
    assert connect_from(topology.lab, FAR, to=own, count=3).by_backend == {"own": 3}
    uplinks.start()
    assert uplinks.connect(6).by_backend == _EVENLY
    assert topology.connect(6).by_backend == _EVENLY
    where = ("dev", "backends", "table", str(TABLE))
    uplinks.ip("route", "add", topology.addresses.backends[0], *where)
    uplinks.ip("route", "add", topology.addresses.backends[1], *where)
    uplinks.ip("route", "add", topology.addresses.backends[2], *where)
    here = connect_from(topology.lab, BALANCER, to=uplinks.bind, count=6)
    assert here.by_backend == _EVENLY


def test_a_host_without_rules_for_a_bind_gets_nothing(topology: Topology) -> None:
    """Its rules are the same to the byte as with one uplink, and it has no policy rule of ours,
    also where it has policy rules for other things."""
    uplinks = add_uplink(topology, has_rule=False)
    uplinks.start()
    before = topology.save()
    uplinks.add_rule("from", uplinks.plan.far, table=7)
    uplinks.add_rule("fwmark", "0x1", table=7)
    uplinks.add_rule("to", uplinks.plan.network, table=7)
    uplinks.add_rule("from", uplinks.plan.address, "iif", "backends", table=7)
    uplinks.start()
    assert topology.save() == before
    assert "MARK" not in before
    assert uplinks.own_rules() == []


def test_stop_takes_all_of_it_away(uplinks: Uplinks) -> None:
    """Whoever's rules there were are as before; once more where somebody has flushed what was in
    iptables; and nothing of it needs the configuration."""
    balancer = uplinks.topology.balancer
    before, rules = balancer.save(), uplinks.rules()
    uplinks.start()
    assert len(uplinks.own_rules()) == 1
    assert balancer.paraglider("stop").stdout == "stopped: removed all rules\n"
    assert uplinks.rules() == rules
    assert "PARAGLIDER" not in balancer.save()
    uplinks.start()
    for table in ("nat", "mangle", "filter"):
        balancer.iptables("-t", table, "-F")
        balancer.iptables("-t", table, "-X")
    assert balancer.paraglider("stop").stdout == "stopped: removed all rules\n"
    assert uplinks.rules() == rules
    assert balancer.save() == before or not before


def test_an_agent_follows_the_hosts_rules(topology: Topology) -> None:
    """A rule that comes while it runs is followed, one that goes is not any more; connections that
    are open through either uplink are not hurt by it."""
    uplinks = add_uplink(topology, has_rule=False)
    agent = _start_agent(uplinks)
    far = (uplinks.plan.far, "via", uplinks.plan.router2)
    uplinks.ip("route", "add", *far)
    with topology.hold(20) as near_ones, uplinks.hold(20) as far_ones:
        uplinks.add_rule()
        until(uplinks.own_rules, what="a policy rule is there", within_s=_WITHIN_S)
        uplinks.ip("route", "del", *far)
        until(uplinks.is_served, what="connections pass", within_s=_WITHIN_S)
        assert near_ones.settle().broken == 0
        assert far_ones.settle().broken == 0
        assert uplinks.count("PARAGLIDER-UPLINK", words="--set-xmark") > 0
        uplinks.ip("route", "add", *far)
        uplinks.ip("rule", "del", "from", uplinks.plan.address)
        until(lambda: not uplinks.own_rules(), what="no policy rule is left", within_s=_WITHIN_S)
        assert far_ones.settle().broken == 0
        assert near_ones.settle().broken == 0
    until(lambda: "MARK" not in topology.save(), what="no mark is set", within_s=_WITHIN_S)
    assert agent.order("status").startswith("running")


def test_what_others_take_away_of_it_is_back(uplinks: Uplinks) -> None:
    """Our policy rule deleted, and a rule of somebody's put behind our jump, which has to stand
    last; status and diff tell of the first without an agent, too."""
    balancer = uplinks.topology.balancer
    agent = _start_agent(uplinks)
    (own,) = uplinks.own_rules()
    delete = ("rule", "del", "priority", "1000", "fwmark", own.split("fwmark ")[1].split()[0])
    uplinks.ip(*delete)
    agent.until("another program changed ip rule 1000: restored")
    assert uplinks.own_rules() == [own]
    assert f"answers from {uplinks.plan.address}: table {TABLE}" in agent.order("status")
    uplinks.mangle("-A", "PREROUTING", "-m", "mark", "--mark", "0x7", "-j", "ACCEPT")
    agent.until("mangle PREROUTING")
    until(
        lambda: balancer.iptables("-t", "mangle", "-S", "PREROUTING").endswith("-REPLY\n"),
        what="the jump is last again",
        within_s=_WITHIN_S,
    )
    assert uplinks.connect(6).by_backend == _EVENLY
    agent.kill()
    assert uplinks.own_rules() == [own]
    assert balancer.paraglider("diff", config=uplinks.config()).stdout == ""
    uplinks.ip(*delete)
    assert balancer.paraglider("status").stdout.startswith("damaged")
    assert "+ 1000: fwmark" in balancer.paraglider("diff", config=uplinks.config()).stdout


def test_a_killed_agent_leaves_it_and_its_successor_takes_it_over(uplinks: Uplinks) -> None:
    """Connections go on, new ones are answered; a reload that says so switches it off."""
    agent = _start_agent(uplinks)
    with uplinks.hold(20) as held:
        agent.kill()
        assert uplinks.connect(6).by_backend == _EVENLY
        agent.start(until="nothing to change")
        assert held.settle().broken == 0
    agent.write(uplinks.config("return_path: plain"))
    agent.order("reload")
    assert uplinks.own_rules() == []
    assert "MARK" not in uplinks.topology.save()
    assert not uplinks.is_served()
    agent.order("stop")
    assert agent.running.wait(10) == 0
    assert "PARAGLIDER" not in uplinks.topology.save()


def test_a_default_route_that_changes_needs_nothing(uplinks: Uplinks) -> None:
    """What is copied is which table to look in, and never what is in it."""
    uplinks.start()
    uplinks.add_router3()
    uplinks.break_router2()
    assert not uplinks.is_served()
    route = ("default", "via", uplinks.plan.router3, "table", str(TABLE))
    uplinks.ip("route", "replace", *route)
    assert uplinks.connect(6).by_backend == _EVENLY


def test_marks_of_the_hosts_own_go_before_and_are_not_changed(uplinks: Uplinks) -> None:
    """A rule for a mark that the host puts on answers is obeyed, also where it compares all bits;
    and behind the routing decision, and in what is saved for the connection, that mark is alone."""
    uplinks.add_router3()
    uplinks.break_router2()
    uplinks.ip("route", "add", "default", "via", uplinks.plan.router3, "table", "5")
    uplinks.add_rule("fwmark", "0x5", priority=900, table=5)
    uplinks.mangle("-A", "PREROUTING", "-i", "backends", "-j", "MARK", "--set-mark", "0x5")
    uplinks.mangle("-A", "FORWARD", "-i", "backends", "-j", "CONNMARK", "--save-mark")
    uplinks.mangle("-A", "FORWARD", "-i", "backends", "-m", "mark", "!", "--mark", "0x5")
    uplinks.mangle("-A", "POSTROUTING", "-o", "uplink2", "-m", "mark", "--mark", "0x5")
    uplinks.mangle("-A", "POSTROUTING", "-m", "connmark", "!", "--mark", "0x5/0xfffffffa")
    uplinks.start()
    assert uplinks.connect(6).by_backend == _EVENLY
    assert uplinks.count("POSTROUTING", words="--mark 0x5 ") > 0
    assert uplinks.count("FORWARD", words="! --mark 0x5") == 0
    assert "0x2" not in uplinks.topology.balancer.iptables("-t", "mangle", "-S", "POSTROUTING")


def test_a_host_that_restores_the_mark_of_the_connection_keeps_both(uplinks: Uplinks) -> None:
    """As scripts do that mark connections for traffic control: the whole mark, there and back."""
    uplinks.mangle("-A", "PREROUTING", "-j", "CONNMARK", "--restore-mark")
    uplinks.mangle(
        "-A", "PREROUTING", "-m", "mark", "--mark", "0x0", "-j", "MARK", "--set-mark", "9"
    )
    uplinks.mangle("-A", "PREROUTING", "-j", "CONNMARK", "--save-mark")
    uplinks.mangle("-A", "POSTROUTING", "-j", "CONNMARK", "--save-mark")
    uplinks.mangle("-A", "POSTROUTING", "-m", "mark", "!", "--mark", "0x9")
    uplinks.start()
    assert uplinks.connect(6).by_backend == _EVENLY
    assert uplinks.topology.connect(6).by_backend == _EVENLY


@pytest.mark.parametrize("bind", ["*", "uplink2"])
def test_binds_of_any_address_and_interface_are_answered_too(uplinks: Uplinks, bind: str) -> None:
    """By a rule for the network that the address is in, and a narrower one that is for nobody."""
    plan = uplinks.topology.addresses
    uplinks.ip("rule", "del", "from", uplinks.plan.address)
    uplinks.add_rule("from", uplinks.plan.network)
    uplinks.add_rule("from", uplinks.plan.router3, priority=900, table=9)
    uplinks.start(binds=(f"{bind}:{plan.bind_port}",))
    assert len(uplinks.own_rules()) == 3
    assert uplinks.connect(6).by_backend == _EVENLY


def test_backends_that_see_the_client_are_answered_for_too(uplinks: Uplinks) -> None:
    """With `privateip: keep`, where answers come to this host on their way to the client."""
    plan = uplinks.topology.addresses
    for host in BACKENDS:
        uplinks.topology.lab.add_route(host, "default", plan.privateip)
    uplinks.start(privateip="keep")
    results = uplinks.connect(6)
    assert results.by_backend == _EVENLY
    assert results.peers == {uplinks.plan.far}


@pytest.mark.parametrize("privateip", ["", "keep"], ids=["privateip", "keep"])
def test_a_backend_on_the_balancer_is_answered_for_too(uplinks: Uplinks, privateip: str) -> None:
    """Its answers are not forwarded: they leave this host as those of a program of its own."""
    topology, plan = uplinks.topology, uplinks.topology.addresses
    own = plan.endpoint(plan.privateip, plan.backend_port)
    topology.servers["own"] = start_backend(topology.lab, BALANCER, listen=own, name="own")
    binds = (plan.bind_endpoint, uplinks.bind)
    config = plan.make_config([own], binds=binds, privateip=privateip)
    done = topology.balancer.paraglider("start", config=config)
    assert done.returncode == 0, done.stderr
    assert uplinks.connect(3).by_backend == {"own": 3}
    assert topology.connect(3).by_backend == {"own": 3}


def test_datagrams_are_answered_by_the_same_uplink(uplinks: Uplinks) -> None:
    """What holds for TCP holds for UDP."""
    topology = uplinks.topology
    for host, endpoint in zip(BACKENDS, topology.addresses.backend_endpoints, strict=True):
        serve_datagrams(topology.lab, host, listen=endpoint, name=host)
    uplinks.start("protocol: udp")
    assert send_from(topology.lab, FAR, to=uplinks.bind, count=6).by_backend == _EVENLY


def test_a_narrow_uplink_is_told_to_the_backend(uplinks: Uplinks) -> None:
    """A megabyte comes back by a way of 1,300 bytes behind the second uplink's router: its error
    about an answer that is too big finds the backend."""
    topology, plan = uplinks.topology, uplinks.topology.addresses
    for host in (ROUTER2, FAR):
        topology.lab.run(host, ["ip", "link", "set", "far", "mtu", "1300"])
    uplinks.start()
    host, port = uplinks.plan.address, plan.bind_port
    program = (
        "from paraglider.lab.transfer import transfer\n"
        f"sent, came = transfer({host!r}, {port}, size=1 << 20, timeout_s=20.0)\n"
        "assert sent == came\n"
    )
    topology.lab.run(FAR, ["python3", "-c", program])


@_ONLY_IPV4
@pytest.mark.parametrize("is_validated", [False, True], ids=["plain", "src_valid_mark"])
def test_a_strict_filter_of_sources_lets_answers_pass(
    uplinks: Uplinks, *, is_validated: bool
) -> None:
    """Also where it looks at the mark, as wg-quick lets it."""
    lab = uplinks.topology.lab
    lab.set_sysctl(BALANCER, "net.ipv4.conf.all.rp_filter", "1")
    lab.set_sysctl(BALANCER, "net.ipv4.conf.backends.rp_filter", "1")
    lab.set_sysctl(BALANCER, "net.ipv4.conf.uplink2.rp_filter", "2")
    lab.set_sysctl(BALANCER, "net.ipv4.conf.all.src_valid_mark", str(int(is_validated)))
    uplinks.start()
    assert uplinks.connect(6).by_backend == _EVENLY


@_ONLY_IPV4
@_ONLY_NFT
def test_an_agent_sees_a_filter_of_sources_that_comes_later(topology: Topology) -> None:
    """As wg-quick does it: policy rules first, then the settings."""
    uplinks, lab = add_uplink(topology), topology.lab
    agent = _start_agent(uplinks)
    uplinks.add_rule("fwmark", "0x7", priority=700, table=7)
    lab.set_sysctl(BALANCER, "net.ipv4.conf.all.src_valid_mark", "1")
    lab.set_sysctl(BALANCER, "net.ipv4.conf.backends.rp_filter", "1")
    until(uplinks.is_served, what="connections pass", within_s=_WITHIN_S)
    assert any("suppress_prefixlength 0" in rule for rule in uplinks.own_rules())
    agent.order("stop")
    assert uplinks.own_rules() == []


@_ONLY_IPV4
@_ONLY_NFT
def test_net_admin_is_enough(uplinks: Uplinks) -> None:
    """As in a container under `--cap-drop=ALL --cap-add=NET_ADMIN`."""
    caps = ("--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")
    done = start_within(uplinks.topology, "setpriv", *caps, config=uplinks.config())
    assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr
    assert uplinks.connect(6).by_backend == _EVENLY


@_ONLY_IPV4
@_ONLY_NFT
def test_what_cannot_be_followed_is_a_warning(uplinks: Uplinks) -> None:
    """A rule that goes by the port of the host's own program, and one that uses our bits."""
    balancer = uplinks.topology.balancer
    uplinks.add_rule("from", uplinks.plan.address, "ipproto", "tcp", "sport", "80", priority=800)
    done = balancer.paraglider("check", config=uplinks.config())
    assert "do not follow ip rule 800: from 203.0.113.2: it goes by sport" in done.stderr
    agent = _start_agent(uplinks)
    uplinks.add_rule("fwmark", "0x21000000", priority=700)
    agent.until("it uses bits of the mark that Paraglider uses (0x3f000000)")
    until(lambda: not uplinks.own_rules(), what="no policy rule is left", within_s=_WITHIN_S)
    status = json.loads(balancer.paraglider("status", "--json").stdout)
    assert status["answer_tables"] == {}
    assert {finding["code"] for finding in status["findings"]} == {"policy-rule"}
    uplinks.ip("rule", "del", "priority", "700")
    agent.until("resolved: all: answers of balanced connections do not follow ip rule 700")
