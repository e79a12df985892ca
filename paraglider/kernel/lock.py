"""The rules lock: one process at a time reads, compares and writes the rules of a namespace.

iptables is atomic for each write, but what is written follows from what was read before. The lock
is on the network namespace itself (/proc/self/ns/net, which every process in it opens as the same
file): it needs no place to write, and is shared by a container on the host's network with the host.
Programs that are started under it inherit it, so that it is held for as long as any of them writes,
whatever becomes of the process that started them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from paraglider.errors import LockHeldError

# Above what a start takes that waits for the lock of iptables-legacy in its turn.
RULES_LOCK_WAIT_S = 15.0
_POLL_S = 0.02


@contextmanager
def hold_rules_lock(*, wait_s: float = RULES_LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock inside the `with`; LockHeldError where another keeps it for `wait_s`."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    os.set_inheritable(descriptor, True)
    try:
        deadline = time.monotonic() + wait_s
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise LockHeldError(
                    f"another paraglider changes the rules and did not finish within {wait_s:g} s: "
                    "find what holds the lock with 'lslocks' (net:…), then try again"
                )
            # flock(2) has no time-out, and an alarm would be everybody's.
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
