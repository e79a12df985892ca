"""Unix sockets: connect with a limit, and read who is at the other end.

Owns SO_PEERCRED and who is trusted by it. The kernel keeps the credentials; no answer of the other
process is needed (unix(7)).
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from paraglider.kernel.host import NET_ADMIN

# The agent's user in the image (image/agent_user.py has the same number; a test compares them).
AGENT_UID = 65532

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_NO_UID = 0xFFFFFFFF  # of a socket that is not connected
# struct timeval of SO_SNDTIMEO; 32-bit systems whose time is 64 bits wide have SO_SNDTIMEO_NEW,
# 67 (asm-generic/socket.h).
_TIMEVAL = struct.Struct("qq" if socket.SO_SNDTIMEO >= 66 else "@ll")
_COMMAND_BYTES = 200


@dataclass(frozen=True, slots=True)
class Peer:
    """A process at the other end of a unix socket. `pid` is None in another process namespace."""

    pid: int | None
    uid: int

    def __str__(self) -> str:
        if self.pid is None:
            return f"in another container (user {self.uid})"
        return f"(process {self.pid}{_command(self.pid)}, user {self.uid})"

    def may_keep_rules(self) -> bool:
        """Return whether the peer can be a process of ours: root, this user or the agent's, and,
        where its process is visible here, with NET_ADMIN. A prober is uid 0 in some containers, and
        has no capability."""
        if self.uid not in (0, os.geteuid(), AGENT_UID):
            return False
        return self.pid is None or _has_net_admin(self.pid)


def connect_within(connection: socket.socket, address: str, wait_s: float) -> None:
    """Connect a blocking unix socket; wait at most `wait_s` for a place in a full queue.

    A socket with a time-out of Python's does not wait at all there. Raises BlockingIOError where
    the queue stays full, else as connect(2) fails.
    """
    set_send_timeout(connection, wait_s)
    connection.connect(address)


def set_send_timeout(connection: socket.socket, wait_s: float) -> None:
    """Let connect and send of a blocking socket take `wait_s` at most."""
    whole_s = int(wait_s)
    value = _TIMEVAL.pack(whole_s, int((wait_s - whole_s) * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def read_peer(connection: socket.socket) -> Peer | None:
    """Return who is at the other end, with the ids that this process sees, as they were when the
    peer connected or began to listen; None where nobody is."""
    size = _CREDENTIALS.size
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return None if uid == _NO_UID else Peer(pid or None, uid)


def _has_net_admin(pid: int) -> bool:
    """Return False only where proc(5) says so: a process that has ended, and whose children hold
    its socket, cannot be looked up.

    /proc/PID/status has a line ``CapEff:\\t00000000a80425fb``.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            masks = [line.split()[1] for line in file if line.startswith("CapEff:")]
    except OSError:
        return True
    return not masks or bool(int(masks[0], 16) >> NET_ADMIN & 1)


def _command(pid: int) -> str:
    """Return ``: COMMAND``, the end of it; '' where it cannot be read. Its process may have written
    anything there."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(_COMMAND_BYTES).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = b" ".join(words[-4:]).decode("ascii", "replace")
    return ": " + "".join(letter if letter.isprintable() else "?" for letter in text)
