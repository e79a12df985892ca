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

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypedDict

from paraglider.config.model import Address, Endpoint, Family, Ports, Protocol
from paraglider.rules.ruleset import (
    CERTAIN,
    Chance,
    CtState,
    Dnat,
    Jump,
    Network,
    Note,
    Nth,
    Recent,
    Rule,
    Snat,
    Statistic,
    Target,
    TcpReset,
    Verdict,
    is_own_chain,
)

# --ctproto is always printed as a number (libxt_conntrack.c).
_PROTOCOLS = {str(protocol.number): protocol for protocol in Protocol}
_NO_BITS = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}  # noqa: S104 - nobody binds it
_RECENT_NAME = re.compile(r"paraglider-[0-9a-f]{16}")
_NOTE = re.compile(r"([a-z]{1,15})-([0-9a-f]{1,16})")
_PROBABILITY = re.compile(r"0\.[0-9]{1,14}")
_ENDPOINT = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([0-9]+)")


class RuleSyntaxError(ValueError):
    """The text is not a rule of our grammar."""


def render_rule(rule: Rule) -> str:
    """Return the text of `rule`, without ``-A CHAIN``."""
    words = []
    if rule.source is not None:
        words.append(f"-s {_network(rule.source)}")
    if rule.destination is not None:
        words.append(f"-d {_network(rule.destination)}")
    if rule.protocol is not None:
        words.append(f"-p {rule.protocol.value}")
        words += _port_words(rule, rule.protocol)
    words += _conntrack_words(rule)
    if rule.statistic is not None:
        words.append(_statistic_words(rule.statistic))
    if rule.recent is not None:
        words.append(_recent_words(rule.recent))
    if rule.note is not None:
        words.append(f"-m comment --comment {rule.note.word}-{rule.note.value}")
    words.append(_target_words(rule.target))
    return " ".join(words)


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
    return ["-m conntrack", *words] if words else []


def _statistic_words(statistic: Statistic) -> str:
    match statistic:
        case Nth(every, packet):
            return f"-m statistic --mode nth --every {every} --packet {packet}"
        case Chance(of_certain):
            probability = f"{of_certain / CERTAIN:.11f}"
            return f"-m statistic --mode random --probability {probability}"


def _recent_words(recent: Recent) -> str:
    # One mark for all sources: none of their bits count.
    action = "--set" if recent.is_set else "--rcheck"
    return f"-m recent {action} --name {recent.name} --mask {_NO_BITS[recent.family]} --rsource"


def _target_words(target: Target) -> str:
    match target:
        case Jump(chain):
            return f"-j {chain}"
        case Dnat(to):
            return f"-j DNAT --to-destination {to}"
        case Snat(to):
            return f"-j SNAT --to-source {to} --random-fully"
        case TcpReset():
            return "-j REJECT --reject-with tcp-reset"
        case Verdict():
            return f"-j {target.value}"


class _Options(TypedDict, total=False):
    """The fields of a `Rule` as they are met."""

    source: Address | Network
    destination: Address | Network
    protocol: Protocol
    source_ports: Ports
    destination_ports: Ports
    ct_state: CtState
    ct_protocol: Protocol
    ct_address: Address | Network
    ct_ports: Ports
    statistic: Statistic
    recent: Recent
    note: Note


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` says; RuleSyntaxError where it is not of our grammar."""
    words = text.split(" ")
    if "-j" not in words:
        raise RuleSyntaxError(f"no target in {text!r}")
    split = words.index("-j")
    try:
        return Rule(**_parse_matches(words[:split]), target=_parse_target(words[split + 1 :]))
    except (ValueError, StopIteration) as error:
        raise RuleSyntaxError(f"not a rule of ours: {text!r}") from error


def _parse_matches(words: list[str]) -> _Options:
    raw: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word == "-m":
            _expect_one_of(_MATCHES, next(rest))
        elif word in _FLAGS:
            raw[word] = ""
        else:
            if word in raw:
                raise ValueError(f"{word} twice")
            raw[word] = next(rest)
    options = _Options()
    if "--mode" in raw:
        options["statistic"] = _parse_statistic(raw)
    if "--rsource" in raw:
        options["recent"] = _parse_recent(raw)
    for option, value in raw.items():
        if option not in _FIELDS:
            raise ValueError(f"unknown option {option}")
        field, parse = _FIELDS[option]
        options[field] = parse(value)  # type: ignore[literal-required]  # named by the table
    return options


def _parse_statistic(raw: dict[str, str]) -> Statistic:
    if raw.pop("--mode") == "nth":
        every = _parse_number(raw.pop("--every", ""))
        return Nth(every, _parse_number(raw.pop("--packet", "0")))
    text = raw.pop("--probability", "")
    if not _PROBABILITY.fullmatch(text):
        raise ValueError(f"not a probability: {text!r}")
    return Chance(round(float(text) * CERTAIN))


def _parse_recent(raw: dict[str, str]) -> Recent:
    del raw["--rsource"]
    is_set = raw.pop("--set", None) is not None
    if is_set is (raw.pop("--rcheck", None) is not None):
        raise ValueError("one of --set and --rcheck")
    name, mask = raw.pop("--name", ""), raw.pop("--mask", "")
    if not _RECENT_NAME.fullmatch(name) or mask not in _NO_BITS.values():
        raise ValueError(f"not a mark of ours: {name!r} {mask!r}")
    family = next(family for family, bits in _NO_BITS.items() if bits == mask)
    return Recent(name, family, is_set)


def _parse_note(text: str) -> Note:
    found = _NOTE.fullmatch(text)
    if not found:
        raise ValueError(f"not a note of ours: {text!r}")
    return Note(found[1], found[2])


def _parse_protocol(text: str) -> Protocol:
    return _PROTOCOLS[text] if text in _PROTOCOLS else Protocol(text)


def _parse_ports(text: str) -> Ports:
    first, _, last = text.partition(":")
    return Ports(_parse_number(first), _parse_number(last or first))


def _parse_target(words: list[str]) -> Target:
    match words:
        case [name] if is_own_chain(name):
            return Jump(name)
        case [name]:
            return Verdict(name)
        case ["DNAT", "--to-destination", to]:
            return Dnat(_parse_endpoint(to))
        case ["SNAT", "--to-source", to, "--random-fully"]:
            return Snat(ip_address(to))
        case ["REJECT", "--reject-with", "tcp-reset"]:
            return TcpReset()
    raise ValueError(f"unknown target {words}")


def _parse_network(text: str) -> Address | Network:
    network = ip_network(text)
    if network.prefixlen == 0:
        raise ValueError(f"not a network of ours: {text}")
    return network.network_address if network.num_addresses == 1 else network


def _parse_endpoint(text: str) -> Endpoint:
    found = _ENDPOINT.fullmatch(text)
    if not found:
        raise ValueError(f"not an address with a port: {text}")
    return Endpoint(ip_address(found[1] or found[2]), _parse_number(found[3]))


def _parse_number(text: str) -> int:
    # At most the digits of 2**31: int() of a longer text is work for nothing.
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError(f"not a number: {text!r}")
    return int(text)


def _expect_one_of(wanted: tuple[str, ...], found: str) -> None:
    if found not in wanted:
        raise ValueError(f"{found!r} is none of {wanted}")


# Option -> the field that it fills, and how its value is read. iptables 1.8.10 prints the number of
# a protocol instead of its name.
_FIELDS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "-s": ("source", _parse_network),
    "-d": ("destination", _parse_network),
    "-p": ("protocol", _parse_protocol),
    "--sport": ("source_ports", _parse_ports),
    "--dport": ("destination_ports", _parse_ports),
    "--ctstate": ("ct_state", CtState),
    "--ctproto": ("ct_protocol", _parse_protocol),
    "--ctorigdst": ("ct_address", _parse_network),
    "--ctorigdstport": ("ct_ports", _parse_ports),
    "--comment": ("note", _parse_note),
}
_MATCHES = ("tcp", "udp", "conntrack", "statistic", "recent", "comment")
_FLAGS = ("--set", "--rcheck", "--rsource")
