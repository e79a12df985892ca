"""Apply: make the kernel hold the wanted rules.

Both families and all tables come up together: when anything fails, what was ours before is put
back. Nothing here decides what the rules are or when to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from paraglider.config.model import Family
from paraglider.errors import NotHereError, ParagliderError, UnavailableError
from paraglider.kernel.client_sets import client_sets
from paraglider.kernel.conntrack_table import shorten_time_wait
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Iptables, Variant, find_iptables
from paraglider.kernel.lock import defer_signals
from paraglider.kernel.nat_anchor import find_anchor
from paraglider.kernel.policy_routing import policy_rules
from paraglider.kernel.removal import remove_anchor, remove_from
from paraglider.kernel.variant import find_all, require_capabilities
from paraglider.rules.restore import check_restore, is_complete, plan_restore
from paraglider.rules.state import NOTHING, State

Report = Callable[[str], None]

_NO_NFT = (
    "nft is not installed: established connections would not survive 'nft delete table ip nat', "
    "and tables that iptables creates stay behind, empty, at stop: apt-get install nftables"
)


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done in one family; `text` is '' where the rules are as wanted."""

    tools: Iptables
    before: State
    wanted: State
    text: str


def apply_states(
    wanted: Mapping[Family, State], *, variant: Variant, host: Host, report: Report
) -> bool:
    """Make the kernel hold exactly what is `wanted`; return whether anything had to be changed.

    `report` is told what was done beside it (forwarding switched on, protection that is not to be
    had). Raises PermissionDenied or UnavailableError, with the rules as they were before. The
    caller holds the rules lock.
    """
    require_capabilities(host, variant)
    with client_sets(wanted, host, report), policy_rules(wanted, report) as is_rerouted:
        steps = [
            plan_step(replace(tools, report=report), before, wanted.get(tools.family, NOTHING))
            for tools, before in _read_all(variant, wanted, host)
        ]
        for step in steps:
            if step.text:
                step.tools.test_restore(step.text)
        host.enable_forwarding(wanted, report)
        with defer_signals():
            is_anchored = _bring_up(steps, report)
            is_moved = _leave_other_variant(variant, host, report)
    if wanted:
        shorten_time_wait(host, report)
    return any(step.text for step in steps) or is_anchored or is_moved or is_rerouted


def read_states(variant: Variant, host: Host) -> Mapping[Family, State]:
    """Return what is ours in each family that has anything."""
    require_capabilities(host, variant)
    states = {tools.family: state for tools, state in _read_all(variant, (), host)}
    return MappingProxyType({f: state for f, state in states.items() if not state.is_empty})


def find_missing_anchors(
    variant: Variant, families: Collection[Family], host: Host
) -> list[Family]:
    """Return the families whose established connections nothing keeps alive, where it could."""
    if variant is not Variant.NFT:
        return []
    anchors = [find_anchor(family, host.run) for family in families]
    return [a.family for a in anchors if a.nft_path is not None and not a.is_whole()]


def _read_all(
    variant: Variant, wanted: Collection[Family], host: Host
) -> Sequence[tuple[Iptables, State]]:
    """Return the tools of each family with what is ours there; a family that is not wanted is
    passed over where the kernel does not have it."""
    found = {tools.family: tools for tools in find_all(host) if tools.variant is variant}
    for family in wanted:
        found.setdefault(family, find_iptables(variant, family, host.run))
    read = []
    for family, tools in sorted(found.items()):
        try:
            read.append((tools, tools.read_state()))
        except NotHereError:
            if family in wanted:
                raise
    return read


def plan_step(tools: Iptables, before: State, wanted: State) -> Step:
    """Return what makes `wanted` out of `before`; ParagliderError where that must not be said."""
    text = plan_restore(before, wanted)
    check_restore(text)
    return Step(tools, before, wanted, text)


def _bring_up(steps: Sequence[Step], report: Report) -> bool:
    """Write all steps, or none; return whether an anchor was put."""
    is_anchored, begun = False, list[Step]()
    try:
        for step in steps:
            begun.append(step)
            is_anchored |= put_anchor(step, report)
            if step.text:
                step.tools.apply_restore(step.text)
        for step in steps:
            if step.text:
                _verify(step, report)
        for step in steps:
            if step.wanted.is_empty:
                remove_anchor(step.tools)
    except ParagliderError as error:
        _roll_back_all(begun, error)
        raise
    return is_anchored


def put_anchor(step: Step, report: Report) -> bool:
    """Make the anchor of a wanted family whole; return whether it was not."""
    anchor = find_anchor(step.tools.family, step.tools.run)
    if step.tools.variant is not Variant.NFT or step.wanted.is_empty or anchor.is_whole():
        return False
    if anchor.nft_path is None:
        if step.text:
            report(_NO_NFT)
        return False
    names = {name.value for name in step.wanted.tables}
    # Where ours are there without an anchor, nobody knows any more who made the tables.
    anchor.put(names - step.before.existing if step.before.is_empty else ())
    return True


def _verify(step: Step, report: Report) -> None:
    now = step.tools.read_state(step.wanted)
    left = plan_restore(now, step.wanted)
    if not left:
        return
    # Docker, say, which may also have made its chain DOCKER-USER since we looked.
    if is_complete(now, step.wanted):
        report(
            "another program has just put a rule before ours: they work, and the agent, or "
            "'paraglider start' without one, puts them first again"
        )
        return
    raise UnavailableError(
        "the kernel does not hold what was applied: another program changed our rules at the same "
        "time (then try again), or iptables prints them in a way unknown here (then report it). "
        f"Still to do:\n{left}"
    )


def _roll_back_all(steps: Sequence[Step], error: ParagliderError) -> None:
    """Put back what was ours before; iptables-restore is atomic for one table, not for three."""
    for step in reversed(steps):
        try:
            _roll_back(step)
        except ParagliderError as second:
            raise UnavailableError(
                f"{error}\nand the rules could not be put back as they were: {second}\n"
                "remove them with 'paraglider stop'"
            ) from error


def _roll_back(step: Step) -> None:
    # Not checked: it may hold what a stranger had put into our chains; it came from the kernel.
    text = plan_restore(step.tools.read_state(), step.before)
    if text:
        step.tools.apply_restore(text)
    if step.before.is_empty:
        remove_anchor(step.tools)


def _leave_other_variant(variant: Variant, host: Host, report: Report) -> bool:
    """Take away what an earlier start put into the other variant."""
    other = [tools for tools in find_all(host) if tools.variant is not variant]
    try:
        removal = remove_from(other)
    except ParagliderError as error:
        report(f"rules of an earlier start, if any, stay in the other variant: {error}")
        return False
    return removal.found
