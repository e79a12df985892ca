"""What others drop is told of with its mend, and nothing is where connections pass.

Each case breaks one thing on the balancer, and a connection is sent to be sure.
"""

from __future__ import annotations

import json
import shlex

import pytest

from paraglider.lab.actors import start_backend
from tests.netns.firewalls import BROKEN, SOUND, STATEFUL, Case, nft, table
from tests.netns.harness import BALANCER, IPV4, PARAGLIDER, Topology, Variant


def _break(topology: Topology, commands: str) -> None:
    balancer, family = topology.balancer, "6" if topology.addresses.version == 6 else ""
    other = next(v for v in Variant if v is not balancer.variant)
    names = (
        f"iptables=ip{family}tables-{balancer.variant.value}; other=ip{family}tables-{other.value}"
    )
    snat = f"snat ip{family} to {topology.addresses.privateip}"
    commands = commands.replace("SNAT", snat)
    balancer.run("sh", "-ec", f"{names}\n{commands}")


def _findings(topology: Topology) -> list[dict[str, str]]:
    status = json.loads(topology.balancer.paraglider("status", "--json").stdout)
    found: list[dict[str, str]] = status["findings"]
    return found


def _codes(topology: Topology) -> list[str]:
    return [finding["code"] for finding in _findings(topology)]


def _passes(topology: Topology) -> bool:
    return topology.connect(3, timeout_s=1.0).failures == ()


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_what_keeps_connections_from_passing_is_told_and_mended(
    topology: Topology, case: Case
) -> None:
    """`start` and `status` tell of one thing; the command that they name mends it."""
    config = topology.config
    privateip = topology.addresses.privateip
    if case.is_source_alone:
        privateip = _second_address(topology)
        config = topology.addresses.make_config(
            topology.addresses.backend_endpoints, privateip=privateip
        )
    topology.balancer.paraglider("start", config=config)
    assert _codes(topology) == []
    _break(topology, case.commands)
    assert _passes(topology) is case.is_source_alone
    assert set(_codes(topology)) == {case.code}
    said = topology.balancer.paraglider("start", config=config).stderr
    for finding in _findings(topology):
        assert finding["mend"] in said
        topology.balancer.run("sh", "-ec", finding["mend"])
    assert _codes(topology) == []
    assert _passes(topology)
    if case.is_source_alone:
        assert topology.connect(3).peers == {privateip}


_REDIRECT = nft(
    "table inet fw {\nchain nat {\ntype nat hook prerouting priority -100;\n"
    "tcp dport 4444 redirect to :9\n}\n}"
)


def test_a_nat_chain_of_the_same_priority_that_is_newer(topology: Topology) -> None:
    """The kernel leads connections to the newer of two NAT chains first. Beside iptables-legacy,
    whose age the kernel does not tell, nothing is reported."""
    topology.balancer.paraglider("start", config=topology.config)
    _break(topology, _REDIRECT)
    assert not _passes(topology)
    is_known = topology.balancer.variant is Variant.NFT
    assert _codes(topology) == (["bind-taken"] if is_known else [])
    for finding in _findings(topology):
        topology.balancer.run("sh", "-ec", finding["mend"])
        assert _passes(topology)
        assert _codes(topology) == []


@pytest.mark.parametrize("is_nat_there", [False, True], ids=["alone", "beside-iptables"])
def test_a_nat_chain_of_the_same_priority_that_is_older(
    topology: Topology, is_nat_there: bool
) -> None:
    """Ours is newer, also in a table of iptables that was there before."""
    if is_nat_there:
        _break(topology, "$iptables -t nat -A POSTROUTING -p udp -j ACCEPT")
    _break(topology, _REDIRECT)
    topology.balancer.paraglider("start", config=topology.config)
    is_sooner = _passes(topology)
    assert _codes(topology) == []
    # x_tables has all chains of a table from its beginning.
    is_legacy = topology.balancer.variant is Variant.LEGACY
    assert is_sooner is not (is_nat_there and is_legacy)


_BEFORE_START = ("policy", "prerouting", "nat-before", "iptables-mangle", "other-variant")


@pytest.mark.parametrize("case", [c for c in BROKEN if c.name in _BEFORE_START], ids=str)
def test_check_reports_the_same_before_start(topology: Topology, case: Case) -> None:
    """With the command that mends it; `--strict` makes it an error."""
    balancer, config = topology.balancer, topology.config
    assert balancer.paraglider("check", "--strict", config=config).stderr == ""
    _break(topology, case.commands)
    said = balancer.paraglider("check", config=config).stderr
    assert balancer.paraglider("check", "--strict", config=config).returncode == 78
    balancer.paraglider("start", config=config)
    assert not _passes(topology)
    for finding in _findings(topology):
        assert finding["mend"] in said
        balancer.run("sh", "-ec", finding["mend"])
    assert balancer.paraglider("check", "--strict", config=config).stderr == ""
    assert _passes(topology)


def test_check_without_rights_says_what_it_did_not_read(topology: Topology) -> None:
    """In one line, and a good file stays good."""
    _break(topology, table("forward", "drop"))
    no_admin = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    command = (*no_admin, *PARAGLIDER, "-config", "-", "check", "--strict")
    done = topology.balancer.run(*command, input=topology.config)
    assert done.stderr.splitlines() == [
        "paraglider: did not read other programs' rules: "
        "run as root, or docker run --cap-add=NET_ADMIN"
    ]


@pytest.mark.parametrize("case", SOUND, ids=str)
def test_nothing_is_told_where_connections_pass(topology: Topology, case: Case) -> None:
    """However much a firewall drops of others."""
    _break(topology, case.commands)
    topology.balancer.paraglider("start", config=topology.config)
    assert _passes(topology)
    assert _codes(topology) == []


def _second_address(topology: Topology) -> str:
    plan = topology.addresses
    address = plan.privateip.replace("4", "9") if plan.version == 6 else "172.19.0.9"
    nodad = ["nodad"] if plan.version == 6 else []
    topology.lab.run(
        BALANCER,
        ["ip", "addr", "add", f"{address}/{plan.backends_prefix}", "dev", "backends", *nodad],
    )
    return address


@pytest.mark.parametrize("interface", ["clients", "backends"])
def test_an_interface_that_does_not_forward(topology: Topology, interface: str) -> None:
    """IPv4 asks where a packet comes in, clients' and answers; IPv6 asks the host alone."""
    plan = topology.addresses
    topology.balancer.paraglider("start", config=topology.config)
    topology.lab.set_sysctl(BALANCER, f"net.ipv{plan.version}.conf.{interface}.forwarding", "0")
    is_broken = plan.version == 4
    assert _passes(topology) is not is_broken
    assert _codes(topology) == (["interface-forwarding"] if is_broken else [])
    if is_broken:
        topology.balancer.run(*shlex.split(_findings(topology)[0]["mend"]))
        assert _passes(topology)


def test_forwarding_that_is_switched_off_later(topology: Topology) -> None:
    """`status` and the metrics tell of it; before `start`, `check` does not: `start` mends it."""
    setting = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
    switch = (BALANCER, setting[topology.addresses.version], "0")
    topology.lab.set_sysctl(*switch)
    assert topology.balancer.paraglider("check", "--strict", config=topology.config).stderr == ""
    topology.balancer.paraglider("start", config=topology.config)
    assert _passes(topology)
    topology.lab.set_sysctl(*switch)
    assert not _passes(topology)
    counted = 'paraglider_findings{code="forwarding-off"} '
    assert f"{counted}1\n" in topology.balancer.paraglider("metrics").stdout
    (finding,) = _findings(topology)
    assert finding["code"] == "forwarding-off"
    topology.balancer.run(*shlex.split(finding["mend"]))
    assert _passes(topology)
    assert f"{counted}0\n" in topology.balancer.paraglider("metrics").stdout


def test_check_names_forwarding_that_start_cannot_switch_on(topology: Topology) -> None:
    """As in a container, where /proc/sys is read-only."""
    setting = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
    topology.lab.set_sysctl(BALANCER, setting[topology.addresses.version], "0")
    mounts = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
    wrapper = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")
    command = (*wrapper, *PARAGLIDER, "-config", "-", "check")
    done = topology.balancer.run(*command, input=topology.config)
    assert f"sysctl -w {setting[topology.addresses.version]}=1" in done.stderr


def test_a_privateip_that_has_left_the_host(topology: Topology) -> None:
    """Answers have no way back."""
    plan = topology.addresses
    topology.balancer.paraglider("start", config=topology.config)
    address = f"{plan.privateip}/{plan.backends_prefix}"
    topology.lab.run(
        BALANCER,
        [
            "ip",
            "addr",
            "add",
            f"{_other(plan.privateip)}/{plan.backends_prefix}",
            "dev",
            "backends",
        ],
    )
    topology.lab.run(BALANCER, ["ip", "addr", "del", address, "dev", "backends"])
    assert not _passes(topology)
    assert _codes(topology) == ["privateip-away"]


def _other(address: str) -> str:
    return f"{address[:-1]}9"


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_a_backend_on_this_host_behind_another_chain_of_input(
    topology: Topology, is_open: bool
) -> None:
    """Our accept is final in iptables' own INPUT alone."""
    plan = topology.addresses
    local = plan.endpoint(plan.privateip, 7777)
    start_backend(topology.lab, BALANCER, listen=local, name="here")
    rules = ["iifname lo accept", STATEFUL, "meta l4proto { icmp, ipv6-icmp } accept"]
    more = ["tcp dport 7777 accept"] if is_open else []
    _break(topology, table("input", *rules, *more, policy="drop"))
    topology.balancer.paraglider("start", config=plan.make_config([local]))
    assert _passes(topology) is is_open
    assert _codes(topology) == ([] if is_open else ["input-drop"])


@pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
def test_the_agent_tells_of_a_firewall_that_comes_later(topology: Topology) -> None:
    """In its log and in status, when it comes and when it has gone."""
    agent = topology.start_agent(config=topology.config + "  check: none\n")
    _break(topology, table("forward", STATEFUL, "drop"))
    assert "nft insert rule inet fw forward ct status dnat accept" in agent.until("warning: ")
    assert _codes(topology) == ["forward-drop"]
    assert "nft insert rule" in topology.balancer.paraglider("status").stdout
    _break(topology, "nft delete table inet fw")
    agent.until("resolved: ")
    assert _codes(topology) == []


@pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
@pytest.mark.parametrize("kind", ["sysctl", "legacy"])
def test_the_agent_sees_what_the_kernel_does_not_report(topology: Topology, kind: str) -> None:
    """A sysctl and a table of iptables-legacy: by its own look, within a minute."""
    agent = topology.start_agent(config=topology.config + "  check: none\n")
    setting = "sysctl -w net.ipv4.conf.clients.forwarding="
    drop = "iptables-legacy -t mangle -{} FORWARD -p tcp --dport 5555 -j DROP"
    broken, mended = {
        "sysctl": (f"{setting}0", f"{setting}1"),
        "legacy": (drop.format("A"), drop.format("D")),
    }[kind]
    assert _passes(topology)
    _break(topology, broken)
    assert not _passes(topology)
    agent.until("warning: ", timeout_s=60.0)
    _break(topology, mended)
    assert _passes(topology)
    agent.until("resolved: ", timeout_s=60.0)
