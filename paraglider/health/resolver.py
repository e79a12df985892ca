"""Host names, looked up again and again by the system's resolver, without waiting for any.

Owns the threads that getaddrinfo blocks: one for each name at most, however long it takes. It
never caches, and never hands out an address that could not stand in a configuration.
"""

from __future__ import annotations

import math
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread

from paraglider.config.address import Refused, Role, parse_address
from paraglider.config.model import Address, Family
from paraglider.errors import explain

# A name with more has the first of them, in ascending order.
MAX_ADDRESSES = 256

_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
# Of why an address is refused, the part before the advice.
_REASON_END = re.compile(r"[:;,] ")

Name = tuple[str, Family]
LookUp = Callable[[Name], Sequence[str]]
Start = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Resolved:
    """The addresses of a name in ascending order, or None where the lookup failed.

    `told` says why, or which addresses were left out; '' if there is nothing to say.
    """

    name: str
    family: Family
    addresses: tuple[Address, ...] | None
    reason: str = ""


def look_up(name: Name) -> Sequence[str]:
    """Ask the system's resolver, which may take long. Raises OSError."""
    # As bytes: for text, Python imports the tables of all of Unicode.
    host = name[0].encode("ascii")
    found = socket.getaddrinfo(host, None, _FAMILIES[name[1]], socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def start_thread(run: Callable[[], None]) -> None:
    """Run in a thread that does not keep the process alive. Raises RuntimeError for want of one."""
    Thread(target=run, daemon=True).start()


class Resolver:
    """Looks names up in turn. Whenever a lookup has ended `wake` is called, from its thread."""

    def __init__(
        self, *, wake: Callable[[], None], look_up: LookUp = look_up, start: Start = start_thread
    ) -> None:
        self._wake = wake
        self._look_up = look_up
        self._start = start
        self._names: dict[Name, _Schedule] = {}
        self._next_s = math.inf
        self._outstanding: set[Name] = set()
        # Filled by the threads.
        self._answers: deque[tuple[Name, Sequence[str] | str]] = deque()

    @property
    def due_s(self) -> float:
        """When `poll` is to be called again at the latest; infinity for only once woken."""
        return self._next_s

    def set_names(self, names: Mapping[Name, float], now: float) -> None:
        """Look these up, each as often as its value says (seconds), and no others.

        New ones are looked up at once.
        """
        kept = {name: self._names.get(name) or _Schedule(now) for name in names}
        for name, resolve_s in names.items():
            kept[name].resolve_s = resolve_s
            kept[name].due_s = min(kept[name].due_s, now + resolve_s)
        self._names = kept
        self._plan_next()

    def poll(self, now: float) -> list[Resolved]:
        """Begin the lookups that are due; return the answers that differ from the last ones."""
        changed = []
        while self._answers:
            name, answer = self._answers.popleft()
            self._outstanding.discard(name)
            schedule = self._names.get(name)
            if schedule is not None:
                resolved = judge_answer(name, answer)
                if schedule.is_news(resolved):
                    changed.append(resolved)
            self._plan_next()
        if now >= self._next_s:
            for name, schedule in self._names.items():
                if schedule.due_s <= now and name not in self._outstanding:
                    schedule.due_s = now + schedule.resolve_s
                    self._begin(name)
            self._plan_next()
        return changed

    def _begin(self, name: Name) -> None:
        self._outstanding.add(name)
        try:
            self._start(lambda: self._run(name))
        except RuntimeError as error:
            self._answers.append((name, str(error)))
            self._wake()

    def _run(self, name: Name) -> None:
        """In a thread of its own."""
        try:
            answer: Sequence[str] | str = self._look_up(name)
        except OSError as error:
            answer = explain(error).lower()
        except ValueError as error:
            answer = str(error)
        self._answers.append((name, answer))
        self._wake()

    def _plan_next(self) -> None:
        waiting = [s.due_s for name, s in self._names.items() if name not in self._outstanding]
        self._next_s = min(waiting, default=math.inf)


@dataclass(slots=True)
class _Schedule:
    """When a name is looked up, and what was told of it last."""

    due_s: float
    resolve_s: float = 0.0
    last: Resolved | None = None

    def is_news(self, resolved: Resolved) -> bool:
        """Tell whether it is another answer than the last one, or another reason for none."""
        last, self.last = self.last, resolved
        return last != resolved


def judge_answer(name: Name, answer: Sequence[str] | str) -> Resolved:
    """Return what an answer comes to; as text it is why there is none."""
    if isinstance(answer, str):
        return Resolved(*name, None, answer)
    found: set[Address] = set()
    left_out: set[str] = set()
    for text in answer:
        try:
            found.add(parse_address(text, Role.BACKEND))
        except Refused as refused:
            left_out.add(_REASON_END.split(str(refused), maxsplit=1)[0])
    addresses = tuple(sorted(found, key=int))
    reason = [f"left out: {reason}" for reason in sorted(left_out)]
    if len(addresses) > MAX_ADDRESSES:
        reason.append(f"{len(addresses)} addresses, of which the first {MAX_ADDRESSES} are used")
    return Resolved(*name, addresses[:MAX_ADDRESSES], "; ".join(reason))
