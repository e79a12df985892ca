"""A second uplink for the balancer of a topology: a router there, and a client behind it.

    client ── clients (the first uplink, default route) ── balancer ── backends
    far client ── far ── router2 ── uplink2 ── balancer

The balancer has the set-up that is usual for two uplinks: ``ip rule from ADDRESS2 lookup 2``, and
in table 2 a default route through the second. The router of the first uplink knows no way to the
far client.
"""

from __future__ import annotations

from dataclasses import dataclass

from paraglider.lab.actors import HeldConnections, connect_from, start_backend
from paraglider.lab.results import Results
from tests.netns.harness import BALANCER, Topology

FAR, ROUTER1, ROUTER2, ROUTER3 = "far", "router1", "router2", "router3"
# Of rules that are Paraglider's: ip-rule(8) prints it at the end.
_OWN = "proto 80"
TABLE = 2


@dataclass(frozen=True, slots=True)
class UplinkPlan:
    """The addresses of one family: of the first router, of the network of the second uplink, and of
    the network behind it."""

    router1: str
    address: str
    router2: str
    router3: str
    near_far: str
    other_far: str
    far: str
    network: str
    prefix: int


_PLANS = {
    4: UplinkPlan(
        router1="166.1.101.1",
        address="203.0.113.2",
        router2="203.0.113.1",
        router3="203.0.113.3",
        near_far="198.51.100.1",
        other_far="198.51.100.3",
        far="198.51.100.10",
        network="203.0.113.0/24",
        prefix=24,
    ),
    6: UplinkPlan(
        router1="fd66:101::1",
        address="fd20:113::2",
        router2="fd20:113::1",
        router3="fd20:113::3",
        near_far="fd19:51::1",
        other_far="fd19:51::3",
        far="fd19:51::10",
        network="fd20:113::/64",
        prefix=64,
    ),
}


@dataclass(frozen=True, slots=True)
class Uplinks:
    """A topology with two uplinks."""

    topology: Topology
    plan: UplinkPlan

    @property
    def bind(self) -> str:
        """ADDRESS:PORT of the second uplink that far clients connect to."""
        plan = self.topology.addresses
        return plan.endpoint(self.plan.address, plan.bind_port)

    def config(self, *more: str, binds: tuple[str, ...] = (), privateip: str = "") -> str:
        """Return a configuration with a bind at each uplink, or at `binds`."""
        plan = self.topology.addresses
        binds = binds or (plan.bind_endpoint, self.bind)
        return plan.make_config(plan.backend_endpoints, *more, binds=binds, privateip=privateip)

    def start(self, *more: str, binds: tuple[str, ...] = (), privateip: str = "") -> None:
        """Run ``paraglider start`` with such a configuration."""
        config = self.config(*more, binds=binds, privateip=privateip)
        done = self.topology.balancer.paraglider("start", config=config)
        assert done.returncode == 0, done.stderr

    def connect(self, count: int = 3, *, timeout_s: float = 5.0) -> Results:
        """Connect from the far client."""
        lab = self.topology.lab
        return connect_from(lab, FAR, to=self.bind, count=count, timeout_s=timeout_s)

    def is_served(self) -> bool:
        """Return whether one connection from the far client is answered."""
        return bool(self.connect(1, timeout_s=1.0).answers)

    def hold(self, count: int = 30) -> HeldConnections:
        """Open connections from the far client that stay and keep talking."""
        return HeldConnections(self.topology.lab, FAR, to=self.bind, count=count)

    def ip(self, *arguments: str) -> str:
        """Run ``ip -4`` or ``-6`` on the balancer; return what it said."""
        family = f"-{self.topology.addresses.version}"
        return self.topology.lab.run(BALANCER, ["ip", family, *arguments]).stdout

    def rules(self) -> list[str]:
        """Return the balancer's policy rules, as ``ip rule`` prints them."""
        return [" ".join(line.split()) for line in self.ip("rule", "list").splitlines()]

    def own_rules(self) -> list[str]:
        """Return those of them that are Paraglider's."""
        return [rule for rule in self.rules() if rule.endswith(_OWN)]

    def add_rule(self, *selectors: str, priority: int = 1000, table: int = TABLE) -> None:
        """Let what comes from the second uplink's address, or has other `selectors`, use it."""
        words = selectors or ("from", self.plan.address)
        self.ip("rule", "add", *words, "priority", str(priority), "table", str(table))

    def mangle(self, *rule: str) -> None:
        """Add a rule of somebody else's to the mangle table."""
        self.topology.balancer.iptables("-t", "mangle", *rule)

    def count(self, chain: str, *, words: str) -> int:
        """Return how many packets have met the first rule with `words` in a chain of mangle."""
        listed = self.topology.balancer.iptables("-t", "mangle", "-vS", chain)
        line = next(line for line in listed.splitlines() if words in line)
        return int(line.split(" -c ")[1].split()[0])

    def add_router3(self) -> None:
        """Put another router between the second uplink and the far client."""
        lab, plan = self.topology.lab, self.plan
        lab.add_host(ROUTER3)
        lab.attach("uplink2", ROUTER3, f"{plan.router3}/{plan.prefix}")
        lab.attach("far", ROUTER3, f"{plan.other_far}/{plan.prefix}")
        _forward(self.topology, ROUTER3)

    def break_router2(self) -> None:
        """Let the first router there lose what it should pass on to the far client."""
        family = "6" if self.topology.addresses.version == 6 else ""
        argv = [f"ip{family}tables-nft", "-A", "FORWARD", "-o", "far", "-j", "DROP"]
        self.topology.lab.run(ROUTER2, argv)


def add_uplink(topology: Topology, *, has_rule: bool = True) -> Uplinks:
    """Give the balancer of `topology` a second uplink, and routers on both."""
    lab, plan = topology.lab, _PLANS[topology.addresses.version]
    for host in (FAR, ROUTER1, ROUTER2):
        lab.add_host(host)
    prefix = plan.prefix
    lab.attach("clients", ROUTER1, f"{plan.router1}/{topology.addresses.clients_prefix}")
    members = {BALANCER: plan.address, ROUTER2: plan.router2}
    lab.add_network("uplink2", {host: f"{it}/{prefix}" for host, it in members.items()})
    lab.add_network("far", {ROUTER2: f"{plan.near_far}/{prefix}", FAR: f"{plan.far}/{prefix}"})
    _forward(topology, ROUTER2)
    lab.add_route(FAR, "default", plan.near_far)
    uplinks = Uplinks(topology, plan)
    uplinks.ip("route", "add", "default", "via", plan.router1)
    uplinks.ip("route", "add", "default", "via", plan.router2, "table", str(TABLE))
    if has_rule:
        uplinks.add_rule()
    return uplinks


def _forward(topology: Topology, host: str) -> None:
    is_ipv6 = topology.addresses.version == 6
    setting = "ipv6.conf.all.forwarding" if is_ipv6 else "ipv4.ip_forward"
    topology.lab.set_sysctl(host, f"net.{setting}", "1")


def serve_on_balancer(uplinks: Uplinks, port: int) -> str:
    """Start a program on the balancer itself, at the second uplink; return where it listens."""
    topology = uplinks.topology
    listen = topology.addresses.endpoint(uplinks.plan.address, port)
    topology.servers["own"] = start_backend(topology.lab, BALANCER, listen=listen, name="own")
    return listen
