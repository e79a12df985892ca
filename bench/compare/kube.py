"""The rules that kube-proxy's iptables mode has for one service with three endpoints.

Written by hand after what it makes: chains, order, matches and comments, with `--random-fully` as
it has it. The service is the balancer's own address here, reached from outside of the cluster, so
that its connections are marked and masqueraded. One service is the least that there can be: every
further one is a rule more that the first packet of each connection meets.
"""

from __future__ import annotations

from bench.compare.stage import BACKEND_ADDRESSES, BACKEND_PORT, BIND_ADDRESS, BIND_PORT

_SERVICE = f'-d {BIND_ADDRESS}/32 -p tcp -m comment --comment "bench/web cluster IP" -m tcp'
# Of no host here: every client is outside.
_CLUSTER = "10.244.0.0/16"

_NAT_HEAD = f"""\
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-WEB - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "requires SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES {_SERVICE} --dport {BIND_PORT} -j KUBE-SVC-WEB
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-WEB ! -s {_CLUSTER} {_SERVICE} --dport {BIND_PORT} -j KUBE-MARK-MASQ
"""

_FILTER = """\
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT \
-j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def render_kube_rules() -> str:
    """Return the input of iptables-restore."""
    lines = []
    for number, address in enumerate(BACKEND_ADDRESSES):
        chain = f"KUBE-SEP-{number}"
        comment = f'-m comment --comment "bench/web -> {address}:{BACKEND_PORT}"'
        left = len(BACKEND_ADDRESSES) - number
        chance = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
        lines += [
            f":{chain} - [0:0]",
            f"-A KUBE-SVC-WEB {comment}{chance} -j {chain}",
            f"-A {chain} -s {address}/32 {comment} -j KUBE-MARK-MASQ",
            f"-A {chain} -p tcp {comment} -m tcp -j DNAT --to-destination {address}:{BACKEND_PORT}",
        ]
    return "\n".join([_NAT_HEAD.rstrip(), *lines, "COMMIT", _FILTER])
