"""Run: the process that a container or a service manager keeps alive.

Applies the rules, looks after them, and takes them away when it is told to end. Killed without
warning it leaves the rules as they are: connections go on, and its successor finds nothing to
change. It never handles a packet, so that nothing that happens to it is seen by a connection.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from paraglider.errors import ParagliderError

LOOK_S = 0.5

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_agent(
    *,
    start: Callable[[], None],
    look: Callable[[], None],
    stop: Callable[[], None],
    report: Callable[[str], None],
) -> None:
    """Call `start`, again at each SIGHUP, and `stop` at SIGTERM or SIGINT; then return. In between,
    call `look` twice a second.

    An error of the first `start`, or of `stop`, is raised. A reload that fails is reported and
    leaves the rules as they are.
    """
    # Blocked before anything is applied: a signal that comes early waits until it can be answered.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        start()
        for number in _signals(look):
            if number is not signal.SIGHUP:
                report(f"{number.name}: taking the rules away")
                stop()
                return
            _reload(start, report)
    finally:
        # One that came twice has had its answer; let through, it would end us before our message.
        while signal.sigtimedwait(_SIGNALS, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signals(look: Callable[[], None]) -> Iterable[signal.Signals]:
    while True:
        received = signal.sigtimedwait(_SIGNALS, LOOK_S)
        if received is None:
            look()
        else:
            yield signal.Signals(received.si_signo)


def _reload(start: Callable[[], None], report: Callable[[str], None]) -> None:
    report("SIGHUP: reading the configuration again")
    try:
        start()
    except (ParagliderError, OSError) as error:
        report(f"nothing was changed, the rules in force stay: {error}")
