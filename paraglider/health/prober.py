"""Many probes at once, each at its time, on one selector.

Owns when a target is probed, and for how long at most. No target ever waits for another one, and
no target is probed twice at once. A probe that this host cannot make is an error with its reason,
never a bad result: a shortage here must not take every backend away.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from selectors import BaseSelector

from paraglider.config.model import CheckKind
from paraglider.errors import explain
from paraglider.health.probe import OpenSocket, Probe, Target, open_socket
from paraglider.health.probe_result import CannotProbe, ProbeResult
from paraglider.health.tls import TlsContexts

# New targets get their first probe within this time, or their interval if that is less.
_FIRST_WITHIN_S = 1.0
# Of the interval, in both directions: probes that began together drift apart.
_JITTER = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe of a target found, `took_s` after its begin."""

    key: str
    is_good: bool
    reason: str
    took_s: float


@dataclass(frozen=True, slots=True)
class ProbeError:
    """A probe of a target that could not be made here, and why."""

    key: str
    reason: str


@dataclass(slots=True, eq=False)
class _Slot:
    """A target with its probe, if one is under way: due, or over, at `wake_at_s`."""

    target: Target
    wake_at_s: float
    began_s: float = 0.0
    probe: Probe | None = None
    events: int = 0


class Prober:
    """Probes targets in turn. `random` returns 0.0 to below 1.0, as random.random does.

    The caller may have other files on the same `selector`, each with a function without
    arguments as its data: `poll` calls that once the file is ready.
    """

    def __init__(
        self,
        selector: BaseSelector,
        *,
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        open_: OpenSocket = open_socket,
    ) -> None:
        self._selector = selector
        self._random = random
        self._clock = clock
        self._open = open_
        self._contexts = TlsContexts()
        self._slots: dict[str, _Slot] = {}
        # Entries whose time is no longer their slot's are old, and passed over.
        self._heap: list[tuple[float, int, _Slot]] = []
        self._serial = itertools.count()
        self._results: list[Result] = []
        self._errors: list[ProbeError] = []

    def set_targets(self, targets: Iterable[Target], now: float) -> None:
        """Probe these from `now` on, and no others; keys are unique.

        One that is there already, with nothing changed, keeps its schedule and its probe.
        """
        slots = {}
        for target in {target.key: target for target in targets}.values():
            slot = self._slots.get(target.key)
            if slot is not None and slot.target == target:
                slots[target.key] = self._slots.pop(target.key)
            elif target.check.kind is not CheckKind.NONE:
                within_s = min(target.check.interval_s, _FIRST_WITHIN_S)
                slots[target.key] = _Slot(target, now + within_s * self._random())
        for slot in self._slots.values():
            self._close(slot)
        self._slots = slots
        checks = (slot.target.check for slot in slots.values())
        self._contexts.keep(it.http for it in checks if it.kind is CheckKind.HTTPS)
        self._heap = [(slot.wake_at_s, next(self._serial), slot) for slot in slots.values()]
        heapq.heapify(self._heap)

    def poll(self, timeout_s: float) -> list[Result]:
        """Wait until something happens or is due, `timeout_s` at most; return what was found."""
        wait_s = timeout_s
        if self._heap:
            wait_s = min(wait_s, self._heap[0][0] - self._clock())
        # What has arrived comes before what is late: if we were held up, that is nobody's fault.
        for key, _ in self._selector.select(max(0.0, wait_s)):
            key.data()
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            wake_at_s, _, slot = heapq.heappop(self._heap)
            if slot.wake_at_s == wake_at_s:
                self._wake(slot, now)
        results, self._results = self._results, []
        return results

    def take_errors(self) -> list[ProbeError]:
        """Return the probes that could not be made since the last call."""
        errors, self._errors = self._errors, []
        return errors

    def close(self) -> None:
        """End all probes, and all targets."""
        self.set_targets((), self._clock())

    def _wake(self, slot: _Slot, now: float) -> None:
        if slot.probe is not None:
            self._end(slot, slot.probe.expire(), now)
            return
        slot.began_s = now
        self._go_on(slot)
        if slot.probe is not None:
            self._sleep(slot, now + slot.target.check.timeout_s)

    def _advance(self, slot: _Slot) -> None:
        """The socket is ready; but what else was ready may have ended the probe just before."""
        if slot.probe is not None:
            self._go_on(slot)

    def _go_on(self, slot: _Slot) -> None:
        """Begin the probe, or go on with it, and end it once there is a verdict."""
        probe_result = None
        key = slot.target.key
        try:
            if slot.probe is None:
                slot.probe = Probe(slot.target, self._contexts, self._open)
            probe_result = slot.probe.advance()
            if probe_result is None:
                self._watch(slot, slot.probe)
                return
        except CannotProbe as cannot:
            self._errors.append(ProbeError(key, str(cannot)))
        except Exception as error:  # noqa: BLE001 - the outermost frame of one probe
            # What strangers can cause is named, and has a verdict in Probe: this is a mistake of
            # ours. To end the process would be louder, but its successor would meet the same target
            # within a second, and so on: no probe would live to its timeout, and one backend that
            # has found the mistake would keep all that hang from being found down.
            reason = (
                f"error in the prober ({type(error).__name__}: {explain(error)}): please report it"
            )
            self._errors.append(ProbeError(key, reason))
        self._end(slot, probe_result, self._clock())

    def _watch(self, slot: _Slot, probe: Probe) -> None:
        if slot.events == 0:
            self._selector.register(probe.fd, probe.events, partial(self._advance, slot))
        elif slot.events != probe.events:
            self._selector.modify(probe.fd, probe.events, partial(self._advance, slot))
        slot.events = probe.events

    def _end(self, slot: _Slot, probe_result: ProbeResult | None, now: float) -> None:
        """End a probe, and plan the next one."""
        self._close(slot)
        if probe_result is not None:
            took_s = now - slot.began_s
            key = slot.target.key
            self._results.append(Result(key, probe_result.is_good, probe_result.reason, took_s))
        interval_s = slot.target.check.interval_s
        pause_s = interval_s * (1 - _JITTER + 2 * _JITTER * self._random())
        self._sleep(slot, max(now, slot.began_s + pause_s))

    def _close(self, slot: _Slot) -> None:
        if slot.probe is None:
            return
        if slot.events:
            self._selector.unregister(slot.probe.fd)
            slot.events = 0
        slot.probe.close()
        slot.probe = None

    def _sleep(self, slot: _Slot, until_s: float) -> None:
        slot.wake_at_s = until_s
        heapq.heappush(self._heap, (until_s, next(self._serial), slot))
