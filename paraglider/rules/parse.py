"""Parse: the text of a rule, as some version of iptables prints it, to the rule that it is.

Takes any order of options, since versions of iptables differ in it, and nothing outside the grammar
that `text.py` writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import TypedDict

from paraglider.config.clients import Rate
from paraglider.config.model import INTERFACE_PATTERN, NAME_PATTERN, Address, Ports, Protocol
from paraglider.config.quote import printable, quoted
from paraglider.rules.names import SET_PATTERN
from paraglider.rules.parse_target import parse_number, parse_target, parse_word, refuse
from paraglider.rules.ruleset import (
    ALL_BITS,
    CERTAIN,
    Chance,
    CtState,
    Mark,
    Network,
    Note,
    Nth,
    Recent,
    Rule,
    Statistic,
    TooMany,
    TooOften,
)
from paraglider.rules.text import (
    ALL_OF_ADDRESS,
    NO_BITS,
    RATE_WORDS,
    often_values,
)

# --ctproto is always printed as a number (libxt_conntrack.c).
_PROTOCOLS = {str(protocol.number): protocol for protocol in Protocol}
_NOTE = re.compile(r"([a-z]{1,15})-([0-9a-f]{1,16})")
_PROBABILITY = re.compile(r"0\.[0-9]{1,14}")
_MARK = re.compile(r"0x([0-9a-f]{1,8})(?:/0x([0-9a-f]{1,8}))?")
# A frontend, and the rate as it was asked for.
_OFTEN_NAME = re.compile(
    rf"({NAME_PATTERN})\.([1-9][0-9]{{0,6}})-({'|'.join(RATE_WORDS.values())})"
)
_RECENT_NAME = re.compile(r"paraglider-[0-9a-f]{16}")


class RuleSyntaxError(ValueError):
    """The text is not a rule of our grammar."""


class _Options(TypedDict, total=False):
    """The fields of a `Rule` as they are met."""

    source: Address | Network
    destination: Address | Network
    not_destination: Network
    interface: str
    is_from_host: bool
    is_to_host: bool
    protocol: Protocol
    source_ports: Ports
    destination_ports: Ports
    ct_state: CtState
    ct_protocol: Protocol
    ct_address: Address | Network
    ct_ports: Ports
    is_reply: bool
    statistic: Statistic
    recent: Recent
    mark: Mark
    too_often: TooOften
    too_many: TooMany
    client_set: str
    note: Note


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` says; RuleSyntaxError where it is not of our grammar."""
    words = text.split(" ")
    if "-j" not in words:
        raise RuleSyntaxError(f"no target in {printable(text)}")
    split = words.index("-j")
    try:
        return Rule(**_parse_matches(words[:split]), target=parse_target(words[split + 1 :]))
    except (ValueError, StopIteration) as error:
        raise RuleSyntaxError(f"not a rule of ours: {printable(text)}") from error


def _parse_matches(words: list[str]) -> _Options:
    raw: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word == "-m":
            _expect_one_of(_MATCHES, next(rest))
        elif word == "!":
            negated = next(rest)
            _expect_one_of(("--mark", "-d"), negated)
            raw[f"! {negated}"] = next(rest)
        elif word == "--match-set":
            raw[word] = next(rest)
            _expect_one_of(("src",), next(rest))
        elif word in _FLAGS:
            raw[word] = ""
        else:
            if word in raw:
                raise ValueError(f"{word} twice")
            raw[word] = next(rest)
    options = _Options()
    for option in raw.keys() & _COMBINED.keys():
        field, parse_all = _COMBINED[option]
        options[field] = parse_all(raw)  # type: ignore[literal-required]  # named by the table
    for option, value in raw.items():
        if option not in _FIELDS:
            raise ValueError(f"unknown option {option}")
        field, parse = _FIELDS[option]
        options[field] = parse(value)  # type: ignore[literal-required]  # named by the table
    return options


def _parse_statistic(raw: dict[str, str]) -> Statistic:
    if raw.pop("--mode") == "nth":
        every = parse_number(raw.pop("--every", ""))
        return Nth(every, parse_number(raw.pop("--packet", "0")))
    text = raw.pop("--probability", "")
    if not _PROBABILITY.fullmatch(text):
        raise ValueError(f"not a probability: {quoted(text)}")
    return Chance(round(float(text) * CERTAIN))


def _parse_mark(text: str) -> Mark:
    found = _MARK.fullmatch(text)
    if not found:
        raise ValueError(f"not a mark of ours: {quoted(text)}")
    mask = ALL_BITS if found[2] is None else int(found[2], 16)
    return Mark(int(found[1], 16), mask)


def _parse_often(raw: dict[str, str]) -> TooOften:
    _expect_one_of(("srcip",), raw.pop("--hashlimit-mode"))
    above, burst, name = (raw.pop(f"--hashlimit-{word}", "") for word in ("above", "burst", "name"))
    found = _OFTEN_NAME.fullmatch(name)
    if not found:
        raise ValueError(f"not a count of ours: {quoted(name)}")
    per_s = next(per_s for per_s, word in RATE_WORDS.items() if word == found[3])
    often = TooOften(Rate(int(found[2]), per_s), found[1])
    if (above, burst, name) != often_values(often):
        raise ValueError(f"not as we count: {above} {burst} {name}")
    return often


def _parse_many(raw: dict[str, str]) -> TooMany:
    del raw["--connlimit-saddr"]
    bits = raw.pop("--connlimit-mask", "")
    family = next(family for family, all_bits in ALL_OF_ADDRESS.items() if all_bits == bits)
    return TooMany(parse_number(raw.pop("--connlimit-above", "")), family)


def _parse_recent(raw: dict[str, str]) -> Recent:
    del raw["--rsource"]
    is_set = raw.pop("--set", None) is not None
    if is_set is (raw.pop("--rcheck", None) is not None):
        raise ValueError("one of --set and --rcheck")
    name, mask = raw.pop("--name", ""), raw.pop("--mask", "")
    if not _RECENT_NAME.fullmatch(name) or mask not in NO_BITS.values():
        raise ValueError(f"not a mark of ours: {quoted(name)} {quoted(mask)}")
    family = next(family for family, bits in NO_BITS.items() if bits == mask)
    return Recent(name, family, is_set)


def _parse_note(text: str) -> Note:
    found = _NOTE.fullmatch(text)
    if not found:
        raise ValueError(f"not a note of ours: {quoted(text)}")
    return Note(found[1], found[2])


def _parse_protocol(text: str) -> Protocol:
    return _PROTOCOLS[text] if text in _PROTOCOLS else Protocol(text)


def _parse_ports(text: str) -> Ports:
    first, _, last = text.partition(":")
    return Ports(parse_number(first), parse_number(last or first))


def _parse_network(text: str) -> Address | Network:
    network = ip_network(text)
    if network.prefixlen == 0:
        raise ValueError(f"not a network of ours: {text}")
    return network.network_address if network.num_addresses == 1 else network


def _expect_one_of(wanted: tuple[str, ...], found: str) -> None:
    if found not in wanted:
        raise ValueError(f"{quoted(found)} is none of {', '.join(wanted)}")


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
    "--ctdir": ("is_reply", lambda text: text == "REPLY" or refuse(text)),
    "--comment": ("note", _parse_note),
    "--mark": ("mark", _parse_mark),
    "--match-set": ("client_set", lambda text: parse_word(text, SET_PATTERN)),
    "! --mark": ("mark", lambda text: replace(_parse_mark(text), is_not=True)),
    "! -d": ("not_destination", ip_network),
    "-i": ("interface", lambda text: parse_word(text, INTERFACE_PATTERN)),
    "--src-type": ("is_from_host", lambda text: text == "LOCAL" or refuse(text)),
    "--dst-type": ("is_to_host", lambda text: text == "LOCAL" or refuse(text)),
}
# An option that there is in each match of its kind, and what reads it with the others that belong
# to it.
_COMBINED: Mapping[str, tuple[str, Callable[[dict[str, str]], object]]] = {
    "--mode": ("statistic", _parse_statistic),
    "--hashlimit-mode": ("too_often", _parse_often),
    "--connlimit-saddr": ("too_many", _parse_many),
    "--rsource": ("recent", _parse_recent),
}
_MATCHES = (
    "tcp",
    "udp",
    "conntrack",
    "statistic",
    "recent",
    "mark",
    "comment",
    "addrtype",
    "hashlimit",
    "connlimit",
    "set",
)
_FLAGS = ("--set", "--rcheck", "--rsource", "--connlimit-saddr")
