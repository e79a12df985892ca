"""What others drop is told of with its mend, and nothing is where connections pass.

Each case breaks one thing on the balancer, and a connection is sent to be sure.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

import pytest

from paraglider.lab.actors import start_backend
from tests.netns.harness import BALANCER, IPV4, PARAGLIDER, Topology, Variant


@dataclass(frozen=True)
class Case:
    """Commands of a shell on the balancer, and the code of what they break, '' for nothing."""

    name: str
    commands: str
    code: str = ""
    is_source_alone: bool = False

    def __str__(self) -> str:
        return self.name


def _nft(rules: str) -> str:
    return f"nft -f - <<'X'\n{rules}\nX"


def _table(hook: str, *rules: str, policy: str = "accept", priority: str = "0") -> str:
    lines = "\n".join(rules)
    head = f"type filter hook {hook} priority {priority}; policy {policy};"
    return _nft(
        f"table inet fw {{\nchain sub {{\ndrop\n}}\nchain refused {{\n}}\n"
        f"chain {hook} {{\n{head}\n{lines}\n}}\n}}"
    )


_STATEFUL = "ct state established,related accept"


def _docker_of(bridge: str) -> str:
    """Return what Docker makes with nftables in place of iptables (--firewall-backend=nftables) for
    a bridge of IPv4 and IPv6 with a published port."""
    jumps = f'elements = {{ "docker0" : jump NAME__docker0, "{bridge}" : jump NAME__bridge }}'
    maps = ("filter-forward-in", "filter-forward-out", "nat-postrouting-out")
    tables = (
        _DOCKER.replace("FAMILY", family).replace("ANY", any_).replace("BRIDGE", bridge)
        for family, any_ in (("ip", "192.0.2.2"), ("ip6", "2001:db8::2"))
    )
    text = "\n".join(tables)
    for name in maps:
        text = text.replace(f"ELEMENTS {name}", jumps.replace("NAME", name))
    return _nft(text)


_DOCKER = """\
table FAMILY docker-bridges {
  map filter-forward-in-jumps { type ifname : verdict; ELEMENTS filter-forward-in; }
  map filter-forward-out-jumps { type ifname : verdict; ELEMENTS filter-forward-out; }
  map nat-postrouting-out-jumps { type ifname : verdict; ELEMENTS nat-postrouting-out; }
  chain filter-FORWARD {
    type filter hook forward priority filter; policy accept;
    oifname vmap @filter-forward-in-jumps
    iifname vmap @filter-forward-out-jumps
  }
  chain nat-POSTROUTING {
    type nat hook postrouting priority srcnat; policy accept;
    iifname vmap @nat-postrouting-out-jumps
  }
  chain nat-PREROUTING {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local counter jump nat-prerouting-and-output
  }
  chain nat-prerouting-and-output {
    iifname != "BRIDGE" tcp dport 8080 counter dnat to ANY
  }
  chain raw-PREROUTING {
    type filter hook prerouting priority raw; policy accept;
    FAMILY daddr ANY iifname != "BRIDGE" counter drop
  }
  chain filter-forward-in__docker0 { counter drop; }
  chain filter-forward-out__docker0 { counter accept; }
  chain nat-postrouting-out__docker0 { oifname != "docker0" FAMILY saddr ANY counter masquerade; }
  chain filter-forward-in__bridge {
    ct state established,related counter accept
    iifname "BRIDGE" counter accept
    FAMILY daddr ANY tcp dport 80 counter accept
    counter drop
  }
  chain filter-forward-out__bridge {
    ct state established,related counter accept
    counter accept
  }
  chain nat-postrouting-out__bridge { oifname != "BRIDGE" FAMILY saddr ANY counter masquerade; }
}
"""

BROKEN = [
    Case("policy", _table("forward", _STATEFUL, policy="drop"), "forward-drop"),
    Case("drop-at-the-end", _table("forward", _STATEFUL, "drop"), "forward-drop"),
    Case("reject", _table("forward", _STATEFUL, "counter reject with icmpx 1"), "forward-drop"),
    Case(
        "jump",
        _table("forward", "ct state vmap { established : accept }", "jump sub"),
        "forward-drop",
    ),
    Case("goto", _table("forward", _STATEFUL, "meta l4proto tcp goto sub"), "forward-drop"),
    Case("end-after-goto", _table("forward", "goto refused", policy="drop"), "forward-drop"),
    Case("other-port-of-answers", _table("forward", "tcp dport != 5555 drop"), "forward-drop"),
    Case("port", _table("forward", "tcp dport { 22, 5000-6000 } drop"), "forward-drop"),
    Case("answers", _table("forward", "tcp dport 5555 accept", "drop"), "forward-drop"),
    Case("interface", _table("forward", 'iifname vmap { "clients" : drop }'), "forward-drop"),
    Case("uplink", _table("forward", 'oifname != "clients" ct state new drop'), "forward-drop"),
    Case(
        "prerouting",
        _table("prerouting", "tcp dport 4444 drop", priority="-150"),
        "prerouting-drop",
    ),
    Case(
        "raw",
        _table("prerouting", "meta l4proto tcp ct state invalid drop", priority="raw"),
        "prerouting-drop",
    ),
    Case("after-dnat", _table("prerouting", "tcp dport 5555 drop"), "prerouting-drop"),
    Case("postrouting", _table("postrouting", "tcp dport 5555 drop"), "postrouting-drop"),
    Case("notrack", _table("prerouting", "tcp dport 4444 notrack", priority="raw"), "untracked"),
    Case(
        "notrack-answers",
        _table("prerouting", "tcp sport 5555 notrack", priority="raw"),
        "untracked",
    ),
    Case("zone", _table("prerouting", 'iifname "clients" ct zone set 7', priority="raw"), "zone"),
    Case(
        "nat-before",
        _nft(
            "table inet fw {\nchain nat {\ntype nat hook prerouting priority -110;\n"
            "tcp dport 4444 redirect to :9\n}\n}"
        ),
        "bind-taken",
    ),
    Case(
        "snat-before",
        _nft(
            "table inet fw {\nchain nat {\ntype nat hook postrouting priority 90;\n"
            'oifname "backends" SNAT\n}\n}'
        ),
        "source-taken",
        is_source_alone=True,
    ),
    Case(
        "iptables-mangle",
        "$iptables -t mangle -A FORWARD -p tcp --dport 5555 -j DROP",
        "forward-drop",
    ),
    Case(
        "iptables-raw",
        "$iptables -t raw -A PREROUTING -p tcp --dport 4444 -j DROP",
        "prerouting-drop",
    ),
    Case(
        "iptables-notrack",
        "$iptables -t raw -A PREROUTING -p tcp --dport 4444 -j CT --notrack",
        "untracked",
    ),
    Case("other-variant", "$other -P FORWARD DROP", "forward-drop"),
    Case("docker-nftables", _docker_of("backends"), "forward-drop"),
    Case(
        "other-variant-chain",
        "$other -N fw; $other -A FORWARD -j fw; $other -A fw -m conntrack --ctstate "
        "ESTABLISHED -j ACCEPT; $other -A fw -p tcp -m multiport --dports 1,5555 -j REJECT",
        "forward-drop",
    ),
]
_FIREWALLD = """\
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump policies
    reject with icmpx admin-prohibited
  }
  chain policies {
    iifname "clients" goto public
    drop
  }
  chain public {
    reject
  }
}
"""
# What ufw makes with its default policies and a rule for port 22: chains, and DROP in FORWARD.
_UFW = """\
$iptables -P INPUT DROP; $iptables -P FORWARD DROP
for hook in INPUT FORWARD OUTPUT; do
  lower=$(echo $hook | tr A-Z a-z)
  for part in before-logging before after after-logging reject track; do
    $iptables -N ufw-$part-$lower; $iptables -A $hook -j ufw-$part-$lower
  done
  $iptables -N ufw-user-$lower; $iptables -A ufw-before-$lower -j ufw-user-$lower
  $iptables -A ufw-before-$lower -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done
for name in ufw-skip-to-policy-input ufw-skip-to-policy-forward; do
  $iptables -N $name; $iptables -A $name -j DROP
done
$iptables -N ufw-logging-deny
$iptables -A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
$iptables -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
$iptables -A ufw-before-input -p ipv6-icmp -j ACCEPT
$iptables -A ufw-after-input -p udp --dport 137 -j ufw-skip-to-policy-input
$iptables -A ufw-user-input -p tcp --dport 22 -j ACCEPT
$iptables -A ufw-track-output -p tcp -m conntrack --ctstate NEW -j ACCEPT
"""
# What kube-proxy makes with --proxy-mode=nftables for one service with and one without endpoints.
_KUBE_PROXY = """\
table ip kube-proxy {
  set cluster-ips { type ipv4_addr; elements = { 10.96.0.1, 10.96.0.10 }; }
  set nodeport-ips { type ipv4_addr; elements = { 192.0.2.7 }; }
  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.1 . tcp . 443 : goto service-one }
  }
  map service-nodeports {
    type inet_proto . inet_service : verdict
    elements = { tcp . 30080 : goto service-one }
  }
  map no-endpoint-services {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . tcp . 53 : goto reject-chain }
  }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  chain filter-prerouting {
    type filter hook prerouting priority -110; policy accept;
    ct state new jump firewall-check
  }
  chain filter-forward {
    type filter hook forward priority -110; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority -110; policy accept;
    ct state new jump service-endpoints-check
  }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain service-endpoints-check {
    ip daddr . meta l4proto . th dport vmap @no-endpoint-services
    ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
  }
  chain cluster-ips-check {
    ip daddr @cluster-ips reject
    ip daddr 10.96.0.0/12 drop
  }
  chain reject-chain { reject; }
  chain mark-for-masquerade { meta mark set mark or 0x4000; }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain service-one {
    ip saddr != 10.244.0.0/16 jump mark-for-masquerade
    meta l4proto tcp dnat to 10.244.0.2:6443
  }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    jump masquerading
  }
  chain masquerading {
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
}
"""
SOUND = [
    Case("nothing", "true"),
    Case("firewalld", _nft(_FIREWALLD)),
    Case("docker-nftables-elsewhere", _docker_of("other")),
    Case("ufw-whole", _UFW),
    Case("kube-proxy-nftables", _nft(_KUBE_PROXY)),
    Case("accepts", _table("forward", _STATEFUL, "ct status dnat accept", policy="drop")),
    Case(
        "ufw",
        "$iptables -P FORWARD DROP; $iptables -P INPUT DROP; "
        "$iptables -A INPUT -p ipv6-icmp -j ACCEPT; $iptables -A FORWARD -j REJECT",
    ),
    Case("other-port", _table("forward", "tcp dport 5556-5600 drop")),
    Case("other-interface", _table("forward", 'iifname "other" drop', 'oifname "other" drop')),
    Case("other-way", _table("forward", 'iifname "backends" oifname "clients" ct state new drop')),
    Case("invalid", _table("forward", "ct state invalid drop")),
    Case("udp", _table("forward", "meta l4proto udp drop")),
    Case("client", _table("forward", "ip saddr 192.0.2.0/24 drop", "ip6 saddr 2001:db8::/32 drop")),
    Case(
        "some-clients",
        _table(
            "forward",
            "ip saddr 166.1.101.0/24 accept",
            "ip6 saddr fd66:101::/64 accept",
            _STATEFUL,
            policy="drop",
        ),
    ),
    Case("limit", _table("forward", "limit rate over 100000/second burst 10000 packets drop")),
    Case(
        "input",
        _table(
            "input", "iifname lo accept", "meta l4proto { icmp, ipv6-icmp } accept", policy="drop"
        ),
    ),
    Case("zone-both-ways", _table("prerouting", "ct zone set 7", priority="raw")),
    Case(
        "nat-after",
        _nft(
            "table inet fw {\nchain nat {\ntype nat hook prerouting priority -90;\n"
            "tcp dport 4444 redirect to :9\n}\nchain out {\n"
            "type nat hook postrouting priority 110;\nmasquerade\n}\n}"
        ),
    ),
    Case(
        "other-variant-established",
        "$other -P FORWARD DROP; $other -A FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
    ),
]


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


_REDIRECT = _nft(
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
    _break(topology, _table("forward", "drop"))
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
    rules = ["iifname lo accept", _STATEFUL, "meta l4proto { icmp, ipv6-icmp } accept"]
    more = ["tcp dport 7777 accept"] if is_open else []
    _break(topology, _table("input", *rules, *more, policy="drop"))
    topology.balancer.paraglider("start", config=plan.make_config([local]))
    assert _passes(topology) is is_open
    assert _codes(topology) == ([] if is_open else ["input-drop"])


@pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
def test_the_agent_tells_of_a_firewall_that_comes_later(topology: Topology) -> None:
    """In its log and in status, when it comes and when it has gone."""
    agent = topology.start_agent(config=topology.config + "  check: none\n")
    _break(topology, _table("forward", _STATEFUL, "drop"))
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
