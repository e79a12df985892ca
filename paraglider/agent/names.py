"""Names: the addresses that host names stand for, and which names have no answer.

A name that stops resolving keeps the addresses that it had. What changes is one line of the log,
however many addresses it concerns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from paraglider.agent.listing import listed
from paraglider.config.model import Address, Bind, Config, Endpoint, Family
from paraglider.health.name_state import NameState
from paraglider.health.resolver import MAX_ADDRESSES, Name, Resolved
from paraglider.health.service import Pair

# A name that fails again and again is logged once in this time.
_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class NameStatus:
    """One name, to be shown: `missing_for_s` are those of `addresses` that are not in its answers
    now, and for how long; `error` is why it has no answer now, '' where it has, and `error_for_s`
    for how long (None: from the beginning)."""

    name: str
    family: Family
    addresses: tuple[Address, ...]
    missing_for_s: Mapping[Address, float]
    error: str = ""
    error_for_s: float | None = None


class Names:
    """What names stand for."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._states: dict[Name, NameState] = {}
        self._answered: set[Name] = set()
        self._holds: Mapping[Name, float] = {}
        self._logged_s: dict[Name, float] = {}  # when a lookup that failed was logged last
        self._open: set[Name] = set()  # logged, and the end of it not yet

    @property
    def addresses(self) -> Mapping[Name, tuple[Address, ...]]:
        """The addresses of each name, none of one that never resolved."""
        return {name: found for name, it in self._states.items() if (found := it.addresses)}

    def copy(self) -> Names:
        """Return names that know the same, and go their own way from here."""
        names = Names(self._report)
        names._states, names._answered = dict(self._states), set(self._answered)
        names._holds, names._logged_s = self._holds, dict(self._logged_s)
        names._open = set(self._open)
        return names

    def follow(self, config: Config) -> None:
        """Hold the addresses of its names for as long as `config` says, and forget all others."""
        self._holds = wanted_holds(config)
        for name in self._states.keys() - self._holds.keys():
            del self._states[name]
            self._logged_s.pop(name, None)
        self._answered &= self._holds.keys()
        self._open &= self._holds.keys()

    def is_waiting(self, config: Config) -> bool:
        """Return whether some name of `config` has had no answer yet, good or bad."""
        return bool(wanted_names(config).keys() - self._answered)

    def note(self, resolved: Resolved, now_s: float) -> bool:
        """Take in an answer; return whether it changes who the backends are."""
        name = resolved.name, resolved.family
        is_first = name not in self._answered
        self._answered.add(name)
        before = self._states.get(name, NameState())
        if not resolved.addresses:
            self._states[name] = before.fail(resolved.reason or "no addresses", now_s)
            if not before.error and self._is_time(name, now_s):
                stays = "its addresses are kept" if before.addresses else "it has no addresses"
                self._report(f"cannot look up {_text(name)}: {self._states[name].error}; {stays}")
            return is_first
        after = before.answer(resolved.addresses, now_s).expire(self._hold_s(name), now_s)
        return self._change(name, before, after, resolved.reason)

    def _is_time(self, name: Name, now_s: float) -> bool:
        """Return whether a failure of `name` is to be logged, and remember that it was."""
        logged_s = self._logged_s.get(name)
        if logged_s is not None and now_s - logged_s < _AGAIN_S:
            return False
        self._logged_s[name] = now_s
        self._open.add(name)
        return True

    def expire(self, now_s: float) -> bool:
        """Let addresses go that have been missing for too long; return whether there were any."""
        due = [name for name, at_s in self._times() if at_s <= now_s]
        for name in due:
            state = self._states[name]
            self._change(name, state, state.expire(self._hold_s(name), now_s))
        return bool(due)

    def next_s(self) -> float | None:
        """Return when `expire` has something to do; None for never."""
        return min((at_s for _, at_s in self._times()), default=None)

    def _times(self) -> list[tuple[Name, float]]:
        found = ((name, it.next_s(self._hold_s(name))) for name, it in self._states.items())
        return [(name, at_s) for name, at_s in found if at_s is not None]

    def _hold_s(self, name: Name) -> float:
        return self._holds.get(name, 0.0)

    def _change(self, name: Name, before: NameState, after: NameState, reason: str = "") -> bool:
        """Keep `after`, and report what is another address; return whether any is."""
        self._states[name] = after
        old, new, hold_s = before.addresses, after.addresses, self._hold_s(name)
        is_over = not after.error and name in self._open
        if is_over:
            self._open.discard(name)
        if old == new and not is_over:
            return False
        parts = []
        if added := [address for address in new if address not in set(old)]:
            parts.append(f"added {listed(added)}" if old else listed(added))
        if removed := [address for address in old if address not in set(new)]:
            missing = f", missing from answers for {hold_s:g} s" if hold_s else ""
            parts.append(f"removed {listed(removed)}{missing}")
        if reason:
            parts.append(reason)
        again = " again" if is_over else ""
        changes = f": {'; '.join(parts)}" if parts else ""
        self._report(f"{_text(name)} resolves{again} to {_count(new)}{changes}")
        return old != new

    def adopt(self, config: Config, serving: Iterable[Pair]) -> None:
        """Where a name does not resolve, let it stand for those backends that have connections
        (pairs of bind and backend) and no other entry of the file: those it stood for before."""
        for name, known in _unexplained(config, serving):
            state = self._states.get(name, NameState())
            if not state.addresses:
                self._states[name] = replace(state, present=tuple(sorted(known, key=int)))

    def hold(self, config: Config, out: Iterable[Pair], now_s: float) -> None:
        """Of backends that were out of service (pairs of bind and backend) before this agent
        began, hold the addresses that a name may have had: if the next answer has them, they must
        not come back as new ones."""
        for name, known in _unexplained(config, out):
            state = self._states.get(name)
            if state is not None and state.present:
                missing = sorted(known - {*state.present}, key=int)
                room = MAX_ADDRESSES - len(state.addresses)
                missing_s = {**state.missing_s, **dict.fromkeys(missing[:room], now_s)}
                self._states[name] = replace(state, missing_s=missing_s)

    def statuses(self, config: Config, now_s: float) -> Sequence[NameStatus]:
        """Return how it stands with each name of `config`, in the order of the file."""
        return [self._status(name, now_s) for name in wanted_names(config)]

    def _status(self, name: Name, now_s: float) -> NameStatus:
        state = self._states.get(name, NameState())
        missing_for_s = {address: now_s - at_s for address, at_s in state.missing_s.items()}
        if name not in self._answered:
            return NameStatus(*name, state.addresses, missing_for_s, "no answer yet")
        for_s = now_s - state.error_since_s if state.error else None
        return NameStatus(*name, state.addresses, missing_for_s, state.error, for_s)


def _unexplained(
    config: Config, pairs: Iterable[Pair]
) -> Iterator[tuple[Name, AbstractSet[Address]]]:
    """Yield for names of `config` the addresses of those `pairs` that have the bind and the port
    of its entry, and are no other entry."""
    found = defaultdict[tuple[Bind, int], list[Endpoint]](list)
    for bind, endpoint in pairs:
        found[bind, endpoint.port].append(endpoint)
    for frontend in config.frontends:
        literal = {backend.endpoint for backend in frontend.backends}
        for backend in frontend.backends:
            endpoints = found.get((frontend.bind, backend.port), ())
            known = {it.address for it in endpoints if it not in literal}
            if isinstance(backend.host, str) and known:
                yield (backend.host, frontend.family), known


def wanted_names(config: Config) -> dict[Name, float]:
    """Return the names that `config` has, and how often each is to be resolved (seconds)."""
    found: dict[Name, float] = {}
    for frontend in config.frontends:
        for backend in frontend.backends:
            if isinstance(backend.host, str):
                name = backend.host, frontend.family
                found[name] = min(frontend.resolve_s, found.get(name, frontend.resolve_s))
    return found


def wanted_holds(config: Config) -> dict[Name, float]:
    """Return for how long the addresses of each name are held: the longest time of frontends that
    have the name."""
    found: dict[Name, float] = {}
    for frontend in config.frontends:
        for backend in frontend.backends:
            if isinstance(backend.host, str):
                name = backend.host, frontend.family
                found[name] = max(frontend.hold_s, found.get(name, 0.0))
    return found


def _text(name: Name) -> str:
    return f"{name[0]} (IPv{name[1].value})"


def _count(addresses: Sequence[Address]) -> str:
    return f"{len(addresses)} address{'es' * (len(addresses) != 1)}"
