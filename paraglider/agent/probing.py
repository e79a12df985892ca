"""Probing: the prober process, as the agent sees it.

Whatever talks with strangers (probes, name lookups) is in a child that has given up every privilege
before it opens its first socket. What it reports is checked, and a child that is gone or says
nothing any more is replaced; until then no check can be made, and all health states stay.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from paraglider.agent.loop import MEANINGLESS, SIGNALS, Loop
from paraglider.config.model import CheckKind
from paraglider.errors import ParagliderError, explain
from paraglider.health.probe import Target
from paraglider.health.probe_result import CannotProbe
from paraglider.health.prober_main import serve_probes
from paraglider.health.resolver import Name
from paraglider.health.tls import load_tls
from paraglider.health.wire import (
    MAX_REPORTS_BYTES,
    LineBuffer,
    Reports,
    decode_reports,
    encode_orders,
    encode_reports,
    receive,
)
from paraglider.kernel.privileges import drop_privileges

# Between the end of a prober and the next one: doubled with each that did not last.
_RESTART_S = 1.0
_MAX_RESTART_S = 30.0
_LASTS_S = 10.0
# So many intervals without a word of any target, and a bit for a host that is busy.
_SILENT_INTERVALS = 3
_SILENT_MORE_S = 5.0


class Probing:
    """Keeps a prober at work; `on_reports` is called with what it reports."""

    def __init__(
        self,
        loop: Loop,
        *,
        on_reports: Callable[[Reports], None],
        report: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._on_reports = on_reports
        self._report = report
        self._pid = 0
        self._is_first = True
        self._has_tls = False  # the prober that runs now
        self._channel: socket.socket | None = None
        self._lines = LineBuffer(MAX_REPORTS_BYTES)
        self._targets: Sequence[Target] = ()
        self._names: Mapping[Name, float] = {}
        self._start_s = 0.0
        self._began_s = 0.0
        self._heard_s = 0.0
        self._ends = 0  # one after another, of probers that did not last
        self._logged = ""
        self._failure = ""  # what the prober said that it ends of
        self.error = ""
        self.error_since_s = 0.0
        self._patience_s = _SILENT_MORE_S

    @property
    def pid(self) -> int:
        """The prober's process, 0 while there is none."""
        return self._pid

    def order(self, targets: Sequence[Target], names: Mapping[Name, float]) -> None:
        """Probe these, and look these up every so many seconds, from now on."""
        self._targets, self._names = targets, names
        slowest_s = max((t.check.interval_s + t.check.timeout_s for t in targets), default=0.0)
        self._patience_s = _SILENT_INTERVALS * slowest_s + _SILENT_MORE_S
        self._heard_s = self._loop.clock()
        if self._needs_tls and not self._has_tls:
            self.close()  # it cannot load what TLS needs any more: a new one can
        if self._channel is not None:
            self._send()
        elif targets or names:
            self._start()

    @property
    def _needs_tls(self) -> bool:
        return any(target.check.kind is CheckKind.HTTPS for target in self._targets)

    def next_s(self) -> float | None:
        """Return when `look` has something to do, on the clock of the loop."""
        if self._channel is None:
            return self._start_s if self._targets or self._names else None
        return self._heard_s + self._patience_s if self._targets or self._names else None

    def look(self) -> None:
        """Start a prober where there should be one, and end one that says nothing."""
        due_s = self.next_s()
        if due_s is None or self._loop.clock() < due_s:
            return
        if self._channel is None:
            self._start()
            return
        heard_s = self._heard_s
        self._hear()  # what it said while we were busy
        if self._heard_s == heard_s and self._channel is not None:
            self._end(f"prober (process {self._pid}) does not answer")

    def _start(self) -> None:
        try:
            self._fork()
        except OSError as error:
            self._end(f"cannot start a prober: {explain(error)}")

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        # What the child does not touch stays shared memory, also when the collector runs.
        gc.collect()
        gc.freeze()
        agent, needs_tls = os.getpid(), self._needs_tls
        try:
            pid = os.fork()
            if not pid:
                _be_prober(theirs, agent, needs_tls=needs_tls, is_first=self._is_first)
        except OSError:
            ours.close()
            raise
        finally:
            gc.unfreeze()
            theirs.close()
        self._pid, self._channel, self._has_tls = pid, ours, needs_tls
        self._is_first = False
        self._began_s = self._heard_s = self._loop.clock()
        self._failure = ""
        self._lines = LineBuffer(MAX_REPORTS_BYTES)
        self._loop.watch(ours.fileno(), self._hear)
        self._send()

    def _send(self) -> None:
        if self._channel is None:
            return
        self._channel.settimeout(1.0)
        try:
            self._channel.sendall(encode_orders(self._targets, self._names))
        except OSError as error:
            self._channel.setblocking(False)
            self._hear()  # it may have said why
            if self._channel is not None:
                self._end(f"cannot send orders to the prober: {explain(error)}")
            return
        self._channel.setblocking(False)

    def _hear(self) -> None:
        if self._channel is None:
            return
        data = receive(self._channel)
        if data is None:
            return
        if not data:
            self._end(f"prober exited{self._failure and f': {self._failure}'}")
            return
        self._heard_s = self._loop.clock()
        try:
            reports = [decode_reports(line) for line in self._lines.feed(data)]
        except ValueError as error:
            self._end(f"invalid report from the prober: {error}")
            return
        for report in reports:
            self._failure = report.failure or self._failure
            self._on_reports(report)
        if not self._failure:
            self._works()

    def _works(self) -> None:
        self.error = ""
        if self._ends and self._heard_s - self._began_s >= _LASTS_S:
            if self._ends > 1:
                self._report(f"prober works again, after {self._ends} restarts")
            self._ends, self._logged = 0, ""

    def _end(self, why: str) -> None:
        self.close()
        now_s = self._loop.clock()
        if not self.error:
            self.error_since_s = now_s
        self.error = why
        restart_s = min(_MAX_RESTART_S, _RESTART_S * 2 ** min(self._ends, 10))
        self._ends += 1
        self._start_s = now_s + restart_s
        if why != self._logged:
            self._logged = why
            self._report(f"{why}; restarting it, health states unchanged")

    def close(self) -> None:
        """End the prober."""
        if self._channel is None:
            return
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._channel = None
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(self._pid, 0)
        self._pid = 0


def _be_prober(channel: socket.socket, agent: int, *, needs_tls: bool, is_first: bool) -> None:
    """Go on as the prober, in a process that was just forked, and never return.

    All that probes need is loaded before the rights are given up: nobody may not be able to read
    the interpreter's files.
    """
    code = 1
    try:
        for number in (*SIGNALS, *MEANINGLESS):  # a terminal's Ctrl-C is for the agent to answer
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        kept = channel.fileno()
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != kept:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        if needs_tls:
            with contextlib.suppress(CannotProbe):  # each probe over TLS reports it
                load_tls()
        unfiltered = drop_privileges(parent=agent)
        if unfiltered and is_first:
            note = f"the prober runs without a system call filter: {unfiltered}"
            channel.send(encode_reports(Reports(notes=(note,))))
        serve_probes(channel, random=_random)
        code = 0
    except Exception as error:  # noqa: BLE001 - the outermost loop of this process
        _send_failure(channel, error)
    finally:
        os._exit(code)


def _send_failure(channel: socket.socket, error: Exception) -> None:
    """Tell the agent, which logs it once however often this happens."""
    is_ours = isinstance(error, ParagliderError)
    failure = str(error) if is_ours else f"{type(error).__name__}: {error}; please report it"
    with contextlib.suppress(OSError):
        channel.send(encode_reports(Reports(failure=failure)))


def _random() -> float:
    """Return 0.0 to below 1.0, without the memory that the module random takes."""
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)
