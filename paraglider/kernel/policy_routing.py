"""Policy routing: the rules that choose a routing table (ip-rule(8)), over rtnetlink(7).

Owns how these rules are read, and how those of ours are made and deleted: each bears our protocol
number and our bits of the mark (rules/policy_rules.py), so that they are known without the
configuration. It must never change a rule of anybody else, nor any routing table.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from paraglider.config.clients import Network
from paraglider.config.model import Family
from paraglider.errors import ParagliderError, PermissionDenied, UnavailableError
from paraglider.kernel.host import grant_mend
from paraglider.kernel.netlink import (
    CHUNK_BYTES,
    FRAME_BYTES,
    HEADER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Span,
    attribute,
    error_number,
    messages,
    spans,
)
from paraglider.rules.policy_rules import (
    NO_FAMILY_POLICY,
    NO_POLICY,
    OWN_PROTOCOL,
    FamilyPolicy,
    Policy,
    PolicyRule,
)

if TYPE_CHECKING:
    from paraglider.rules.state import State  # `check` has no need of it

# linux/rtnetlink.h
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_GROUPS = 1 << 7 | 1 << 18  # RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE
_NLM_F_EXCL = 0x200
# struct fib_rule_hdr (linux/fib_rules.h): family, lengths of destination and source, TOS, table,
# two that are reserved, action, flags.
_RULE = struct.Struct("=BBBBBBBBI")
_INVERT = 0x2
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK = 1, 2, 3, 6, 10
_FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME = 14, 15, 16, 17
_FRA_PAD, _FRA_PROTOCOL = 18, 21
# What an answer has as a forwarded packet and the host's own does not, or the other way round.
_UNFIT = {12: "tun_id", 19: "l3mdev", 20: "uidrange", 23: "sport", 28: "sport mask"}
_READ = {_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK}
_READ |= {_FRA_OIFNAME, _FRA_PAD, _FRA_PROTOCOL}
_NUMBER = struct.Struct("=I")
_UNSET = _NUMBER.pack(0xFFFFFFFF)
_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
# What a kernel without IPv6, or without policy routing, answers.
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
_TIMEOUT_S = 5.0
_CONF = "/proc/sys/net/ipv4/conf"
_MOST_TRIES = 4

Report = Callable[[str], None]


def read_policy() -> Policy:
    """Return all policy rules of this network namespace, in the order in which the kernel goes
    through them. Raises UnavailableError."""
    with _connect() as kernel:
        rules = {family: _read(kernel, family) for family in Family}
    return {f: FamilyPolicy(found, _is_mark_checked(f, found)) for f, found in rules.items()}


def _is_mark_checked(family: Family, rules: Sequence[PolicyRule]) -> bool:
    """Return whether some interface drops what comes from where its mark is not routed to; only of
    IPv4, and where that may matter."""
    if family is not Family.IPV4 or all(rule.source is None for rule in rules):
        return False
    try:
        interfaces = os.listdir(_CONF)
    except OSError:
        return False
    of_all = {name: _setting("all", name) for name in ("src_valid_mark", "rp_filter")}
    return any(
        (of_all["src_valid_mark"] or _setting(interface, "src_valid_mark"))
        and max(of_all["rp_filter"], _setting(interface, "rp_filter")) == 1
        for interface in interfaces
        if interface not in ("all", "default")
    )


def _setting(interface: str, name: str) -> int:
    try:
        with open(f"{_CONF}/{interface}/{name}") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def put_policy(states: Mapping[Family, State]) -> list[str]:
    """Make our policy rules those of the wanted `states`, and delete all others of ours; return
    ``ip rule PRIORITY`` for each that was made or deleted.

    Raises PermissionDenied or UnavailableError.
    """
    with _connect() as kernel:
        return [done for family in Family for done in _put(kernel, family, _wanted(states, family))]


def remove_policy() -> bool:
    """Delete all policy rules of ours; return whether there were any. Raises as `put_policy`."""
    return bool(put_policy({}))


@contextlib.contextmanager
def policy_rules(states: Mapping[Family, State], report: Report) -> Iterator[bool]:
    """Have the policy rules of ours that the wanted `states` ask for, and no others; where the
    `with` fails, those that there were. Its value is whether any had to be changed.

    Where they cannot be made, that is reported: connections are balanced all the same.
    """
    before: Policy = {}
    is_changed = False
    try:
        before = read_policy()
        is_changed = bool(put_policy(states))
    except ParagliderError as error:
        report(f"warning: answers may leave by another uplink than those of this host: {error}")
    try:
        yield is_changed
    except BaseException:
        with contextlib.suppress(ParagliderError), _connect() as kernel:
            for family, found in before.items():
                _put(kernel, family, [rule for rule in found.rules if rule.is_own])
        raise


def differing_policy(live: Policy, states: Mapping[Family, State]) -> dict[Family, list[str]]:
    """Return for each family how our policy rules differ from those of the wanted `states`, as
    lines of ``diff -u``; families in which they do not are left out."""
    lines = {}
    for family in Family:
        found = live.get(family, NO_FAMILY_POLICY)
        own = [rule for rule in found.rules if rule.is_own]
        gone, missing = _differences(own, _wanted(states, family))
        if message := [f"- {_told(r)}" for r in gone] + [f"+ {_told(r)}" for r in missing]:
            lines[family] = ["ip rule", *message]
    return lines


def _wanted(states: Mapping[Family, State], family: Family) -> Sequence[PolicyRule]:
    return states[family].policy_rules if family in states else ()


def _read_own(kernel: socket.socket, family: Family) -> list[PolicyRule]:
    return [rule for rule in _read(kernel, family) if rule.is_own]


def _put(kernel: socket.socket, family: Family, wanted: Sequence[PolicyRule]) -> list[str]:
    gone, missing = _differences(_read_own(kernel, family), wanted)
    for rule in missing:
        _change(kernel, family, rule, _RTM_NEWRULE, NLM_F_CREATE | _NLM_F_EXCL)
    for rule in gone:
        _change(kernel, family, rule, _RTM_DELRULE, 0)
    return [f"ip rule {rule.priority}" for rule in (*missing, *gone)]


def _differences(
    own: Sequence[PolicyRule], wanted: Collection[PolicyRule]
) -> tuple[list[PolicyRule], list[PolicyRule]]:
    """Return those that have to go, doubles among them, and those that are missing."""
    left = list(own)
    missing = []
    for rule in wanted:
        if rule in left:
            left.remove(rule)
        else:
            missing.append(rule)
    return left, missing


def _told(rule: PolicyRule) -> str:
    return f"{rule.priority}: fwmark {rule.mark:#x}/{rule.mask:#x} lookup {rule.table}"


def _connect() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        kernel = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    except OSError as error:
        raise _explain("open a netlink socket", error.errno or 0) from error
    kernel.settimeout(_TIMEOUT_S)
    return kernel


def _read(kernel: socket.socket, family: Family) -> tuple[PolicyRule, ...]:
    for _ in range(_MOST_TRIES):
        rules, is_whole = _dump(kernel, family)
        if is_whole:
            return tuple(rules)
    raise UnavailableError("cannot read policy rules: other programs change them all the time")


def _dump(kernel: socket.socket, family: Family) -> tuple[list[PolicyRule], bool]:
    """Return the rules, and whether none was changed meanwhile."""
    header = _RULE.pack(_FAMILIES[family], 0, 0, 0, 0, 0, 0, 0, 0)
    rules, is_whole = list[PolicyRule](), True
    for data, kind, flags, start, end in _ask(
        kernel, "read policy rules", header, _RTM_GETRULE, NLM_F_DUMP
    ):
        is_whole = is_whole and not flags & NLM_F_DUMP_INTR
        if kind == NLMSG_DONE:
            break
        if kind == NLMSG_ERROR:
            number = error_number(data, start)
            if number in _NOT_HERE:
                break
            raise _explain("read policy rules", number)
        rules.append(parse_policy_rule(data, start - FRAME_BYTES + HEADER.size, end))
    return rules, is_whole


def _change(kernel: socket.socket, family: Family, rule: PolicyRule, kind: int, flags: int) -> None:
    what = f"{'make' if kind == _RTM_NEWRULE else 'delete'} ip rule {_told(rule)}"
    body = render_policy_rule(family, rule)
    for data, answer, _, start, _ in _ask(kernel, what, body, kind, flags | NLM_F_ACK):
        if answer == NLMSG_ERROR:
            number = error_number(data, start)
            # Made, or deleted, by another of us a moment before.
            if number not in (0, errno.EEXIST if kind == _RTM_NEWRULE else errno.ENOENT):
                raise _explain(what, number)
            return


def _ask(
    kernel: socket.socket, what: str, body: bytes, kind: int, flags: int
) -> Iterator[tuple[bytes, int, int, int, int]]:
    try:
        kernel.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body)
        while True:
            for data, answer, message, _, start, end in messages(kernel.recv(CHUNK_BYTES)):
                yield data, answer, message, start, end
    except TimeoutError as error:
        raise UnavailableError(f"cannot {what}: the kernel does not answer") from error
    except OSError as error:
        raise _explain(what, error.errno or 0) from error


def parse_policy_rule(data: bytes, start: int, end: int) -> PolicyRule:
    """Return the rule that the kernel tells of between `start` and `end` (struct fib_rule_hdr)."""
    _, to_bits, from_bits, tos, table, _, _, action, flags = _RULE.unpack_from(data, start)
    found = spans(data, start + _RULE.size, end)

    def number(kind: int, default: int = 0) -> int:
        return int(_NUMBER.unpack_from(data, found[kind][0])[0]) if kind in found else default

    def name(kind: int) -> str:
        return _value(data, found[kind]).rstrip(b"\0").decode() if kind in found else ""

    def network(kind: int, bits: int) -> Network | None:
        return ip_network((_value(data, found[kind]), bits)) if bits and kind in found else None

    others = {kind: _value(data, span) for kind, span in sorted(found.items()) if kind not in _READ}
    if others.get(_FRA_SUPPRESS_PREFIXLEN) == _UNSET:
        del others[_FRA_SUPPRESS_PREFIXLEN]
    return PolicyRule(
        priority=number(_FRA_PRIORITY),
        action=action,
        table=number(_FRA_TABLE, table),
        source=network(_FRA_SRC, from_bits),
        destination=network(_FRA_DST, to_bits),
        interface=name(_FRA_IIFNAME),
        out_interface=name(_FRA_OIFNAME),
        mark=number(_FRA_FWMARK),
        mask=number(_FRA_FWMASK),
        tos=tos,
        is_inverted=bool(flags & _INVERT),
        others=tuple(others.items()),
        unfit=tuple(_UNFIT[kind] for kind in others if kind in _UNFIT),
        protocol=data[found[_FRA_PROTOCOL][0]] if _FRA_PROTOCOL in found else None,
    )


def _value(data: bytes, span: Span) -> bytes:
    return data[slice(*span)]


def render_policy_rule(family: Family, rule: PolicyRule) -> bytes:
    """Return a rule of ours: without a source, not inverted."""
    to = rule.destination
    to_bits = to.prefixlen if to is not None else 0
    parts = [_RULE.pack(_FAMILIES[family], to_bits, 0, rule.tos, 0, 0, 0, rule.action, 0)]
    numbers = {
        _FRA_PRIORITY: rule.priority,
        _FRA_TABLE: rule.table,
        _FRA_FWMARK: rule.mark,
        _FRA_FWMASK: rule.mask,
    }
    parts += [attribute(kind, _NUMBER.pack(value)) for kind, value in numbers.items()]
    names = {_FRA_IIFNAME: rule.interface, _FRA_OIFNAME: rule.out_interface}
    parts += [attribute(kind, text.encode() + b"\0") for kind, text in names.items() if text]
    if to is not None:
        parts.append(attribute(_FRA_DST, to.network_address.packed))
    parts += [attribute(kind, value) for kind, value in rule.others]
    parts.append(attribute(_FRA_PROTOCOL, bytes([OWN_PROTOCOL])))
    return b"".join(parts)


def _explain(what: str, number: int) -> ParagliderError:
    message = f"cannot {what}: {os.strerror(number)}"
    if number in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{message}\n{grant_mend('NET_ADMIN')}")
    if number in (*_NOT_HERE, errno.EPROTONOSUPPORT, errno.EINVAL):
        # Without CONFIG_IP_MULTIPLE_TABLES, or older than an attribute that is sent.
        message += "\nthis kernel does not take policy rules of this kind: set return_path: plain"
    return UnavailableError(message)


class PolicyWatch:
    """The policy rules as they are now: read once, and again when the kernel tells of a change."""

    def __init__(
        self, *, report: Report = lambda _: None, read: Callable[[], Policy] = read_policy
    ) -> None:
        self._report = report
        self._read = read
        self._feed: socket.socket | None = None
        self._known: Policy | None = None
        self._told = ""

    def listen(self) -> int:
        """Begin to hear of changes; return the file that is readable when there is one, -1 where
        the kernel tells nobody."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._feed = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            self._feed.bind((0, _GROUPS))
        except OSError:
            self.close()
            return -1
        self._known = None
        return self._feed.fileno()

    def hear(self) -> None:
        """Take in what the kernel has told: all rules are read again."""
        while self._feed is not None:
            try:
                self._feed.recv(CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than it holds: read on
                    break
        self._known = None

    def rules(self) -> Policy:
        """Return the rules; none where they cannot be read, which is reported once."""
        if self._known is not None and self._feed is not None:
            return self._known
        try:
            self._known, self._told = self._read(), ""
        except ParagliderError as error:
            if str(error) != self._told:
                self._report(str(error))
            self._known, self._told = NO_POLICY, str(error)
        return self._known

    def close(self) -> None:
        """Hear no more."""
        if self._feed is not None:
            self._feed.close()
        self._feed = None
