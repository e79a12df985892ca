"""Who the agent is: a user of its own with what it needs, or root with as little.

Owns the decision, which process 1 takes before it starts an agent, and what only root can prepare
for that user: the lock of iptables-legacy and the folder of the admin socket
(docs/adr/0013-agent-user.md). It drops nothing itself: setpriv(1) does, in the agent's process.

Process 1 stays as long as the container does: nothing large is imported here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping

# As in /etc/passwd (rootfs.py). The agent's group is root's: each can open what the other leaves
# to the group, also a root that has no capability to pass over modes.
USER_ID = 65532
SOCKET_FOLDER = "/run/paraglider"
LOCK = "/run/xtables.lock"

# Bits of a capability mask (linux/capability.h), under setpriv's names.
_BITS = {"kill": 5, "setuid": 7, "setpcap": 8, "net_admin": 12, "net_raw": 13}


def prepare_user(environment: Mapping[str, str]) -> tuple[list[str], str]:
    """Make ready what the agent finds, and return the command that makes a process the agent's,
    up to the agent's own command, with a line for the log ('' where all is as it should be)."""
    make_socket_folder()
    held = held_capabilities()
    if "net_admin" not in held or os.getuid() != 0:
        return [], ""  # the agent says what is missing
    if not is_legacy_used(environment):
        return choose_user(held)
    return choose_user(held, lock_refused=share_lock(environment.get("XTABLES_LOCKFILE", LOCK)))


def choose_user(held: frozenset[str], lock_refused: str = "") -> tuple[list[str], str]:
    """Decide by the capabilities that process 1 has.

    `lock_refused` says why the agent's user cannot be let into the lock, which root can open.
    """
    wanted = [name for name in ("net_admin", "net_raw") if name in held]
    sets = ",".join(("-all", *(f"+{name}" for name in wanted)))
    command = ["setpriv", "--no-new-privs", f"--inh-caps={sets}", f"--ambient-caps={sets}"]
    if "setpcap" in held:
        command.append(f"--bounding-set={sets}")
    # Without KILL process 1 may signal no other user's process. SETGID is not needed.
    if lacking := [name for name in ("setuid", "kill") if name not in held]:
        flags = " ".join(f"--cap-add={name.upper()}" for name in lacking)
        mend = f"{flags} would give it a user of its own"
    elif lock_refused:
        mend = lock_refused
    else:
        return [*command, f"--reuid={USER_ID}", "--keep-groups"], ""
    return command, f"the agent runs as root, with {' and '.join(map(str.upper, wanted))}: {mend}"


def held_capabilities() -> frozenset[str]:
    """Return which of _BITS this process has in effect.

    /proc/self/status has a line ``CapEff:\t00000000a80425fb``.
    """
    with open("/proc/self/status", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file)
    mask = int(fields["CapEff"], 16)
    return frozenset(name for name, bit in _BITS.items() if mask >> bit & 1)


def is_legacy_used(environment: Mapping[str, str]) -> bool:
    """Tell whether the agent may have to use iptables-legacy, and its lock."""
    if environment.get("PARAGLIDER_IPTABLES") == "legacy":
        return True
    for family in ("ip", "ip6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{family}_tables_names") as file:
            if file.read():
                return True
    return False


def share_lock(path: str) -> str:
    """Let the agent's group open the lock of iptables-legacy; return why that cannot be, or ''.

    iptables makes the file for root alone, and everybody on the host has to lock the same one. To
    lock it takes no more than to open it for reading. Where root cannot do that either, there is
    nothing to lose, and the agent says so.
    """
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return ""
    try:
        mode = stat.S_IMODE(os.fstat(lock).st_mode)
        if not mode & stat.S_IRGRP:
            os.fchmod(lock, mode | stat.S_IRGRP)
    except OSError as error:
        return f"{path} is for its owner alone ({error.strerror}); on the host: chmod g+r {path}"
    finally:
        os.close(lock)
    return ""


def make_socket_folder() -> None:
    """Make the folder of the admin socket, for root's group, where it is not there.

    In the image its name leads to /dev/shm, which can be written in every container; under
    `--tmpfs /run` that link is hidden, and only root may make a folder there.
    """
    with contextlib.suppress(OSError):
        folder = os.path.realpath(SOCKET_FOLDER)
        os.mkdir(folder)
        os.chmod(folder, 0o770)  # noqa: S103 - the agent's group is root's
