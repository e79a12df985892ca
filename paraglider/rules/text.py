"""Rule text: one rule as iptables-save prints it, and back.

Owns our grammar, the only sentences that Paraglider says to iptables-restore:

    -A PARAGLIDER-DNAT -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j PARAGLIDER-web
                       └────────────────── a rule's text ─────────────────────┘

`render_rule` writes one form and no other (explicit /32, ``-m tcp`` spelled out, the kernel's
order of matches), so that what was applied and what is read back compare as text. `parse_rule`
accepts any order of options, since versions of iptables differ in it, and nothing outside the
grammar.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from paraglider.config.clients import Rate
from paraglider.config.model import Address, Endpoint, Family, HashKey, Ports, Protocol
from paraglider.rules.ruleset import (
    ALL_BITS,
    CERTAIN,
    Chance,
    Dnat,
    Forget,
    Hmark,
    Jump,
    Mark,
    Marking,
    Masquerade,
    Network,
    Nth,
    Recent,
    Remember,
    Rule,
    SetMark,
    Snat,
    Statistic,
    Target,
    TcpReset,
    TooMany,
    TooOften,
    Unreachable,
    Verdict,
)

RATE_WORDS = {1: "sec", 60: "min", 3600: "hour", 86400: "day"}
_MOST_BURST = 10_000
# xt_hashlimit counts in these parts of a second (XT_HASHLIMIT_SCALE_v2).
_SCALE = 1_000_000
UNREACHABLE = {
    Family.IPV4: "icmp-port-unreachable",
    Family.IPV6: "icmp6-port-unreachable",
}
ALL_OF_ADDRESS = {Family.IPV4: "32", Family.IPV6: "128"}
# Of the hash: any number, and the same for all appliances.
_SEED = "0x50617261"
NO_BITS = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}  # noqa: S104 - nobody binds it


def render_rule(rule: Rule) -> str:
    """Return the text of `rule`, without ``-A CHAIN``."""
    words = [*_packet_words(rule), *_conntrack_words(rule)]
    if rule.statistic is not None:
        words.append(_statistic_words(rule.statistic))
    if rule.recent is not None:
        words.append(_recent_words(rule.recent))
    if rule.mark is not None:
        words.append(_mark_words(rule.mark))
    if rule.too_often is not None:
        words.append(_often_words(rule.too_often))
    if rule.too_many is not None:
        words.append(_many_words(rule.too_many))
    if rule.client_set:
        words.append(f"-m set --match-set {rule.client_set} src")
    if rule.note is not None:
        words.append(f"-m comment --comment {rule.note.word}-{rule.note.value}")
    words.append(_target_words(rule.target))
    return " ".join(words)


def _packet_words(rule: Rule) -> Iterator[str]:
    if rule.source is not None:
        yield f"-s {_network(rule.source)}"
    if rule.destination is not None:
        yield f"-d {_network(rule.destination)}"
    if rule.not_destination is not None:
        yield f"! -d {rule.not_destination}"
    if rule.interface:
        yield f"-i {rule.interface}"
    if rule.protocol is not None:
        yield f"-p {rule.protocol.value}"
        yield from _port_words(rule, rule.protocol)
    if rule.is_from_host:
        yield "-m addrtype --src-type LOCAL"
    if rule.is_to_host:
        yield "-m addrtype --dst-type LOCAL"


def _network(address: Address | Network) -> str:
    if isinstance(address, (IPv4Network, IPv6Network)):
        return str(address)
    return f"{address}/{address.max_prefixlen}"


def _port_words(rule: Rule, protocol: Protocol) -> Iterator[str]:
    if rule.source_ports or rule.destination_ports:
        yield f"-m {protocol.value}"
    if rule.source_ports is not None:
        yield f"--sport {_ports(rule.source_ports)}"
    if rule.destination_ports is not None:
        yield f"--dport {_ports(rule.destination_ports)}"


def _ports(ports: Ports) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}:{ports.last}"


def _conntrack_words(rule: Rule) -> list[str]:
    words = []
    if rule.ct_state is not None:
        words.append(f"--ctstate {rule.ct_state.value}")
    if rule.ct_protocol is not None:
        words.append(f"--ctproto {rule.ct_protocol.number}")
    if rule.ct_address is not None:
        words.append(f"--ctorigdst {rule.ct_address}")  # a host's without /32
    if rule.ct_ports is not None:
        words.append(f"--ctorigdstport {_ports(rule.ct_ports)}")
    if rule.is_reply:
        words.append("--ctdir REPLY")
    return ["-m conntrack", *words] if words else []


def _statistic_words(statistic: Statistic) -> str:
    match statistic:
        case Nth(every, packet):
            return f"-m statistic --mode nth --every {every} --packet {packet}"
        case Chance(of_certain):
            probability = f"{of_certain / CERTAIN:.11f}"
            return f"-m statistic --mode random --probability {probability}"


def _often_words(often: TooOften) -> str:
    above, burst, name = often_values(often)
    how = f"--hashlimit-above {above} --hashlimit-burst {burst} --hashlimit-mode srcip"
    return f"-m hashlimit {how} --hashlimit-name {name}"


def often_values(often: TooOften) -> tuple[str, str, str]:
    """Return the rate as iptables prints it, the burst, and what the kernel knows the count by,
    such as ``web.5-min``: it keeps the rate that one of that name began with, whatever a later rule
    says."""
    rate = _as_counted(often.rate)
    # What a client may open at once is what it may in one unit of time.
    burst = min(often.rate.count, _MOST_BURST)
    name = f"{often.name}.{often.rate.count}-{RATE_WORDS[often.rate.per_s]}"
    return f"{rate.count}/{RATE_WORDS[rate.per_s]}", str(burst), name


def _as_counted(rate: Rate) -> Rate:
    """Return a rate as iptables prints it back: in the shortest unit that it is a whole number of,
    of the time between two, which is all that the kernel keeps (libxt_hashlimit.c, print_rate)."""
    between = _SCALE * rate.per_s // rate.count
    found = max(RATE_WORDS)
    for per_s in sorted(RATE_WORDS, reverse=True)[1:]:
        scaled = _SCALE * per_s
        if between > scaled or scaled // between < scaled % between:
            break
        found = per_s
    return Rate(_SCALE * found // between, found)


def _many_words(many: TooMany) -> str:
    bits = ALL_OF_ADDRESS[many.family]
    mask = f"--connlimit-mask {bits} --connlimit-saddr"
    return f"-m connlimit --connlimit-above {many.most} {mask}"


def _mark_words(mark: Mark) -> str:
    negation = "! " if mark.is_not else ""
    mask = "" if mark.mask == ALL_BITS else f"/{mark.mask:#x}"
    return f"-m mark {negation}--mark {mark.value:#x}{mask}"


def _recent_words(recent: Recent) -> str:
    # One mark for all sources: none of their bits count.
    action = "--set" if recent.is_set else "--rcheck"
    return f"-m recent {action} --name {recent.name} --mask {NO_BITS[recent.family]} --rsource"


def _target_words(target: Target) -> str:
    match target:
        case Jump(chain):
            words = chain
        case Dnat(to, base):
            words = f"DNAT --to-destination {_dnat_words(to, base)}"
        case Snat() | Masquerade():
            words = _source_words(target)
        case TcpReset() | Unreachable():
            words = f"REJECT --reject-with {_refusal_word(target)}"
        case Hmark():
            words = f"HMARK {render_hmark(target)}"
        case SetMark(value, mask):
            words = f"MARK --set-xmark {value:#x}/{mask:#x}"
        case Remember(name, timeout_s):
            words = f"SET --add-set {name} src --exist --timeout {timeout_s}"
        case Forget(name):
            words = f"SET --del-set {name} src"
        case Verdict() | Marking():
            words = target.value
    return f"-j {words}"


def _source_words(target: Snat | Masquerade) -> str:
    if isinstance(target, Masquerade):
        return "MASQUERADE --random-fully"
    return f"SNAT --to-source {target.to} --random-fully"


def _refusal_word(target: TcpReset | Unreachable) -> str:
    return UNREACHABLE[target.family] if isinstance(target, Unreachable) else "tcp-reset"


def _dnat_words(to: Endpoint, base: int) -> str:
    if not to.port:
        return str(to.address)  # without brackets, also of IPv6
    return f"{to}/{base}" if to.last_port else str(to)


def render_hmark(target: Hmark) -> str:
    """Return the words behind ``-j HMARK``."""
    port = " --hmark-sport-mask 0xffff" if target.key is HashKey.SOURCE_PORT else ""
    offset = f" --hmark-offset {target.offset}" if target.offset else ""
    source = f"--hmark-src-prefix {ALL_OF_ADDRESS[target.family]}"
    return f"{source}{port} --hmark-rnd {_SEED} --hmark-mod {target.slots}{offset}"
