"""Loop: waits for files, signals and times, in one place.

Signals are held back except while it waits, so that no step of the agent is broken off in the
middle, and one that comes early is answered by the first wait.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Loop:
    """Calls back whoever waits for a file to be readable, and returns the signals that came."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._kept: list[signal.Signals] = []
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

    def watch(self, descriptor: int, call: Callable[[], None]) -> None:
        """Call `call` whenever `descriptor` is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, call)

    def forget(self, descriptor: int) -> None:
        """Watch `descriptor` no more."""
        self._selector.unregister(descriptor)

    def wait(self, until_s: float) -> list[signal.Signals]:
        """Wait until `until_s` of the clock, a signal or a readable file, whose callback is called;
        return the signals that came, in their order."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            wait_s = 0.0 if self._kept else max(0.0, until_s - self.clock())
            ready = self._selector.select(wait_s)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for key, _ in ready:
            # One that was called before may have let go of this one.
            if key.data is not None and self._selector.get_map().get(key.fd) is key:
                key.data()
        kept, self._kept = self._kept, []
        return kept + self._signals()

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
