"""The rules lock: one process at a time changes the rules of a network namespace.

iptables is atomic for each write, but what is written follows from what was read before. An agent
holds the lock for its whole life, and takes nothing when it writes; `start` and `stop` hold it
while they work. Programs that are started under it inherit it: it stays held while an
iptables-restore writes, whatever becomes of the process that started it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paraglider.errors import LockHeldError
from paraglider.kernel.name_row import HeldName, Holder, NameRow

_ROW = NameRow("paraglider/rules", is_inherited=True)
# Above what a start takes that waits for the lock of iptables-legacy in its turn.
_WAIT_S = 15.0
# `docker stop` allows ten seconds, in which there may have to be a second try.
_STOP_WAIT_S = 4.0


@contextmanager
def hold_rules_lock(
    *, report: Callable[[str], None], wait_s: float = _WAIT_S
) -> Iterator[HeldName]:
    """Hold the lock inside the `with`; LockHeldError where another keeps it for `wait_s`.

    Processes that may not keep rules cannot hold it; they are named in a `report`.
    """

    def refuse(holder: Holder) -> Exception:
        return LockHeldError(
            f"another paraglider {holder} changes the rules and did not finish within "
            f"{wait_s:g} s: see what it waits for, then try again"
        )

    with _ROW.hold(wait_s=wait_s, report=report, refuse=refuse) as held:
        yield held


@contextmanager
def hold_rules_lock_to_stop(
    *, report: Callable[[str], None], is_hopeless: bool = False
) -> Iterator[None]:
    """Hold the lock inside the `with`, or go on without it: nobody keeps `stop` from its work.

    With `is_hopeless` it is not waited for: an agent that does not answer has it.
    """
    wait_s = 0.0 if is_hopeless else _STOP_WAIT_S

    def refuse(holder: Holder) -> None:
        report(
            f"another paraglider {holder} holds the rules and did not finish within {wait_s:g} s: "
            "going on without the lock; run 'paraglider stop' again if rules come back"
        )

    with _ROW.hold(wait_s=wait_s, report=report, refuse=refuse):
        yield


@contextmanager
def defer_signals() -> Iterator[None]:
    """Answer what asks this process to end after the `with`, not inside: nothing stays half-way.

    Programs that are started inside do not answer either.
    """
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
