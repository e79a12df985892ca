"""The agent's lock: one agent for each network namespace.

An abstract unix socket, which the kernel keeps apart by network namespace and forgets with the
process that holds it: a container on the host's network and the host itself share it, no file can
be left over, and everybody can tell who holds it, without an answer of his (unix(7)).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from paraglider.errors import LockHeldError, UnavailableError

_NAME = "\0paraglider/agent"
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
# Of those who have asked who holds it, and whom the agent has not come to see off.
_WAITING = 128
_COMMAND_BYTES = 200


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """Who holds the lock: `pid` is None where its process cannot be seen from here, `uid` where
    nothing can be told of it."""

    pid: int | None
    uid: int | None

    def __str__(self) -> str:
        if self.uid is None:
            return "an agent that does not answer"
        if self.pid is None:
            return f"an agent in another container (user {self.uid})"
        return f"an agent (process {self.pid}{_command(self.pid)}, user {self.uid})"


class AgentLock:
    """The lock, held; `fileno` is readable when somebody has asked who holds it."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening

    def fileno(self) -> int:
        return self._socket.fileno()

    def see_off(self) -> None:
        """Let go of those who have asked; they know by now. Where nobody does that, those who ask
        after many others are told no process."""
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return


@contextmanager
def hold_agent_lock() -> Iterator[AgentLock]:
    """Hold the lock inside the `with`; LockHeldError, which says who has it, where another does."""
    with _open_socket() as lock:
        try:
            lock.bind(_NAME)
            lock.listen(_WAITING)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UnavailableError(
                    f"cannot make the unix socket that keeps a second agent away: {error.strerror}"
                ) from error
            holder = find_agent() or "an agent that is just starting or ending"
            raise LockHeldError(
                f"{holder} keeps the rules of this host already, and there can be one: stop that "
                "one first ('paraglider stop', or stop its container)"
            ) from error
        yield AgentLock(lock)


def find_agent() -> AgentProcess | None:
    """Return the agent of this network namespace, None where there is none. Waits for nothing."""
    with _open_socket() as asking:
        try:
            asking.connect(_NAME)
        except ConnectionRefusedError:
            return None
        except OSError:  # it is there, but too many have asked it, or may not
            return AgentProcess(None, None)
        pid, uid = read_peer(asking)
    return AgentProcess(pid or None, uid)


def read_peer(connection: socket.socket) -> tuple[int, int]:
    """Return process and user at the other end of a unix socket, as this process sees them (0: a
    process of another process namespace), and as they were when it connected or began to listen."""
    size = _CREDENTIALS.size
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return pid, uid


def _open_socket() -> socket.socket:
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_UNIX, kind)


def _command(pid: int) -> str:
    """Return ``: COMMAND``, the end of it; '' where it cannot be read. Anybody may have written it,
    and hold the lock."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(_COMMAND_BYTES).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = b" ".join(words[-4:]).decode("ascii", "replace")
    return ": " + "".join(letter if letter.isprintable() else "?" for letter in text)
