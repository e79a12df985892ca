"""Removal: take away whatever is ours, from any state, without knowing what was configured.

What bears our prefix goes, wherever it is: both variants, both families, every table. What cannot
be removed in one of them does not keep the others from being cleaned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from paraglider.errors import (
    LockHeldError,
    NotHereError,
    ParagliderError,
    PermissionDenied,
    UnavailableError,
)
from paraglider.kernel.client_sets import remove_client_sets
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Iptables, Variant
from paraglider.kernel.lock import defer_signals
from paraglider.kernel.nat_anchor import find_anchor
from paraglider.kernel.policy_routing import remove_policy
from paraglider.kernel.variant import find_all, require_capabilities
from paraglider.rules.restore import check_restore, plan_restore
from paraglider.rules.state import NOTHING

# For the lock of iptables-legacy. `docker stop` allows ten seconds, in which there may have to be a
# second try.
_WAIT_S = 4


@dataclass(frozen=True, slots=True)
class Removal:
    """What came of it: whether there was anything, and the errors of tables that hold somebody's
    rules, perhaps ours, and that this process may not read."""

    found: bool
    unread: tuple[PermissionDenied, ...]


def remove_rules(*, host: Host, report: Callable[[str], None]) -> Removal:
    """Take away whatever is ours in this network namespace; `report` is told what is in the way.

    Raises PermissionDenied where nothing at all may be read, and UnavailableError where something
    of ours may be left. The caller holds the rules lock, or has tried to.
    """
    require_capabilities(host, Variant.NFT)
    with defer_signals():
        removal = remove_from(find_all(host))
        has_policy = remove_policy()
        has_sets = remove_client_sets(host=host, report=report)
        return replace(removal, found=removal.found or has_sets or has_policy)


def remove_from(all_tools: Sequence[Iptables]) -> Removal:
    """Take away what is ours from the tables that `all_tools` read."""
    found, unread, failed = False, list[PermissionDenied](), list[ParagliderError]()
    for tools in all_tools:
        try:
            found |= _remove_one(replace(tools, lock_wait_s=_WAIT_S))
        except NotHereError:
            continue
        except PermissionDenied as error:
            unread.append(error)
        except LockHeldError as error:
            failed.append(error)
            break  # it is one lock for all of them
        except ParagliderError as error:
            failed.append(error)
    if failed:
        message = "\n".join(str(error) for error in failed)
        raise UnavailableError(f"not everything could be removed: {message}") from failed[0]
    if unread and len(unread) == len(all_tools):
        raise unread[0]
    return Removal(found, tuple(unread))


def _remove_one(tools: Iptables) -> bool:
    text = plan_restore(tools.read_state(), NOTHING)
    if text:
        check_restore(text)
        try:
            tools.apply_restore(text)
        except LockHeldError:
            raise
        except UnavailableError:
            # A stranger's jump to us may have a match that iptables cannot find again by its text.
            # Should its position have changed meanwhile, nothing is deleted: our chain is still
            # jumped to then, which the kernel refuses, and the table stays as it was.
            text = plan_restore(tools.read_state(), NOTHING, by_position=True)
            check_restore(text)
            tools.apply_restore(text)
    is_anchored = remove_anchor(tools)
    return bool(text) or is_anchored


def remove_anchor(tools: Iptables) -> bool:
    """Delete the NAT anchor of a family that has nothing of ours left, and the tables that were
    made for us and that nobody has come to use; return whether there was one."""
    anchor = find_anchor(tools.family, tools.run)
    if tools.variant is not Variant.NFT or anchor.read() is None:
        return False
    # The anchor last: it is what remembers the tables, should this process end in between.
    for name in anchor.made_tables():
        anchor.delete_bare_table(name)
    anchor.remove()
    return True
