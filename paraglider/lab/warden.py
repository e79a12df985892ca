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
import signal
import sys
import time

GIVE_UP_AFTER_S = 10.0
PAUSE_S = 0.005  # what was killed takes a moment to be gone, and only a parent would be told


def main() -> int:
    """Wait for the end of standard input, then leave nobody behind; argument: owner's namespace."""
    own = read_mount_namespace("self")
    if len(sys.argv) != 2 or own is None or own == sys.argv[1]:
        print("warden: only the lab starts this, in a mount namespace of its own", file=sys.stderr)
        return 2
    print("ready", flush=True)
    sys.stdin.read()
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    while kill_members(own) > 0 and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    return 0


def read_mount_namespace(process: str) -> str | None:
    """Return what ``/proc/PROCESS/ns/mnt`` points at, e.g. ``mnt:[4026531841]``.

    None where the process is gone or belongs to somebody else.
    """
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return None


def kill_members(namespace: str) -> int:
    """Send SIGKILL to each other process in a mount namespace; return how many there were."""
    others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return sum(kill_member(int(name), namespace) for name in others)


def kill_member(pid: int, namespace: str) -> bool:
    """Send SIGKILL to a process if it is in the namespace; return whether it was.

    The descriptor is opened before the look at the namespace, so that a process that takes over
    the number in between is never hit.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if read_mount_namespace(str(pid)) != namespace:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


if __name__ == "__main__":
    sys.exit(main())
