"""Client sets: the kernel's memory of which backend a client had last (ip_set).

Rules put clients in and look them up (rules/affinity.py); here the sets are made before the rules
that speak of them, and taken away after. Nobody can take away a set that rules speak of; anybody
with the rights can empty it, and its clients are new ones then.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from paraglider.config.model import Family
from paraglider.errors import (
    DidNotEndError,
    NotHereError,
    ParagliderError,
    PermissionDenied,
    UnavailableError,
)
from paraglider.kernel.host import NET_RAW, Host, grant_mend
from paraglider.kernel.process import Finished, Run, find_program
from paraglider.rules.affinity import render_set
from paraglider.rules.ruleset import PREFIX
from paraglider.rules.state import State

# nf_tables lets go of a set a moment after the last rule that spoke of it is gone.
_RELEASED_WITHIN_S = 2.0
_POLL_S = 0.02
_TRY_MODULES = "try modprobe -a ip_set ip_set_hash_ip xt_set"
_MODULE = "/sys/module/ip_set"


@contextmanager
def client_sets(
    states: Mapping[Family, State], host: Host, report: Callable[[str], None]
) -> Iterator[None]:
    """Have every set that `states` speak of, from the start of the `with` on, and none of ours
    beside them from its end on; where it fails, those that there were.

    Raises NotHereError, PermissionDenied or UnavailableError.
    """
    made = put_client_sets(states, host)
    try:
        yield
    except BaseException:
        _destroy(made, host.run)
        raise
    try:
        remove_client_sets(host=host, kept=names_of(states), report=report)
    except DidNotEndError as error:  # the rules are as wanted
        report(str(error))


def find_ipset() -> str:
    """Return the path of ipset. Raises NotHereError."""
    path = find_program("ipset")
    if path is None:
        raise NotHereError("affinity needs ipset, which is not installed: apt-get install ipset")
    return path


def names_of(states: Mapping[Family, State]) -> frozenset[str]:
    """Return the names of all sets that `states` speak of."""
    return frozenset(found.name for state in states.values() for found in state.client_sets)


def put_client_sets(states: Mapping[Family, State], host: Host) -> Sequence[str]:
    """Make every set that `states` speak of and that is not there; return those that were made.

    Raises NotHereError, PermissionDenied or UnavailableError, and leaves none that it made.
    """
    wanted = {
        found.name: render_set(found, family)
        for family, state in states.items()
        for found in state.client_sets
    }
    if not wanted:
        return ()
    if not host.has_capability(NET_RAW):
        raise PermissionDenied(
            "affinity needs CAP_NET_RAW to look up ipset names: "
            f"{grant_mend('NET_ADMIN', 'NET_RAW')}"
        )
    missing = sorted(wanted.keys() - _list_sets(host.run))
    if missing:
        done = _restore((wanted[name] for name in missing), host.run)
        if done.returncode != 0:
            _destroy(missing, host.run)
            raise explain(done)
    return missing


def remove_client_sets(
    *, host: Host, kept: Collection[str] = (), report: Callable[[str], None]
) -> bool:
    """Take away our sets other than those `kept`; return whether there were any. Those that
    rules of other programs use stay, and are reported. Raises DidNotEndError where some may be left
    because ipset had to be ended."""
    if not os.path.exists(_MODULE) or find_program("ipset") is None:
        return False
    try:
        there = _list_sets(host.run)
        gone = {name for name in there if name.startswith(PREFIX)}.difference(kept)
        left = _try_destroy(gone, host.run)
    except DidNotEndError as error:
        raise DidNotEndError(f"client sets of ours may be left: {error}") from error
    except ParagliderError:
        return False  # a host without sets need not know what is wrong with them
    for name in left:
        report(
            f"kept ipset {name}: rules outside Paraglider use it; delete those rules, then run: "
            f"ipset destroy {name}"
        )
    return bool(gone)


def _destroy(names: Iterable[str], run: Run) -> None:
    """Destroy sets, and ignore what is left: the rules are as they should be."""
    with contextlib.suppress(ParagliderError):
        _try_destroy(names, run)


def _try_destroy(names: Iterable[str], run: Run) -> list[str]:
    """Destroy sets; return those that stay."""
    left = sorted(names)
    deadline_s = time.monotonic() + _RELEASED_WITHIN_S
    while left and time.monotonic() < deadline_s:
        # It ends at the first that is in use, which is tried last the next time.
        if _restore((f"destroy {name}" for name in left), run).returncode == 0:
            return []
        there = _list_sets(run)
        left = [name for name in left if name in there]
        left = [*left[1:], *left[:1]]
        time.sleep(_POLL_S)  # the kernel does not tell when it lets go
    return left


def _list_sets(run: Run) -> set[str]:
    done = run([find_ipset(), "list", "-name"])
    if done.returncode != 0:
        raise explain(done)
    return set(done.stdout.split("\n"))


def _restore(lines: Iterable[str], run: Run) -> Finished:
    return run([find_ipset(), "restore"], text="".join(f"{line}\n" for line in lines))


def explain(done: Finished) -> ParagliderError:
    """Return the error that tells what ipset lacked, and the mend."""
    said = re.sub(r"\s+", " ", done.stderr).strip() or f"no message, exit code {done.returncode}"
    message = f"affinity: ipset failed ({' '.join(done.argv[1:])}): {said}"
    if re.search(r"not permitted|permission denied", said, re.IGNORECASE):
        return PermissionDenied(f"{message}\n{grant_mend('NET_ADMIN')}")
    if re.search(r"You need to upgrade|protocol versions|incompatib", said):
        return UnavailableError(
            f"{message}\nthe versions of ipset and the kernel do not match: upgrade the older one"
        )
    if re.search(r"not supported|No such device", said, re.IGNORECASE):
        return NotHereError(f"{message}\nthe kernel lacks sets: {_TRY_MODULES}")
    if re.search(r"Cannot open session|Invalid argument", said):
        # ipset does not tell why; older kernels answer EINVAL where the module is missing.
        return UnavailableError(f"{message}\nthe kernel may lack sets: {_TRY_MODULES}")
    if "maximal number" in said:
        return UnavailableError(
            f"{message}\na host has room for 65,534 sets, and affinity takes one for each backend: "
            "have it where it is needed"
        )
    if "same name already exists" in said:
        message += "\nsee what sets there are with 'ipset list -terse'"
    return UnavailableError(message)
