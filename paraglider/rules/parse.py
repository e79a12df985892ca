"""Parse: the text of a rule, as some version of iptables prints it, to the rule that it is.

Takes any order of options, since versions of iptables differ in it, and nothing outside the grammar
that `text.py` writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import TypedDict

from paraglider.config.model import Address, Endpoint, HashKey, Ports, Protocol
from paraglider.rules.ruleset import (
    ALL_BITS,
    CERTAIN,
    Chance,
    CtState,
    Dnat,
    Hmark,
    Jump,
    Mark,
    Marking,
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
from paraglider.rules.text import ALL_OF_ADDRESS, NO_BITS, render_hmark

# --ctproto is always printed as a number (libxt_conntrack.c).
_PROTOCOLS = {str(protocol.number): protocol for protocol in Protocol}
_NOTE = re.compile(r"([a-z]{1,15})-([0-9a-f]{1,16})")
_PROBABILITY = re.compile(r"0\.[0-9]{1,14}")
_ENDPOINT = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([0-9]+)")
_MARK = re.compile(r"(! )?0x([0-9a-f]{1,8})(?:/0x([0-9a-f]{1,8}))?")
_RECENT_NAME = re.compile(r"paraglider-[0-9a-f]{16}")


class RuleSyntaxError(ValueError):
    """The text is not a rule of our grammar."""


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
    mark: Mark
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
        elif word == "!":
            _expect_one_of(("--mark",), next(rest))
            raw["--mark"] = f"! {next(rest)}"
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


def _parse_mark(text: str) -> Mark:
    found = _MARK.fullmatch(text)
    if not found:
        raise ValueError(f"not a mark of ours: {text!r}")
    mask = ALL_BITS if found[3] is None else int(found[3], 16)
    return Mark(int(found[2], 16), mask, is_not=found[1] is not None)


def _parse_recent(raw: dict[str, str]) -> Recent:
    del raw["--rsource"]
    is_set = raw.pop("--set", None) is not None
    if is_set is (raw.pop("--rcheck", None) is not None):
        raise ValueError("one of --set and --rcheck")
    name, mask = raw.pop("--name", ""), raw.pop("--mask", "")
    if not _RECENT_NAME.fullmatch(name) or mask not in NO_BITS.values():
        raise ValueError(f"not a mark of ours: {name!r} {mask!r}")
    family = next(family for family, bits in NO_BITS.items() if bits == mask)
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
    return _parse_marking(words)


def _parse_marking(words: list[str]) -> Hmark | Marking:
    if words[:1] != ["HMARK"]:
        return Marking(" ".join(words))  # or a ValueError
    words = words[1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    number, offset = options.get("--hmark-mod", ""), options.get("--hmark-offset", "0")
    bits, with_port = options.get("--hmark-src-prefix"), "--hmark-sport-mask" in options
    target = Hmark(
        next(family for family, all_bits in ALL_OF_ADDRESS.items() if all_bits == bits),
        HashKey.SOURCE_PORT if with_port else HashKey.SOURCE,
        _parse_number(number),
        _parse_number(offset),
    )
    if sorted(render_hmark(target).split(" ")) != sorted(words):
        raise ValueError(f"not as we mark: {words}")
    return target


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
    "--mark": ("mark", _parse_mark),
}
_MATCHES = ("tcp", "udp", "conntrack", "statistic", "recent", "mark", "comment")
_FLAGS = ("--set", "--rcheck", "--rsource")
