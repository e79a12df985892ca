"""The packet walker: an imaginary packet through planned rules, without a kernel.

It knows what the kernel does with our rules and no more: a first packet walks nat, later ones only
filter; every nth counter lives in its rule. A rule that it does not understand is an error, so that
a new kind of rule cannot pass unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from ipaddress import ip_address, ip_network

from paraglider.config.model import Address, Endpoint, HashKey, Ports, Protocol
from paraglider.rules.ruleset import (
    CERTAIN,
    Chance,
    CtState,
    Dnat,
    Forget,
    Hmark,
    Jump,
    Mark,
    Marking,
    Masquerade,
    Network,
    Recent,
    Remember,
    Rule,
    Ruleset,
    Snat,
    TableName,
    TcpReset,
    Unreachable,
    Verdict,
)


@dataclass(frozen=True)
class Packet:
    """A packet of a TCP connection, or an ICMP error about one; `original` is what the connection
    was first sent to, None if untracked; `mark` is its own, `kept_mark` that of its connection."""

    source: Endpoint
    destination: Endpoint
    is_syn: bool = True
    is_invalid: bool = False
    is_translated: bool = False
    is_error: bool = False
    protocol: Protocol = Protocol.TCP
    interface: str = ""
    original: Endpoint | None = None
    mark: int = 0
    kept_mark: int = 0


@dataclass(frozen=True)
class Outcome:
    """Where a packet ended: `verdict` is ACCEPT, DROP or RESET."""

    verdict: str
    packet: Packet


@dataclass
class Walker:
    """A host with `local` addresses and the rules of `ruleset`. `forward_policy` (Docker sets DROP)
    and `input_policy` are what becomes of packets that no rule decides about. `met` counts the
    rules that it came by; `clients` are those in each set."""

    ruleset: Ruleset
    local: Sequence[str]
    forward_policy: str = "DROP"
    input_policy: str = "ACCEPT"
    random: Callable[[], float] = lambda: 1.0
    met: int = 0
    clients: dict[str, set[Address]] = field(default_factory=dict)
    _had: dict[object, int] = field(default_factory=dict)
    _marks: set[str] = field(default_factory=set)
    _counts: dict[tuple[str, int], int] = field(default_factory=dict)

    def send(self, packet: Packet) -> Outcome:
        """Walk a packet that arrives on the wire."""
        if packet.is_syn and not packet.is_invalid:
            packet = replace(packet, original=packet.destination)
            packet = self._walk(TableName.NAT, "PREROUTING", packet).packet
        is_local = self._is_local(packet.destination)
        builtin = "INPUT" if is_local else "FORWARD"
        policy = self.input_policy if is_local else self.forward_policy
        outcome = self._walk(TableName.FILTER, builtin, packet)
        if outcome.verdict == "NONE":
            outcome = Outcome(policy, outcome.packet)
        if outcome.verdict != "ACCEPT" or not packet.is_syn:
            return outcome
        last = "INPUT" if is_local else "POSTROUTING"
        sent = self._walk(TableName.NAT, last, outcome.packet)
        return Outcome("ACCEPT", sent.packet)

    def _walk(self, table: TableName, builtin: str, packet: Packet) -> Outcome:
        for hook in self.ruleset.table(table).hooks:
            if hook.builtin == builtin:
                return self._chain(table, hook.chain, packet)
        return Outcome("NONE", packet)

    def _chain(self, table: TableName, name: str, packet: Packet) -> Outcome:
        chain = next(c for c in self.ruleset.table(table).chains if c.name == name)
        for index, rule in enumerate(chain.rules):
            self.met += 1
            if not self._matches(rule, packet, (name, index)):
                continue
            match rule.target:
                case Hmark() | Marking():
                    packet = _remarked(rule.target, packet)
                case Remember(name) | Forget(name):
                    known = self.clients.setdefault(name, set()) - {packet.source.address}
                    is_put = isinstance(rule.target, Remember)
                    self.clients[name] = known | ({packet.source.address} if is_put else set())
                case Jump(into):
                    outcome = self._chain(table, into, packet)
                    if outcome.verdict != "NONE":
                        return outcome
                case Dnat(to, base):
                    to = _port_of(to, base, packet.destination.port)
                    return Outcome("ACCEPT", replace(packet, destination=to, is_translated=True))
                case Snat(to):
                    return Outcome("ACCEPT", replace(packet, source=Endpoint(to, 40000)))
                case Masquerade():
                    own = Endpoint(ip_address(self.local[-1]), 40000)
                    return Outcome("ACCEPT", replace(packet, source=own))
                case TcpReset() | Unreachable():
                    return Outcome("RESET", packet)
                case Verdict.RETURN:
                    return Outcome("NONE", packet)
                case Verdict():
                    return Outcome(rule.target.value, packet)
        return Outcome("NONE", packet)

    def _matches(self, rule: Rule, packet: Packet, key: tuple[str, int]) -> bool:
        return (
            not (rule.protocol and (packet.is_error or rule.protocol is not packet.protocol))
            and rule.ct_protocol in (None, packet.protocol)
            and rule.interface in ("", packet.interface)
            and _is_in(rule.source, rule.source_ports, packet.source)
            and _is_in(rule.destination, rule.destination_ports, packet.destination)
            and not (
                rule.not_destination and _is_in(rule.not_destination, None, packet.destination)
            )
            and (not rule.is_from_host or self._is_local(packet.source))
            and (not rule.is_to_host or self._is_local(packet.destination))
            and self._is_too_much(rule, packet)
            and _in_state(rule.ct_state, packet)
            and _is_in(rule.ct_address, rule.ct_ports, packet.original)
            and self._is_chosen(rule, key)
            and self._is_marked(rule.recent)
            and _has_mark(rule.mark, packet)
            and self._is_known(rule.client_set, packet)
        )

    def _is_known(self, name: str, packet: Packet) -> bool:
        return not name or packet.source.address in self.clients.get(name, ())

    def _is_local(self, endpoint: Endpoint) -> bool:
        return any(endpoint.address == ip_address(a) for a in self.local)

    def _is_too_much(self, rule: Rule, packet: Packet) -> bool:
        """Whether a client, none of whose connections ends, has had more than it may."""
        limit = rule.too_often.rate.count if rule.too_often else None
        limit = rule.too_many.most if rule.too_many else limit
        if limit is None:
            return True
        key = (rule, packet.source.address)
        self._had[key] = self._had.get(key, 0) + 1
        return self._had[key] > limit

    def begin_anew(self) -> None:
        """Forget all counters, as legacy does when anybody changes the table."""
        self._counts.clear()

    def _is_marked(self, recent: Recent | None) -> bool:
        if recent is None or recent.name in self._marks:
            return True
        if recent.is_set:
            self._marks.add(recent.name)
        return recent.is_set

    def _is_chosen(self, rule: Rule, key: tuple[str, int]) -> bool:
        statistic = rule.statistic
        if statistic is None:
            return True
        if isinstance(statistic, Chance):
            return self.random() < statistic.of_certain / CERTAIN
        # net/netfilter/xt_statistic.c: it matches when the count comes round to 0.
        count = self._counts.get(key, statistic.every - 1 - statistic.packet)
        self._counts[key] = following = 0 if count == statistic.every - 1 else count + 1
        return following == 0


def _is_in(address: Address | Network | None, ports: Ports | None, found: Endpoint | None) -> bool:
    if address is None and ports is None:
        return True
    return (
        found is not None
        and (address is None or ip_network(address).supernet_of(ip_network(found.address)))  # type: ignore[arg-type]
        and (ports is None or ports.first <= found.port <= ports.last)
    )


def _port_of(to: Endpoint, base: int, port: int) -> Endpoint:
    if to.last_port:
        return Endpoint(to.address, to.port + port - base)
    return Endpoint(to.address, to.port or port)


def _has_mark(wanted: Mark | None, packet: Packet) -> bool:
    return wanted is None or wanted.is_not is not (packet.mark & wanted.mask == wanted.value)


def hash_of(target: Hmark, client: Endpoint) -> int:
    """Return the mark that a client gets; not the kernel's hash, but one."""
    port = client.port if target.key is HashKey.SOURCE_PORT else 0
    digest = blake2b(f"{client.address} {port}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) % target.slots + target.offset


def _remarked(target: Hmark | Marking, packet: Packet) -> Packet:
    match target:
        case Hmark():
            return replace(packet, mark=hash_of(target, packet.source))
        case Marking.SAVE:
            return replace(packet, kept_mark=packet.mark)
        case Marking.RESTORE:
            return replace(packet, mark=packet.kept_mark)
        case Marking.CLEAR:
            return replace(packet, mark=0)


def _in_state(wanted: CtState | None, packet: Packet) -> bool:
    match wanted:
        case None:
            return True
        case CtState.INVALID:
            return packet.is_invalid
        case CtState.NEW:
            return packet.is_syn and not packet.is_invalid
        case CtState.DNAT:
            return packet.is_translated and not packet.is_invalid
