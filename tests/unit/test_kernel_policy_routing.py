"""Policy rules as rtnetlink has them, and a watch that reads them again after a change."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest

from paraglider.config.model import Family
from paraglider.errors import UnavailableError
from paraglider.kernel.policy_routing import (
    PolicyWatch,
    differing_policy,
    parse_policy_rule,
    render_policy_rule,
)
from paraglider.rules.policy_rules import MARK_MASK, FamilyPolicy, Policy, PolicyRule
from paraglider.rules.state import State

_OWN = PolicyRule(
    priority=1000,
    action=1,
    table=70_000,
    destination=ip_network("198.51.100.0/24"),
    interface="eth1",
    mark=0x21000005,
    mask=MARK_MASK | 0xFF,
    tos=0x10,
    others=((14, bytes(4)), (22, b"\x06")),
    protocol=80,
)


def test_a_rule_of_ours_is_read_back_as_it_was_made() -> None:
    """With each attribute, also those that are only copied."""
    data = render_policy_rule(Family.IPV4, _OWN)
    found = parse_policy_rule(data, 0, len(data))
    assert found == _OWN
    assert found.is_own


def test_selectors_that_an_answer_does_not_have_are_named() -> None:
    """As the kernel tells of a rule ``not from 2001:db8::/32 uidrange 0-9 sport 80-80``, with all
    that it always tells; what is not set is left out."""
    address = ip_network("2001:db8::/32").network_address.packed
    attributes = [
        (2, address),
        (6, struct.pack("=I", 9)),
        (14, b"\xff" * 4),
        (15, struct.pack("=I", 254)),
        (20, struct.pack("=II", 0, 9)),
        (21, b"\x03"),
        (23, struct.pack("=HH", 80, 80)),
    ]
    data = struct.pack("=BBBBBBBBI", 10, 0, 32, 0, 254, 0, 0, 1, 2)
    for kind, value in attributes:
        data += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    found = parse_policy_rule(data, 0, len(data))
    assert (found.priority, found.table, found.source) == (9, 254, ip_network("2001:db8::/32"))
    assert found.is_inverted
    assert found.unfit == ("uidrange", "sport")
    assert [kind for kind, _ in found.others] == [20, 23]
    assert not found.is_own


def test_what_cannot_be_read_is_told_once_and_is_nothing() -> None:
    """Each time that it is asked for; connections are balanced all the same."""
    reason: list[str] = []

    def read() -> Policy:
        raise UnavailableError("cannot read policy rules")

    watch = PolicyWatch(report=reason.append, read=read)
    assert [watch.rules(), watch.rules()] == [{}, {}]
    assert reason == ["cannot read policy rules"]


@pytest.mark.parametrize("is_listening", [True, False])
def test_rules_are_read_again_once_there_may_be_others(*, is_listening: bool) -> None:
    """After a change was heard; each time where nothing is ever heard."""
    reads: list[Policy] = []

    def read() -> Policy:
        reads.append({Family.IPV4: FamilyPolicy([_OWN] * len(reads))})
        return reads[-1]

    watch = PolicyWatch(read=read)
    if is_listening:
        assert watch.listen() >= 0
    first, second = watch.rules(), watch.rules()
    assert (first is second) is is_listening
    watch.hear()
    assert watch.rules() is not second
    watch.close()


def test_differences_are_told_as_lines() -> None:
    """Those that have to go, doubles among them, and those that are missing."""
    wanted = PolicyRule(priority=7, action=1, table=2, mark=0x20000000, mask=MARK_MASK)
    states = {Family.IPV4: State({}, policy_rules=(wanted,))}
    live = {Family.IPV4: FamilyPolicy([_OWN])}
    assert differing_policy(live, states) == {
        Family.IPV4: [
            "ip rule",
            "- 1000: fwmark 0x21000005/0x3f0000ff lookup 70000",
            "+ 7: fwmark 0x20000000/0x3f000000 lookup 2",
        ]
    }
    assert differing_policy({}, {}) == {}
