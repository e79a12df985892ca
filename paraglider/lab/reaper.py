"""The process that a lab's life hangs on: when its standard input ends, the lab's processes end.

The lab starts it in a mount namespace of its own, and everything else of the lab runs in that
namespace. The kernel closes the pipe on standard input however the lab's owner ends, SIGKILL
included; then every process found in this mount namespace is killed. With the last of them go the
network namespaces, and with those every link, address and rule of the lab.

It must never kill outside of the lab: it wants to be told the mount namespace of its owner, and
refuses to run when that is its own.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

GIVE_UP_AFTER_S = 10.0


def main() -> int:
    """Wait for the end of standard input, then leave nobody behind; argument: owner's namespace."""
    own = read_mount_namespace("self")
    if len(sys.argv) != 2 or own is None or own == sys.argv[1]:
        print("warden: only the lab starts this, in a mount namespace of its own", file=sys.stderr)
        return 2
    print("ready", flush=True)
    sys.stdin.read()
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    # Until a look finds nobody: who was killed may have started others since the look before.
    while (killed := kill_members(own)) and time.monotonic() < deadline:
        for descriptor in killed:
            wait_for_end(descriptor, deadline)
            os.close(descriptor)
    return 0


def read_mount_namespace(process: str) -> str | None:
    """Return what ``/proc/PROCESS/ns/mnt`` points at, e.g. ``mnt:[4026531841]``.

    None where the process is gone or belongs to somebody else.
    """
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return None


def kill_members(namespace: str) -> list[int]:
    """Send SIGKILL to each other process in a mount namespace; return a descriptor of each."""
    others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    killed = (kill_member(int(name), namespace) for name in others)
    return [descriptor for descriptor in killed if descriptor is not None]


def kill_member(pid: int, namespace: str) -> int | None:
    """Send SIGKILL to a process if it is in the namespace; return its descriptor then.

    The descriptor is opened before the look at the namespace, so that a process that takes over
    the number in between is never hit.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        if read_mount_namespace(str(pid)) == namespace:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            return descriptor
    except ProcessLookupError:
        pass  # it has just ended
    os.close(descriptor)
    return None


def wait_for_end(descriptor: int, deadline: float) -> None:
    """Wait until a process has ended, or until the deadline (pidfd_open(2))."""
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    ended.poll(1000 * max(0.0, deadline - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main())
