"""Rules of other programs as cases: what keeps connections from passing, and what does not.

Firewalls of distributions, Docker and Kubernetes are written as their programs write them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Commands of a shell on the balancer, and the code of what they break, '' for nothing."""

    name: str
    commands: str
    code: str = ""
    is_source_alone: bool = False

    def __str__(self) -> str:
        return self.name


def nft(rules: str) -> str:
    """Return the command that loads `rules`."""
    return f"nft -f - <<'X'\n{rules}\nX"


def table(hook: str, *rules: str, policy: str = "accept", priority: str = "0") -> str:
    """Return the command that loads a table with a chain at `hook`."""
    lines = "\n".join(rules)
    head = f"type filter hook {hook} priority {priority}; policy {policy};"
    return nft(
        f"table inet fw {{\nchain sub {{\ndrop\n}}\nchain refused {{\n}}\n"
        f"chain {hook} {{\n{head}\n{lines}\n}}\n}}"
    )


STATEFUL = "ct state established,related accept"


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
    return nft(text)


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
    Case("policy", table("forward", STATEFUL, policy="drop"), "forward-drop"),
    Case("drop-at-the-end", table("forward", STATEFUL, "drop"), "forward-drop"),
    Case("reject", table("forward", STATEFUL, "counter reject with icmpx 1"), "forward-drop"),
    Case(
        "jump",
        table("forward", "ct state vmap { established : accept }", "jump sub"),
        "forward-drop",
    ),
    Case("goto", table("forward", STATEFUL, "meta l4proto tcp goto sub"), "forward-drop"),
    Case("end-after-goto", table("forward", "goto refused", policy="drop"), "forward-drop"),
    Case("other-port-of-answers", table("forward", "tcp dport != 5555 drop"), "forward-drop"),
    Case("port", table("forward", "tcp dport { 22, 5000-6000 } drop"), "forward-drop"),
    Case("answers", table("forward", "tcp dport 5555 accept", "drop"), "forward-drop"),
    Case("interface", table("forward", 'iifname vmap { "clients" : drop }'), "forward-drop"),
    Case("uplink", table("forward", 'oifname != "clients" ct state new drop'), "forward-drop"),
    Case(
        "prerouting",
        table("prerouting", "tcp dport 4444 drop", priority="-150"),
        "prerouting-drop",
    ),
    Case(
        "raw",
        table("prerouting", "meta l4proto tcp ct state invalid drop", priority="raw"),
        "prerouting-drop",
    ),
    Case("after-dnat", table("prerouting", "tcp dport 5555 drop"), "prerouting-drop"),
    Case("postrouting", table("postrouting", "tcp dport 5555 drop"), "postrouting-drop"),
    Case("notrack", table("prerouting", "tcp dport 4444 notrack", priority="raw"), "untracked"),
    Case(
        "notrack-answers",
        table("prerouting", "tcp sport 5555 notrack", priority="raw"),
        "untracked",
    ),
    Case("zone", table("prerouting", 'iifname "clients" ct zone set 7', priority="raw"), "zone"),
    Case(
        "nat-before",
        nft(
            "table inet fw {\nchain nat {\ntype nat hook prerouting priority -110;\n"
            "tcp dport 4444 redirect to :9\n}\n}"
        ),
        "bind-taken",
    ),
    Case(
        "snat-before",
        nft(
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
    Case("firewalld", nft(_FIREWALLD)),
    Case("docker-nftables-elsewhere", _docker_of("other")),
    Case("ufw-whole", _UFW),
    Case("kube-proxy-nftables", nft(_KUBE_PROXY)),
    Case("accepts", table("forward", STATEFUL, "ct status dnat accept", policy="drop")),
    Case(
        "ufw",
        "$iptables -P FORWARD DROP; $iptables -P INPUT DROP; "
        "$iptables -A INPUT -p ipv6-icmp -j ACCEPT; $iptables -A FORWARD -j REJECT",
    ),
    Case("other-port", table("forward", "tcp dport 5556-5600 drop")),
    Case("other-interface", table("forward", 'iifname "other" drop', 'oifname "other" drop')),
    Case("other-way", table("forward", 'iifname "backends" oifname "clients" ct state new drop')),
    Case("invalid", table("forward", "ct state invalid drop")),
    Case("udp", table("forward", "meta l4proto udp drop")),
    Case("client", table("forward", "ip saddr 192.0.2.0/24 drop", "ip6 saddr 2001:db8::/32 drop")),
    Case(
        "some-clients",
        table(
            "forward",
            "ip saddr 166.1.101.0/24 accept",
            "ip6 saddr fd66:101::/64 accept",
            STATEFUL,
            policy="drop",
        ),
    ),
    Case("limit", table("forward", "limit rate over 100000/second burst 10000 packets drop")),
    Case(
        "input",
        table(
            "input", "iifname lo accept", "meta l4proto { icmp, ipv6-icmp } accept", policy="drop"
        ),
    ),
    Case("zone-both-ways", table("prerouting", "ct zone set 7", priority="raw")),
    Case(
        "nat-after",
        nft(
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
