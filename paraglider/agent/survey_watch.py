"""Survey watch: looks in the background at what others' rules do to balanced connections.

At the start, when the configuration, addresses or policy rules change, and when the kernel reports
a change of nftables that is not of our own chains; and every half minute, because the kernel
reports no change of a sysctl or of a table of iptables-legacy. In a thread of its own: programs are
started and their output is read there, and the loop waits for neither.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence

from paraglider.agent.loop import Loop
from paraglider.agent.programs import StoppedError
from paraglider.errors import ParagliderError, explain
from paraglider.kernel.changes import hears_of_others, open_nftables_feed
from paraglider.kernel.finding import Finding
from paraglider.kernel.netlink import CHUNK_BYTES

# Firewalls load in several steps.
_SETTLE_S = 0.5
# Where others change rules all the time, looking takes a twentieth of a core at most.
_REST_PER_LOOK = 20
_LEAST_REST_S = 2.0
# Between looks that nothing asked for.
LOOK_S = 30.0
# For one that was told to end; after that it is left behind.
_ENDED_WITHIN_S = 1.0

Survey = Callable[[], Sequence[Finding]]


class SurveyWatch:
    """Reports what is found, and what is found no more. `prepare` is called in the loop, and
    returns what is called in the thread."""

    def __init__(
        self, loop: Loop, prepare: Callable[[], Survey], report: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._prepare = prepare
        self._report = report
        self._feed: socket.socket | None = None
        self._ended: tuple[int, int] | None = None
        self._began_s: float | None = None
        self._due_s: float | None = None
        self._rest_until_s = 0.0
        self._thread: threading.Thread | None = None
        self._error = self._told_error = ""
        self._found: Sequence[Finding] = ()
        self.findings: Sequence[Finding] = ()

    def listen(self) -> None:
        """Begin, with a first look."""
        self._ended = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.watch(self._ended[0], self._take)
        self._feed = open_nftables_feed()
        if self._feed is not None:
            self._loop.watch(self._feed.fileno(), self._hear)
        self.want()

    def want(self) -> None:
        """Something was changed: look soon."""
        self._due_s = self._loop.clock() + _SETTLE_S

    def next_s(self) -> float | None:
        """Return when `look` has something to do, on the clock of the loop."""
        if self._due_s is None or self._began_s is not None or self._ended is None:
            return None
        return max(self._due_s, self._rest_until_s)

    def look(self) -> None:
        """Begin a look, when it is time."""
        next_s = self.next_s()
        if next_s is None or self._loop.clock() < next_s:
            return
        self._due_s, self._began_s = None, self._loop.clock()
        survey = self._prepare()
        self._thread = threading.Thread(target=self._survey, args=(survey,), daemon=True)
        self._thread.start()

    def _survey(self, survey: Survey) -> None:
        try:
            self._found = survey()
        except (ParagliderError, OSError, StoppedError) as error:
            self._found = self.findings  # what cannot be read is no news
            self._error = explain(error)
        else:
            self._error = ""
        if self._ended is not None:
            os.write(self._ended[1], b".")

    def _take(self) -> None:
        if self._ended is None or self._began_s is None:
            return
        os.read(self._ended[0], 64)
        now_s = self._loop.clock()
        rest_s = max(_LEAST_REST_S, _REST_PER_LOOK * (now_s - self._began_s))
        self._began_s, self._rest_until_s = None, now_s + rest_s
        if self._due_s is None:
            self._due_s = now_s + LOOK_S
        before, self.findings = self.findings, self._found
        if self._error and self._error != self._told_error:
            self._report(f"cannot look for others' rules in the way: {self._error}")
        self._told_error = self._error
        for finding in self.findings:
            if finding not in before:
                self._report(f"warning: {finding}")
        for finding in before:
            if finding not in self.findings:
                self._report(f"resolved: {finding.frontend or 'all'}: {finding.sentence}")

    def _hear(self) -> None:
        while self._feed is not None:
            try:
                data = self._feed.recv(CHUNK_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.want()  # more than it holds, most likely
                if error.errno != errno.ENOBUFS:
                    return
            else:
                if hears_of_others(data):
                    self.want()

    def close(self) -> None:
        """Stop. A look that is under way was told to end, and kills its program."""
        if self._thread is not None:
            self._thread.join(_ENDED_WITHIN_S)
            self._thread = None
        if self._feed is not None:
            self._loop.forget(self._feed.fileno())
            self._feed.close()
            self._feed = None
        if self._ended is not None:
            self._loop.forget(self._ended[0])
            self._ended = None  # left to the process: the thread may still write
