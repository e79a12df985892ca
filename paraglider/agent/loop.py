"""Loop: waits for files, signals and times, in one place.

Signals are held back except while it waits, so that no step of the agent is broken off in the
middle, and one that comes early is answered by the first wait. Signals that would end the agent and
mean nothing to it are ignored.

The loop also goes on while a program runs (programs.py), inside an operation on the kernel. So its
callbacks never start a program: they change state, and set what is due. Work that needs the kernel
waits for the next turn of run.py.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Their default action ends the process, and they mean nothing here: SIGUSR1 is what log rotation
# sends by habit, the timers and SIGIO are for programs that asked for them. Those that report a
# fault of the program, a limit or the end of a session (SIGQUIT) keep their action.
MEANINGLESS = (
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
    *(signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
# A background process that writes to its terminal would be stopped (`stty tostop`).
_TERMINAL = (signal.SIGTTIN, signal.SIGTTOU)
# Between looks at a socket that others can flood.
REST_S = 0.1
# Until another try to watch a file that the kernel refused to watch (max_user_watches).
_REFUSED_S = 1.0


@dataclass(frozen=True, slots=True)
class _Watch:
    call: Callable[[], None]
    event: int
    rest_s: float


class Loop:
    """Calls back when watched files are ready, and returns the signals that came."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._kept: list[signal.Signals] = []
        self._resting: dict[int, tuple[float, _Watch]] = {}
        self._ignored: list[int] = []
        self._report: Callable[[str], None] = lambda _: None
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._reading, selectors.EVENT_READ, None)

    @contextmanager
    def holding_signals(self) -> Iterator[None]:
        """Take over SIGTERM, SIGINT and SIGHUP inside the `with`: only `wait` lets them in."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        try:
            yield
        finally:
            # One that came twice has had its answer; let through, it would end us before our
            # message.
            while signal.sigtimedwait(SIGNALS, 0):
                pass
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @contextmanager
    def ignoring_signals(self, report: Callable[[str], None]) -> Iterator[None]:
        """Ignore signals without a meaning inside the `with`; `wait` reports the first of each."""
        self._report = report

        def note(number: int, _frame: object) -> None:
            signal.signal(number, signal.SIG_IGN)
            self._ignored.append(number)

        handlers = {number: signal.signal(number, note) for number in MEANINGLESS}
        handlers |= {number: signal.signal(number, signal.SIG_IGN) for number in _TERMINAL}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def watch(
        self,
        descriptor: int,
        call: Callable[[], None],
        *,
        is_writing: bool = False,
        rest_s: float = 0.0,
    ) -> None:
        """Call `call` whenever `descriptor` is readable (`is_writing`: writable), then not for
        `rest_s`: what others can make ready again and again must not cost a core. OSError where the
        kernel refuses to watch it; nothing is watched then."""
        event = selectors.EVENT_WRITE if is_writing else selectors.EVENT_READ
        self._selector.register(descriptor, event, _Watch(call, event, rest_s))

    def forget(self, descriptor: int) -> None:
        """Watch `descriptor` no more, if it is watched."""
        if self._resting.pop(descriptor, None) is None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)

    def wait(self, until_s: float) -> list[signal.Signals]:
        """Wait until `until_s` of the clock, a signal or a ready file, whose callback is called;
        return the signals that came, in their order."""
        self._watch_rested()
        until_s = min([until_s, *(end_s for end_s, _ in self._resting.values())])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            wait_s = 0.0 if self._kept else max(0.0, until_s - self.clock())
            ready = self._selector.select(wait_s)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for key, _ in ready:
            # One that was called before may have let go of this one.
            if key.data is not None and self._selector.get_map().get(key.fd) is key:
                self._call(key.fd, key.data)
        self._report_ignored()
        kept, self._kept = self._kept, []
        return kept + self._signals()

    def _call(self, descriptor: int, watch: _Watch) -> None:
        if watch.rest_s:
            self._selector.unregister(descriptor)
            self._resting[descriptor] = self.clock() + watch.rest_s, watch
        watch.call()

    def _watch_rested(self) -> None:
        now_s = self.clock()
        for descriptor, (end_s, watch) in list(self._resting.items()):
            if end_s > now_s:
                continue
            try:
                self._selector.register(descriptor, watch.event, watch)
            except OSError:
                self._resting[descriptor] = now_s + _REFUSED_S, watch
            else:
                del self._resting[descriptor]

    def _report_ignored(self) -> None:
        ignored, self._ignored = self._ignored, []
        for number in ignored:
            self._report(f"ignored {_name(number)}, which has no meaning here; not logged again")

    def keep(self, signals: list[signal.Signals]) -> None:
        """Let the next `wait` return these, and not wait."""
        self._kept = signals

    def _signals(self) -> list[signal.Signals]:
        try:
            numbers = os.read(self._reading, 256)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in SIGNALS]

    def close(self) -> None:
        """Let go of everything."""
        self._selector.close()
        os.close(self._reading)
        os.close(self._writing)


def _name(number: int) -> str:
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return signal.Signals(number).name
