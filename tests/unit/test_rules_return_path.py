"""Which answers get which mark, and which policy rules of the host are copied for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from paraglider.config.model import Bind, Endpoint, Family, Ports
from paraglider.health.service import Member, Service, Share
from paraglider.rules.parse import parse_rule
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.policy_rules import (
    MARK_MASK,
    MOST_PREFIXES,
    OWN_PROTOCOL,
    FamilyPolicy,
    Policy,
    PolicyRule,
    ReturnPlan,
    find_tables,
    plan_return,
)
from paraglider.rules.return_path import plan_marking
from paraglider.rules.ruleset import SetMark, TableName
from paraglider.rules.state import LAST, parse_save
from paraglider.rules.text import render_rule
from paraglider.rules.wanted import plan_states
from tests.services import service_of

_TO_TABLE = 1  # FR_ACT_TO_TBL


def _rule(source: str = "", **more: Any) -> PolicyRule:
    network = ip_network(source) if source else None
    fields = {"priority": 1000, "action": _TO_TABLE, "table": 2, "source": network} | more
    return PolicyRule(**fields)


def _bind(address: str | None, port: int = 80, interface: str = "") -> Bind:
    at = ip_address(address) if address else None
    return Bind(Family.IPV4, Ports(port, port), address=at, interface=interface)


def _plan(binds: Sequence[Bind], rules: Sequence[PolicyRule]) -> ReturnPlan:
    return plan_return(binds, FamilyPolicy(rules))


def _policy(*rules: PolicyRule) -> Policy:
    return {Family.IPV4: FamilyPolicy(rules)}


def _mark(prefix: str, binds: Sequence[Bind], rules: Sequence[PolicyRule]) -> int:
    return _plan(binds, rules).marks[ip_network(prefix)]


_AT_2 = (_bind("203.0.113.2"),)
_FROM_2 = _rule("203.0.113.2/32")


def test_a_rule_from_the_binds_address_is_copied_to_its_place() -> None:
    """The copy goes by the mark instead of the source, and says that it is ours."""
    plan = _plan(_AT_2, [_FROM_2])
    (mark,) = plan.marks.values()
    (copy,) = plan.rules
    assert copy == replace(_FROM_2, source=None, mark=mark, mask=MARK_MASK)
    assert copy.is_own
    assert plan.problems == ()


@pytest.mark.parametrize(
    "rule",
    [
        _rule("203.0.113.3/32"),
        _rule(),
        _rule(destination=ip_network("203.0.113.0/24")),
        _rule(mark=1, mask=0xFFFFFFFF),
        _rule("203.0.113.2/32", interface="eth1"),
        _rule("203.0.113.2/32", out_interface="eth1"),
        _rule("203.0.113.2/32", others=((20, bytes(8)),), unfit=("uidrange",)),
        _rule("198.51.100.0/24", is_inverted=True),
    ],
    ids=["other", "all", "to", "fwmark", "iif", "oif", "uidrange", "not"],
)
def test_what_the_hosts_own_answers_do_not_follow_is_not_copied(rule: PolicyRule) -> None:
    """Nor is it told of."""
    plan = _plan(_AT_2, [rule])
    assert (dict(plan.marks), plan.rules, plan.problems) == ({}, (), ())


def test_other_selectors_stay_and_that_of_the_hosts_own_packets_goes() -> None:
    """`to`, `tos`, `ipproto` and what follows from a match are the same for an answer; ``iif lo``
    means what comes from this host."""
    rule = _rule(
        "203.0.113.0/24",
        destination=ip_network("198.51.100.0/24"),
        interface="lo",
        tos=0x10,
        others=((22, b"\x06"), (14, bytes(4))),
    )
    plan = _plan(_AT_2, [rule])
    (mark,) = plan.marks.values()
    assert plan.rules == (replace(rule, source=None, interface="", mark=mark, mask=MARK_MASK),)


def test_several_rules_for_an_address_keep_their_order_under_one_mark() -> None:
    """Of nested prefixes the narrowest has the mark, and the rules for both."""
    rules = [_rule("203.0.0.0/16", priority=10, table=5), _FROM_2]
    plan = _plan(_AT_2, rules)
    (prefix,) = plan.marks
    assert prefix == ip_network("203.0.113.2/32")
    assert [(copy.priority, copy.table) for copy in plan.rules] == [(10, 5), (1000, 2)]


def test_each_address_has_a_mark_of_its_own_that_stays() -> None:
    """Whether or not there are rules and binds for another."""
    both = (*_AT_2, _bind("192.0.2.2"))
    rules = [_FROM_2, _rule("192.0.2.2/32", table=3)]
    plan = _plan(both, rules)
    assert len(set(plan.marks.values())) == 2
    assert _mark("203.0.113.2/32", _AT_2, rules) == plan.marks[ip_network("203.0.113.2/32")]


@pytest.mark.parametrize("interface", ["", "eth1"])
def test_a_bind_of_any_address_may_be_in_every_prefix(interface: str) -> None:
    """Wide ones are marked first, so that a narrower one has the last word."""
    rules = [_FROM_2, _rule("203.0.113.0/24", table=3)]
    plan = _plan([_bind(None, interface=interface)], rules)
    assert [prefix.prefixlen for prefix in plan.marks] == [24, 32]
    assert [copy.table for copy in plan.rules] == [2, 3, 3]


def test_a_rule_for_a_mark_of_the_hosts_is_copied_where_it_compares_our_bits() -> None:
    """One that leaves our bits out matches as before; its copy has both marks."""
    whole = _rule(mark=5, mask=0xFFFFFFFF, priority=900, table=5)
    part = _rule(mark=0x100, mask=0x3F00, priority=901, table=6)
    unmarked = _rule("203.0.113.2/32", mark=0, mask=0xFF)
    plan = _plan(_AT_2, [whole, part, unmarked])
    (mark,) = plan.marks.values()
    assert plan.rules == (
        replace(whole, mark=5 | mark),
        replace(unmarked, source=None, mark=mark, mask=0xFF | MARK_MASK),
    )


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (
            _rule("203.0.113.0/24", unfit=("sport",)),
            "ip rule 1000: from 203.0.113.0/24: it goes by",
        ),
        (
            _rule("203.0.113.2/32", is_inverted=True),
            "ip rule 1000: not from 203.0.113.2: it is inv",
        ),
    ],
    ids=["sport", "not"],
)
def test_what_cannot_be_followed_is_told(rule: PolicyRule, reason: str) -> None:
    """Beside what can."""
    plan = _plan(_AT_2, [rule, _FROM_2])
    assert len(plan.rules) == 1
    (problem,) = plan.problems
    assert problem.startswith(reason)


@pytest.mark.parametrize(
    "rule",
    [
        _rule(mark=0x21000000, mask=0xFFFFFFFF),
        _rule(mark=0x01000000, mask=0x0F000000),
        _rule(mark=0, mask=0xFFFFFFFF, is_inverted=True),
    ],
)
def test_nothing_is_marked_where_the_host_uses_our_bits(rule: PolicyRule) -> None:
    """It would be routed by its rule for them."""
    plan = _plan(_AT_2, [_FROM_2, rule])
    assert (dict(plan.marks), plan.rules, len(plan.problems)) == ({}, (), 1)


def test_nothing_is_marked_where_the_kernel_does_not_keep_whose_a_rule_is() -> None:
    """No rule of others may be taken for ours."""
    plan = _plan(_AT_2, [replace(_FROM_2, protocol=None)])
    assert (dict(plan.marks), plan.rules) == ({}, ())
    assert "4.17" in plan.problems[0]
    lookalike = _rule(mark=0x21000000, mask=0xFFFFFFFF, protocol=None)
    assert not lookalike.is_own


def test_there_are_marks_for_so_many_prefixes() -> None:
    """The rest is told of."""
    rules = [_rule(f"10.0.{n}.0/24", table=n) for n in range(MOST_PREFIXES + 1)]
    plan = _plan([_bind(None)], rules)
    assert len(set(plan.marks.values())) == len(plan.rules) == MOST_PREFIXES
    assert "of all 33 addresses" in plan.problems[0]


def _service(*binds: Bind, **more: Any) -> Service:
    backend = Endpoint(ip_address("10.0.0.9"), 80)
    found = service_of(
        "web",
        Endpoint(ip_address("203.0.113.2"), 80),
        ip_address("10.0.0.4"),
        [Member(backend)],
        [Share(backend)],
        **more,
    )
    return replace(found, binds=binds) if binds else found


def test_only_binds_with_rules_are_looked_up() -> None:
    """And not those of a frontend with ``return_path: plain``."""
    plain = _service(_bind("203.0.113.2", 81), is_policy_routed=False)
    marks = _plan(_AT_2, [_FROM_2]).marks
    chains = plan_marking([_service(*_AT_2, _bind("192.0.2.2")), plain], marks)
    (rule,) = chains[0].rules
    assert (rule.ct_address, rule.ct_ports) == (ip_address("203.0.113.2"), Ports(80, 80))
    assert plan_marking([plain], marks) == []


def test_marks_and_policy_rules_are_planned_together() -> None:
    """The state has both; what iptables-save prints of it is read back as the same, with the jump
    in PREROUTING behind those of others."""
    services = [_service()]
    (state,) = plan_states(services, policy=_policy(_FROM_2)).values()
    assert len(state.policy_rules) == 1
    mangle = state.table(TableName.MANGLE)
    (last,) = (h for h in mangle.hooks if h.position == LAST and h.chain == "PREROUTING")
    lines = ["*mangle", *(f":{chain} - [0:0]" for chain in mangle.chains)]
    lines += ["-A PREROUTING -j SOMEBODY", f"-A PREROUTING {last.text}"]
    lines += [f"-A {hook.chain} {hook.text}" for hook in mangle.hooks if hook != last]
    lines += [f"-A {c} {rule.text}" for c, rules in mangle.chains.items() for rule in rules]
    assert parse_save("\n".join([*lines, "COMMIT"])).table(TableName.MANGLE) == mangle
    lines.append("-A PREROUTING -j OTHER")
    found = parse_save("\n".join([*lines, "COMMIT"])).table(TableName.MANGLE)
    assert found.hooks != mangle.hooks


def test_without_rules_for_a_bind_the_plan_is_what_it_was() -> None:
    """To the byte."""
    services = [_service()]
    assert plan_states(services, policy=_policy(_rule())) == plan_states(services)
    (ruleset,) = plan_rulesets(services)
    assert ruleset.table(TableName.MANGLE).hooks == ()


@pytest.mark.parametrize(
    "text",
    [
        "-m conntrack --ctstate DNAT --ctproto 6 --ctorigdst 203.0.113.2 --ctorigdstport 80"
        " --ctdir REPLY -j PARAGLIDER-UPLINK",
        "-m conntrack --ctorigdst 203.0.113.0/24 -j MARK --set-xmark 0x2d000000/0x3f000000",
        "-m conntrack --ctstate DNAT --ctdir REPLY -m mark ! --mark 0x0/0x3f000000 -j MARK"
        " --set-xmark 0x0/0x3f000000",
    ],
)
def test_the_rules_are_of_our_grammar(text: str) -> None:
    """Read and written back as they were."""
    assert render_rule(parse_rule(text)) == text


def test_a_whole_mark_is_cleared_in_the_words_that_it_always_was() -> None:
    """It is another target than a mark of some bits."""
    assert isinstance(parse_rule("-j MARK --set-xmark 0x1/0x3").target, SetMark)
    cleared = parse_rule("-j MARK --set-xmark 0x0/0xffffffff").target
    assert not isinstance(cleared, SetMark)


def test_status_finds_the_tables_of_each_prefix_and_what_is_missing() -> None:
    """Copies that are gone, and those whose rule is gone."""
    plan = _plan(_AT_2, [_FROM_2])
    marks = {Family.IPV4: plan.marks}
    prefix = ip_network("203.0.113.2/32")
    copies = [replace(rule, protocol=OWN_PROTOCOL) for rule in plan.rules]
    assert find_tables(_policy(_FROM_2, *copies), marks) == ({prefix: (2,)}, True)
    assert find_tables(_policy(_FROM_2), marks) == ({prefix: ()}, False)
    assert find_tables(_policy(*copies), marks) == ({prefix: (2,)}, False)
    assert find_tables(_policy(*copies), {}) == ({}, False)


def test_where_the_kernel_routes_sources_by_mark_the_backend_is_found_first() -> None:
    """By one rule before all copies, whatever their marks, that leaves out the default route; it
    is ours, and no table of a prefix."""
    policy = FamilyPolicy([_FROM_2], is_mark_checked=True)
    plan = plan_return(_AT_2, policy)
    first, copy = plan.rules
    assert first.is_own
    assert (first.priority, first.table, first.mark & first.mask & copy.mark) == (
        999,
        254,
        first.mark,
    )
    checked = {Family.IPV4: FamilyPolicy([_FROM_2, *plan.rules], is_mark_checked=True)}
    marks = {Family.IPV4: plan.marks}
    assert find_tables(checked, marks) == ({ip_network("203.0.113.2/32"): (2,)}, True)
    assert find_tables(_policy(_FROM_2, copy), marks)[1]
    assert plan_return(_AT_2, FamilyPolicy([], is_mark_checked=True)).rules == ()
