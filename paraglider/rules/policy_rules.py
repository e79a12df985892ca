"""Policy rules: which rules of the host's routing policy answers have to follow, and their copies.

Pure: the rules of the host come in as values (kernel/policy_routing.py reads and writes them).
Which packets get the marks that the copies go by, and what all this is for, is in return_path.py.
Imports no rules of iptables: `check` has no need of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from paraglider.config.clients import Network
from paraglider.config.model import Address, Bind, Family

# Bits that others do not use by default: Kubernetes has 0xc000, Tailscale 0xff0000, mwan3 0x3f00,
# wg-quick 0xca6c, scripts small numbers. One bit says that a mark is ours, five are its number.
MARK_MASK = 0x3F000000
_FLAG = 0x20000000
_UNIT = 0x01000000
MOST_PREFIXES = 32
# rtm_protocol of our policy rules; in no list of known ones (linux/rtnetlink.h, rt_protos).
OWN_PROTOCOL = 80
# FR_ACT_TO_TBL, RT_TABLE_MAIN, FRA_SUPPRESS_PREFIXLEN (linux/fib_rules.h, linux/rtnetlink.h)
_TO_TABLE, _MAIN, _SUPPRESS_PREFIX = 1, 254, 14


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """A rule of the routing policy (ip-rule(8)), in the kernel's terms (linux/fib_rules.h).

    `source` and `destination` None are any; `mark` and `mask` 0 are any mark. `others` are
    attributes beside these, as (number, value); `unfit` names selectors among them that an answer
    of a balanced connection cannot be matched by. `protocol` is who made the rule, None where the
    kernel does not tell.
    """

    priority: int
    action: int
    table: int
    source: Network | None = None
    destination: Network | None = None
    interface: str = ""
    out_interface: str = ""
    mark: int = 0
    mask: int = 0
    tos: int = 0
    is_inverted: bool = False
    others: tuple[tuple[int, bytes], ...] = ()
    unfit: tuple[str, ...] = field(default=(), compare=False)
    protocol: int | None = field(default=0, compare=False)

    @property
    def is_own(self) -> bool:
        """Whether Paraglider made it."""
        return self.protocol == OWN_PROTOCOL and bool(self.mark & self.mask & _FLAG)


@dataclass(frozen=True, slots=True)
class ReturnPlan:
    """For one family: the mark of each prefix that clients' destinations are in, the policy rules
    that go by these marks, in the order of the host's own, and one sentence for each rule of the
    host that answers do not follow."""

    marks: Mapping[Network, int]
    rules: tuple[PolicyRule, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FamilyPolicy:
    """The policy rules of one family, in the order in which the kernel goes through them. Where
    `is_mark_checked`, the kernel drops a packet whose source, with its mark, is not routed to where
    it came in (ip-sysctl: rp_filter 1 with src_valid_mark 1)."""

    rules: Sequence[PolicyRule] = ()
    is_mark_checked: bool = False


Policy = Mapping[Family, FamilyPolicy]
NO_POLICY: Policy = {}
NO_FAMILY_POLICY = FamilyPolicy()
NO_MARKS: Mapping[Network, int] = {}
NO_RETURN_PLAN = ReturnPlan(NO_MARKS)


def plan_return(binds: Sequence[Bind], policy: FamilyPolicy) -> ReturnPlan:
    """Return what answers of connections to `binds`, all of the family of `policy`, need."""
    host = [rule for rule in policy.rules if not rule.is_own]
    by_source = [rule for rule in host if _is_by_source(rule)]
    if not by_source or not binds:
        return NO_RETURN_PLAN
    followed = [rule for rule in by_source if not _refusal(rule)]
    concerned = [rule for rule in by_source if _meets(rule, binds)]
    problems = [f"{_named(rule)}: {why}" for rule in concerned if (why := _refusal(rule))]
    prefixes = _prefixes(binds, followed)
    if prefixes and any(rule.protocol is None for rule in host):
        left_out = "any policy rule: this kernel (before 4.17) does not keep which of them are ours"
        return ReturnPlan(NO_MARKS, (), (left_out,))
    if prefixes and (taken := [rule for rule in host if _takes_our_bits(rule)]):
        left_out = f"it uses bits of the mark that Paraglider uses ({MARK_MASK:#x})"
        return ReturnPlan(NO_MARKS, (), (f"{_named(taken[0])}: {left_out}", *problems))
    if len(prefixes) > MOST_PREFIXES:
        problems.append(
            f"the policy rules of all {len(prefixes)} addresses and networks that have any: of "
            f"{MOST_PREFIXES} at most"
        )
    marks = _give_marks(prefixes[:MOST_PREFIXES])
    return ReturnPlan(marks, copy_rules(policy, marks), tuple(problems))


# Where the kernel routes the source of an answer, with our mark, as a check, it looks for the
# backend. The copies lead to an uplink; before them, what has a route of its own is found:
#
#   999:  from all fwmark 0x20000000/0x20000000 lookup main suppress_prefixlength 0 proto 80
#
# Not elsewhere: it finds clients in networks with a route of their own, too, and the host's own
# answers to them go by the host's rules.


def copy_rules(policy: FamilyPolicy, marks: Mapping[Network, int]) -> tuple[PolicyRule, ...]:
    """Return the rules that do for packets with our `marks` what the host's do for its own."""
    host = (rule for rule in policy.rules if not rule.is_own)
    copies = tuple(copy for rule in host for copy in _copies(rule, marks))
    if not copies or not policy.is_mark_checked:
        return copies
    first = PolicyRule(
        priority=max(0, min(copy.priority for copy in copies) - 1),
        action=_TO_TABLE,
        table=_MAIN,
        mark=_FLAG,
        mask=_FLAG,
        others=((_SUPPRESS_PREFIX, bytes(4)),),
        protocol=OWN_PROTOCOL,
    )
    return (first, *copies)


def find_tables(
    policy: Policy, marks: Mapping[Family, Mapping[Network, int]]
) -> tuple[dict[Network, tuple[int, ...]], bool]:
    """Return, for each prefix of `marks`, the routing tables of our policy rules, in their order;
    and whether these rules are all that there should be for the marks, and no others."""
    tables: dict[Network, tuple[int, ...]] = {}
    is_whole = True
    for family, found in policy.items():
        own = [rule for rule in found.rules if rule.is_own]
        of_family = marks.get(family, NO_MARKS)
        is_whole = is_whole and set(own) == set(copy_rules(found, of_family))
        copies = [r for r in own if r.mask & MARK_MASK == MARK_MASK and r.table]
        for prefix, mark in of_family.items():
            tables[prefix] = tuple(r.table for r in copies if r.mark & MARK_MASK == mark)
    return tables, is_whole


def find_problems(binds: Iterable[Bind], policy: Policy) -> list[str]:
    """Return which policy rules of the host answers of `binds` cannot follow, and why."""
    binds = list(binds)
    plans = (
        plan_return([b for b in binds if b.family is family], found)
        for family, found in policy.items()
    )
    return [problem for plan in plans for problem in plan.problems]


def _is_by_source(rule: PolicyRule) -> bool:
    """Return whether what the host itself sends from some address is routed by the rule. One with
    an incoming interface other than lo is for forwarded packets, and sees answers as they are; one
    with an outgoing interface is for programs that chose that; users are programs' too."""
    is_for_hosts_own = rule.interface in ("", "lo") and not rule.out_interface
    return rule.source is not None and is_for_hosts_own and "uidrange" not in rule.unfit


def _refusal(rule: PolicyRule) -> str:
    """Return why answers cannot follow a rule, '' where they can."""
    if rule.is_inverted:
        return "it is inverted ('not')"
    if rule.unfit:
        return f"it goes by {' and '.join(rule.unfit)}"
    return ""


def _named(rule: PolicyRule) -> str:
    source = f" from {as_matched(rule.source)}" if rule.source is not None else ""
    mark = f" fwmark {rule.mark:#x}/{rule.mask:#x}" if rule.mask else ""
    return f"ip rule {rule.priority}:{' not' if rule.is_inverted else ''}{source}{mark}"


def _meets(rule: PolicyRule, binds: Iterable[Bind]) -> bool:
    prefix = rule.source
    return prefix is not None and any(
        bind.address is None or bind.address in prefix for bind in binds
    )


def _takes_our_bits(rule: PolicyRule) -> bool:
    """Return whether a rule would take our mark for one of the host's, or not match because of it
    and have no copy that does."""
    overlaps = bool(rule.mask & MARK_MASK)
    return overlaps and (bool(rule.mark & MARK_MASK) or (rule.is_inverted and not rule.mark))


def _prefixes(binds: Iterable[Bind], rules: Iterable[PolicyRule]) -> list[Network]:
    """Return the prefixes of `rules` that tell the clients' destinations apart, wide ones first: of
    a bind of any address all, of an address the narrowest that it is in."""
    found = sorted({r.source for r in rules if r.source is not None}, key=_width)
    if any(bind.address is None for bind in binds):
        return found
    addresses = {bind.address for bind in binds if bind.address is not None}
    narrowest = {
        max(around, key=lambda prefix: prefix.prefixlen)
        for address in addresses
        if (around := [prefix for prefix in found if address in prefix])
    }
    return sorted(narrowest, key=_width)


def _width(prefix: Network) -> tuple[int, int]:
    return prefix.prefixlen, int(prefix.network_address)


def _give_marks(prefixes: Iterable[Network]) -> Mapping[Network, int]:
    """Return a mark for each prefix: by its own hash, so that it keeps its mark while others come
    and go, unless they collide."""
    marks: dict[Network, int] = {}
    taken: set[int] = set()
    for prefix in prefixes:
        number = blake2b(str(prefix).encode(), digest_size=1).digest()[0] % MOST_PREFIXES
        while number in taken:
            number = (number + 1) % MOST_PREFIXES
        taken.add(number)
        marks[prefix] = _FLAG | number * _UNIT
    return marks


def _copies(rule: PolicyRule, marks: Mapping[Network, int]) -> Iterator[PolicyRule]:
    """Yield the copies of a rule of the host: one for each mark of a prefix within its source; of a
    rule that goes by a mark of the host's, one for each mark of ours that it would not match."""
    if _is_by_source(rule) and rule.source is not None:
        if not _refusal(rule):
            within = (m for prefix, m in marks.items() if _is_within(prefix, rule.source))
            yield from (replace(_copy(rule, m), source=None, interface="") for m in within)
    elif rule.mask & MARK_MASK and not rule.is_inverted:
        yield from (_copy(rule, mark) for mark in marks.values())


def _copy(rule: PolicyRule, mark: int) -> PolicyRule:
    return replace(
        rule, mark=rule.mark | mark, mask=rule.mask | MARK_MASK, unfit=(), protocol=OWN_PROTOCOL
    )


def _is_within(prefix: Network, around: Network) -> bool:
    return prefix.prefixlen >= around.prefixlen and prefix.network_address in around


def as_matched(prefix: Network) -> Address | Network:
    """Return a prefix as rules have it: of one address, the address."""
    is_host = prefix.prefixlen == prefix.max_prefixlen
    return prefix.network_address if is_host else prefix
