"""Apply: make the kernel hold the wanted rules, or nothing of ours.

Both families and all tables come up together: when anything fails, what was ours before is put
back. Nothing here decides what the rules are or when to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from paraglider.config.model import Family
from paraglider.errors import ParagliderError, PermissionDenied, UnavailableError
from paraglider.kernel.host import NET_ADMIN, NET_RAW, Host
from paraglider.kernel.iptables import Iptables, Variant, find_iptables, permission_mend
from paraglider.kernel.nat_anchor import find_anchor
from paraglider.kernel.variant import find_all
from paraglider.rules.restore import lint_restore, plan_restore
from paraglider.rules.ruleset import Ruleset
from paraglider.rules.state import NOTHING, State, state_of_ruleset

Report = Callable[[str], None]

_NO_NFT = (
    "nft is not installed: established connections would not survive 'nft delete table ip nat', "
    "and tables that iptables creates stay behind, empty, at stop: apt-get install nftables"
)


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be done in one family."""

    tools: Iptables
    before: State
    wanted: State
    text: str


def apply_rulesets(
    rulesets: Sequence[Ruleset], *, variant: Variant, host: Host, report: Report
) -> bool:
    """Make the kernel hold exactly `rulesets`; return whether anything had to be changed.

    `report` is told what was done beside it (forwarding switched on, protection that is not to be
    had). Raises PermissionDenied or UnavailableError, with the rules as they were before.
    """
    require_capabilities(host, variant)
    wanted = {ruleset.family: state_of_ruleset(ruleset) for ruleset in rulesets}
    steps = [
        _plan_step(tools, before, wanted.get(tools.family, NOTHING))
        for tools, before in _read_all(variant, wanted, host)
    ]
    for step in steps:
        if step.text:
            step.tools.test_restore(step.text)
    for family in wanted:
        if host.enable_forwarding(family):
            report(f"IPv{family.value} forwarding was off; switched on, for the whole host")
    is_anchored = variant is Variant.NFT and _put_anchors(steps, report)
    changed = [step for step in steps if step.text]
    _write(changed)
    for step in changed:
        _verify(step)
        if step.wanted.is_empty and variant is Variant.NFT:
            _remove_anchor(step.tools, step.before)
    is_moved = _leave_other_variant(variant, host, report)
    return bool(changed) or is_anchored or is_moved


def _leave_other_variant(variant: Variant, host: Host, report: Report) -> bool:
    """Take away what an earlier start put into the other variant."""
    other = [tools for tools in find_all(host) if tools.variant is not variant]
    try:
        return remove_from(other, report=report)
    except UnavailableError:
        return False  # the kernel does not have it: there is nothing of ours


def remove_rules(*, host: Host, report: Report) -> bool:
    """Take away whatever is ours, in both variants and families; return whether there was any."""
    require_capabilities(host, Variant.NFT)
    return remove_from(find_all(host), report=report)


def remove_from(all_tools: Sequence[Iptables], *, report: Report) -> bool:
    """Take away what is ours from the tables that `all_tools` read; return whether there was any.

    Tables that this process may not read are reported, those that the kernel does not have are
    passed over; where none at all can be read, the first error is raised.
    """
    found, failures = False, list[ParagliderError]()
    for tools in all_tools:
        try:
            state = tools.read_state()
        except ParagliderError as error:
            failures.append(error)
            if isinstance(error, PermissionDenied):
                report(f"rules of iptables ({tools.variant.value}), if any, stay: {error}")
            continue
        text = plan_restore(state, NOTHING)
        lint_restore(text)
        if text:
            tools.apply_restore(text)
        anchored = tools.variant is Variant.NFT and _remove_anchor(tools, state)
        found = found or bool(text) or anchored
    if failures and len(failures) == len(all_tools):
        raise failures[0]
    return found


def read_states(variant: Variant, host: Host) -> Mapping[Family, State]:
    """Return what is ours in each family that has anything."""
    require_capabilities(host, variant)
    states = {tools.family: state for tools, state in _read_all(variant, (), host)}
    return MappingProxyType({f: state for f, state in states.items() if not state.is_empty})


def require_capabilities(host: Host, variant: Variant) -> None:
    """Raise PermissionDenied where this process may not touch the rules of `variant`."""
    if not host.has_capability(NET_ADMIN) or (
        variant is Variant.LEGACY and not host.has_capability(NET_RAW)
    ):
        raise PermissionDenied(
            f"this process may not read or change the host's rules\n{permission_mend(variant)}"
        )


def _read_all(
    variant: Variant, wanted: Collection[Family], host: Host
) -> Sequence[tuple[Iptables, State]]:
    """Return the tools of each family with what is ours there.

    A family that is not wanted is passed over where the kernel does not have it.
    """
    found = {tools.family: tools for tools in find_all(host) if tools.variant is variant}
    for family in wanted:
        found.setdefault(family, find_iptables(variant, family))
    read = []
    for family, tools in sorted(found.items()):
        try:
            read.append((tools, tools.read_state()))
        except UnavailableError:
            # At least one must be readable, or "nothing is running" would be a guess.
            if family in wanted or family is Family.IPV4:
                raise
    return read


def _plan_step(tools: Iptables, before: State, wanted: State) -> _Step:
    text = plan_restore(before, wanted)
    lint_restore(text)
    return _Step(tools, before, wanted, text)


def _put_anchors(steps: Sequence[_Step], report: Report) -> bool:
    """Make the anchor of each wanted family whole; return whether one was not."""
    changed = False
    for step in steps:
        anchor = find_anchor(step.tools.family)
        if step.wanted.is_empty or anchor.is_whole():
            continue
        if anchor.nft_path is None:
            if step.text:
                report(_NO_NFT)
            continue
        names = {name.value for name in step.wanted.tables}
        # Where ours are there without an anchor, nobody knows any more who made the tables.
        anchor.put(names - step.before.existing if step.before.is_empty else ())
        changed = True
    return changed


def _remove_anchor(tools: Iptables, before: State) -> bool:
    anchor = find_anchor(tools.family)
    if anchor.read() is None:
        return False
    made = anchor.made_tables()
    anchor.remove()
    for name, table in before.tables.items():
        if name.value in made and table.is_bare:
            anchor.delete_table(name.value)
    return True


def _write(steps: Sequence[_Step]) -> None:
    done: list[_Step] = []
    try:
        for step in steps:
            done.append(step)
            step.tools.apply_restore(step.text)
    except ParagliderError:
        for step in reversed(done):
            _roll_back(step)
        raise


def _roll_back(step: _Step) -> None:
    """Put back what was ours before; iptables-restore is atomic for one table, not for three."""
    now = step.tools.read_state()
    # Not linted: it may hold what a stranger had put into our chains, and it came from the kernel.
    text = plan_restore(now, step.before)
    if text:
        step.tools.apply_restore(text)
    if step.before.is_empty and step.tools.variant is Variant.NFT:
        _remove_anchor(step.tools, now)


def _verify(step: _Step) -> None:
    left = plan_restore(step.tools.read_state(), step.wanted)
    if left:
        raise ParagliderError(
            "the kernel does not hold what was applied; another program changed the rules at the "
            f"same time, or iptables prints them in a way unknown here. Still to do:\n{left}"
        )
