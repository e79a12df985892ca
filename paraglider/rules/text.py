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
from ipaddress import ip_address, ip_network
from typing import TypedDict

from paraglider.config.model import Address, Endpoint
from paraglider.rules.ruleset import (
    CERTAIN,
    Chance,
    CtState,
    Dnat,
    Jump,
    Nth,
    Rule,
    Snat,
    Target,
    TcpReset,
    Verdict,
    is_own_chain,
)

_TCP_NUMBER = "6"  # iptables-save never prints a name here (libxt_conntrack.c)
_UNTIL = re.compile(r"until-([0-9]{1,12})")
_PROBABILITY = re.compile(r"0\.[0-9]{1,14}")
_ENDPOINT = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([0-9]+)")


class RuleSyntaxError(ValueError):
    """The text is not a rule of our grammar."""


def render_rule(rule: Rule) -> str:
    """Return the text of `rule`, without ``-A CHAIN``."""
    words = []
    if rule.source is not None:
        words += ["-s", _host(rule.source)]
    if rule.destination is not None:
        words += ["-d", _host(rule.destination)]
    if rule.is_tcp:
        words += ["-p", "tcp"]
    words += _tcp_words(rule)
    words += _conntrack_words(rule)
    words += _statistic_words(rule.statistic)
    if rule.until_s is not None:
        words += ["-m", "comment", "--comment", f"until-{rule.until_s}"]
    return " ".join([*words, *_target_words(rule.target)])


def _host(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


def _tcp_words(rule: Rule) -> list[str]:
    words = []
    if rule.source_port is not None:
        words += ["--sport", str(rule.source_port)]
    if rule.destination_port is not None:
        words += ["--dport", str(rule.destination_port)]
    return ["-m", "tcp", *words] if words else []


def _conntrack_words(rule: Rule) -> list[str]:
    words = []
    if rule.ct_state is not None:
        words += ["--ctstate", rule.ct_state.value]
    if rule.ct_is_tcp:
        words += ["--ctproto", _TCP_NUMBER]
    if rule.ct_original is not None:
        words += ["--ctorigdst", str(rule.ct_original.address)]
        words += ["--ctorigdstport", str(rule.ct_original.port)]
    return ["-m", "conntrack", *words] if words else []


def _statistic_words(statistic: Nth | Chance | None) -> list[str]:
    match statistic:
        case Nth(every, packet):
            words = ["nth", "--every", str(every), "--packet", str(packet)]
        case Chance(of_certain):
            words = ["random", "--probability", f"{of_certain / CERTAIN:.11f}"]
        case None:
            return []
    return ["-m", "statistic", "--mode", *words]


def _target_words(target: Target) -> list[str]:
    match target:
        case Verdict():
            return ["-j", target.value]
        case Jump(chain):
            return ["-j", chain]
        case Dnat(to):
            return ["-j", "DNAT", "--to-destination", str(to)]
        case Snat(to):
            return ["-j", "SNAT", "--to-source", str(to), "--random-fully"]
        case TcpReset():
            return ["-j", "REJECT", "--reject-with", "tcp-reset"]


class _Options(TypedDict, total=False):
    """The fields of a `Rule` as they are met."""

    source: Address
    destination: Address
    is_tcp: bool
    source_port: int
    destination_port: int
    ct_state: CtState
    ct_is_tcp: bool
    ct_original: Endpoint
    statistic: Nth | Chance
    until_s: int


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
            _expect_one_of(("tcp", "conntrack", "statistic", "comment"), next(rest))
        else:
            if word in raw:
                raise ValueError(f"{word} twice")
            raw[word] = next(rest)
    return _typed(raw)


def _typed(raw: dict[str, str]) -> _Options:
    options: _Options = {}
    if "-s" in raw:
        options["source"] = _parse_host(raw.pop("-s"))
    if "-d" in raw:
        options["destination"] = _parse_host(raw.pop("-d"))
    if "-p" in raw:
        # iptables 1.8.10 prints the number instead of the name.
        _expect_one_of(("tcp", _TCP_NUMBER), raw.pop("-p"))
        options["is_tcp"] = True
    if "--sport" in raw:
        options["source_port"] = _parse_number(raw.pop("--sport"))
    if "--dport" in raw:
        options["destination_port"] = _parse_number(raw.pop("--dport"))
    if "--ctstate" in raw:
        options["ct_state"] = CtState(raw.pop("--ctstate"))
    if "--ctproto" in raw:
        _expect_one_of(("tcp", _TCP_NUMBER), raw.pop("--ctproto"))
        options["ct_is_tcp"] = True
    if "--ctorigdst" in raw:
        address = _parse_host(raw.pop("--ctorigdst"))
        options["ct_original"] = Endpoint(address, _parse_number(raw.pop("--ctorigdstport", "")))
    if "--mode" in raw:
        options["statistic"] = _parse_statistic(raw)
    if "--comment" in raw:
        options["until_s"] = _parse_until(raw.pop("--comment"))
    if raw:
        raise ValueError(f"unknown options {sorted(raw)}")
    return options


def _parse_statistic(raw: dict[str, str]) -> Nth | Chance:
    if raw.pop("--mode") == "nth":
        every = _parse_number(raw.pop("--every", ""))
        return Nth(every, _parse_number(raw.pop("--packet", "0")))
    text = raw.pop("--probability", "")
    if not _PROBABILITY.fullmatch(text):
        raise ValueError(f"not a probability: {text!r}")
    return Chance(round(float(text) * CERTAIN))


def _parse_until(text: str) -> int:
    found = _UNTIL.fullmatch(text)
    if not found:
        raise ValueError(f"not a note of ours: {text!r}")
    return int(found[1])


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


def _parse_host(text: str) -> Address:
    network = ip_network(text)
    if network.num_addresses != 1:
        raise ValueError(f"not a single host: {text}")
    return network.network_address


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
