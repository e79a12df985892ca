"""iptables rules: the base chains of others, as iptables-save prints a table.

    *mangle
    :FORWARD DROP [0:0]
    :fw - [0:0]
    -A FORWARD -p tcp -m tcp --dport 80 -j fw

What is not known here matches perhaps. Our own rules are followed like any other's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network

from paraglider.config.model import Address
from paraglider.kernel.flow import DST_NAT, SRC_NAT, Hook, Packet
from paraglider.kernel.foreign_rules import Act, BaseChain, ForeignRule, Match

_PRIORITY = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_ACTS = {
    "ACCEPT": Act.ACCEPT,
    "DROP": Act.DROP,
    "REJECT": Act.DROP,
    "RETURN": Act.RETURN,
    "NOTRACK": Act.NOTRACK,
    "DNAT": Act.DNAT,
    "REDIRECT": Act.DNAT,
    "SNAT": Act.SNAT,
    "MASQUERADE": Act.SNAT,
    "NETMAP": Act.UNKNOWN,
    "NFQUEUE": Act.UNKNOWN,
    "QUEUE": Act.UNKNOWN,
    "SYNPROXY": Act.UNKNOWN,
    "TPROXY": Act.UNKNOWN,
}
# Targets after which a packet goes on.
_SIDE = frozenset(
    {
        *("AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "DSCP", "ECN", "HL"),
        *("HMARK", "IDLETIMER", "LED", "LOG", "MARK", "NFLOG", "RATEEST", "SECMARK", "SET"),
        *("TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG"),
    }
)
# Options of matches that say nothing about the packet.
_SILENT = ("--comment", "-m")
_FLAG_OPTIONS = frozenset({"--notrack", "--random", "--random-fully", "--persistent"})


def read_base_chains(text: str, command: str, *, order: int | None = None) -> list[BaseChain]:
    """Return the base chains in `text`; `command` is the iptables that changes them."""
    found: list[BaseChain] = []
    table, policies = "", dict[str, str]()
    rules: dict[str, list[ForeignRule]] = {}
    for line in text.split("\n"):
        if line.startswith("*"):
            table, policies, rules = line[1:], {}, {}
        elif line.startswith(":"):
            name, policy = line[1:].split(" ")[:2]
            policies[name] = policy
        elif line == "COMMIT":
            found += _chains(table, policies, rules, command, order)
        elif at := re.match(r"(?:\[\d+:\d+\] )?-A (\S+) ?(.*)", line):
            rules.setdefault(at[1], []).append(_rule(at[2], policies))
    return found


def _chains(
    table: str,
    policies: Mapping[str, str],
    rules: Mapping[str, list[ForeignRule]],
    command: str,
    order: int | None,
) -> Iterator[BaseChain]:
    chains = {name: tuple(found) for name, found in rules.items()}
    for name, policy in policies.items():
        if policy == "-" or name.lower() not in tuple(Hook):
            continue
        hook = Hook(name.lower())
        yield BaseChain(
            f"{command} {table} {name}",
            hook,
            _nat_priority(hook) if table == "nat" else _PRIORITY.get(table, 0),
            is_nat=table == "nat",
            is_drop=policy == "DROP",
            rules=chains.get(name, ()),
            chains=chains,
            mend=f"{command} -t {table} -I {name} {{}} -j ACCEPT",
            is_nft=False,
            order=order,
        )


def _nat_priority(hook: Hook) -> int:
    return DST_NAT if hook in (Hook.PREROUTING, Hook.OUTPUT) else SRC_NAT


def _rule(text: str, chains: Mapping[str, str]) -> ForeignRule:
    try:
        words = shlex.split(text)
    except ValueError:
        return ForeignRule((_perhaps,), Act.UNKNOWN)
    matches: list[Match] = []
    act, to, is_negated = Act.GO_ON, "", False
    rest = iter(words)
    for word in rest:
        if word == "!":
            is_negated = True
            continue
        if word in _FLAG_OPTIONS or not word.startswith("-"):
            act = Act.NOTRACK if word == "--notrack" else act
            continue
        value = next(rest, "")
        if word in ("-j", "-g"):
            act, to = _target(word, value, chains)
        elif word in ("--to-destination", "--to-source"):
            to = value
        elif word == "--zone":
            act, to = Act.ZONE, value
        elif act in (Act.GO_ON, Act.ZONE, Act.NOTRACK) and word not in _SILENT and not to:
            matches.append(_match(word, value, is_negated=is_negated))
        is_negated = False
    return ForeignRule(tuple(matches), act, to)


def _target(word: str, name: str, chains: Mapping[str, str]) -> tuple[Act, str]:
    if name in chains:
        return (Act.GOTO if word == "-g" else Act.JUMP), name
    if name in _SIDE or name == "CT":
        return Act.GO_ON, ""
    return _ACTS.get(name, Act.UNKNOWN), ""


def _match(option: str, value: str, *, is_negated: bool) -> Match:
    judge = _JUDGES.get(option)
    if judge is None:
        return _perhaps

    def match(packet: Packet) -> bool | None:
        answer = judge(value, packet)
        return answer if answer is None else answer is not is_negated

    return match


def _perhaps(packet: Packet) -> bool | None:  # noqa: ARG001 - as every match
    return None


def _is_in(network: str, address: Address | None) -> bool | None:
    try:
        found = ip_network(network, strict=False)
    except ValueError:
        return None  # a mask that is no prefix
    if found.prefixlen == 0:
        return True
    return None if address is None else address in found


def _is_interface(pattern: str, name: str | None) -> bool | None:
    if name is None:
        return False if pattern == "lo" else None  # no client comes from there
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def _is_port(wanted: str, port: int | None) -> bool | None:
    if port is None:  # the client's, of which there are tens of thousands
        return None if ":" in wanted else False
    for part in wanted.split(","):
        first, _, last = part.partition(":")
        if first.isdigit() and int(first) <= port <= int(last if last.isdigit() else first):
            return True
    return False


def _is_protocol(wanted: str, packet: Packet) -> bool | None:
    return wanted in ("all", packet.protocol.value, str(packet.protocol.number))


def _is_state(wanted: str, packet: Packet) -> bool | None:
    states = wanted.split(",")
    if packet.state == "invalid":
        return "INVALID" in states
    has_nat = (packet.is_translated and "DNAT" in states) or (packet.is_reply and "SNAT" in states)
    return packet.state.upper() in states or has_nat


def _is_original(wanted: str, packet: Packet) -> bool | None:
    return _is_in(wanted, packet.original)


_Judge = Callable[[str, Packet], bool | None]
_JUDGES: Mapping[str, _Judge] = {
    "-s": lambda wanted, packet: _is_in(wanted, packet.source),
    "-d": lambda wanted, packet: _is_in(wanted, packet.destination),
    "-i": lambda wanted, packet: _is_interface(wanted, packet.comes_in_at),
    "-o": lambda wanted, packet: _is_interface(wanted, packet.goes_out_at),
    "-p": _is_protocol,
    "--dport": lambda wanted, packet: _is_port(wanted, packet.destination_port),
    "--dports": lambda wanted, packet: _is_port(wanted, packet.destination_port),
    "--sport": lambda wanted, packet: _is_port(wanted, packet.source_port),
    "--sports": lambda wanted, packet: _is_port(wanted, packet.source_port),
    "--ctstate": _is_state,
    "--state": _is_state,
    "--ctorigdst": _is_original,
    "--ctorigdstport": lambda wanted, packet: _is_port(wanted, packet.original_port),
}
