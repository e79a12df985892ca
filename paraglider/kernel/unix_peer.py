"""Unix sockets: connect with a limit, and read who is at the other end.

Owns SO_PEERCRED and who is trusted by it. The kernel keeps the credentials; no answer of the other
process is needed (unix(7)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass

from paraglider.kernel.host import NET_ADMIN

# The agent's user in the image (image/agent_user.py has the same number; a test compares them).
AGENT_UID = 65532

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_NO_UID = 0xFFFFFFFF  # of a socket that is not connected
# Since Linux 6.5 (asm-generic/socket.h): a pidfd of the process that SO_PEERCRED names.
_SO_PEERPIDFD = 77
# struct timeval of SO_SNDTIMEO; 32-bit systems whose time is 64 bits wide have SO_SNDTIMEO_NEW,
# 67 (asm-generic/socket.h).
_TIMEVAL = struct.Struct("qq" if socket.SO_SNDTIMEO >= 66 else "@ll")
_COMMAND_BYTES = 200


@dataclass(frozen=True, slots=True)
class Peer:
    """A process at the other end of a unix socket. `pid` is None in another process namespace.

    `is_ended`: that process has ended, and another one, its child for example, has the socket.
    """

    pid: int | None
    uid: int
    is_ended: bool = False
    has_net_admin: bool = True

    def __str__(self) -> str:
        if self.is_ended:
            number = "of another container" if self.pid is None else f"{self.pid}"
            return f"(a child of process {number}, which has ended, user {self.uid})"
        if self.pid is None:
            return f"in another container (user {self.uid})"
        return f"(process {self.pid}{_command(self.pid)}, user {self.uid})"

    def may_keep_rules(self) -> bool:
        """Return whether the peer can be a process of ours: root, this user or the agent's, and,
        where its process is visible here, with NET_ADMIN. A prober is uid 0 in some containers, and
        has no capability."""
        return self.uid in (0, os.geteuid(), AGENT_UID) and self.has_net_admin


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
    peer connected or began to listen; None where there is no peer.

    The process number may have been given to another process since then. A pidfd cannot be; before
    Linux 6.5 a process of another user is known not to be the peer.
    """
    found = _read_credentials(connection)
    if found is None:
        return None
    number, uid = found
    pid = number or None
    pidfd = _open_peer(connection)
    try:
        uids, has_net_admin = ((), True) if pid is None else _read_status(pid)
        if pidfd is None:
            is_ended = pid is not None and (_is_gone(pid) or bool(uids and uid not in uids))
        else:  # looked at last: the number was the peer's when its status was read
            is_ended = pidfd < 0 or _has_ended(pidfd)
    finally:
        if pidfd is not None and pidfd >= 0:
            os.close(pidfd)
    return Peer(pid, uid, is_ended, has_net_admin or is_ended)


def find_keeper(name: str) -> Peer | None:
    """Return a process that has the listening socket at an abstract `name` open, one with
    NET_ADMIN if there is one; None where none is visible here.

    It reads every file of every process: for sockets alone whose peer cannot be asked or has ended.
    """
    links = {f"socket:[{inode}]" for inode in _read_listening(f"@{name}")}
    keepers = []
    for pid in _processes() if links else ():
        if links.intersection(_links(pid)):
            uids, has_net_admin = _read_status(pid)
            if uids:
                keepers.append(Peer(pid, uids[1], has_net_admin=has_net_admin))
    return max(keepers, key=lambda peer: peer.has_net_admin, default=None)


def _read_listening(path: str) -> list[str]:
    """Return the inodes of sockets that listen at `path`.

    /proc/net/unix has, after the head, lines
    ``000000003bb8e7e2: 00000002 00000000 00010000 0001 01 26012 @paraglider/rules``; the fourth
    word has __SO_ACCEPTCON (linux/net.h) if it listens.
    """
    try:
        with open("/proc/self/net/unix", encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    return [words[6] for words in lines if words[7:] == [path] and int(words[3], 16) & 1 << 16]


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _links(pid: int) -> list[str]:
    """Return what the files of a process are links to; none where they are not ours to see."""
    folder, links = f"/proc/{pid}/fd", []
    with contextlib.suppress(OSError):
        for number in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed meanwhile
                links.append(os.readlink(f"{folder}/{number}"))
    return links


def read_peer_uid(connection: socket.socket) -> int | None:
    """Return the user at the other end, None where there is no peer."""
    found = _read_credentials(connection)
    return None if found is None else found[1]


def _read_credentials(connection: socket.socket) -> tuple[int, int] | None:
    """Return the process number, 0 in another process namespace, and the user."""
    size = _CREDENTIALS.size
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return None if uid == _NO_UID else (pid, uid)


def _open_peer(connection: socket.socket) -> int | None:
    """Return a pidfd of the peer, -1 where it has ended, None where the kernel gives none.

    Kernels before 6.16 have no pidfd of a process that was waited for: EINVAL, later ESRCH.
    """
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        return -1 if error.errno in (errno.EINVAL, errno.ESRCH) else None


def _has_ended(pidfd: int) -> bool:
    """Return whether the process has ended: its pidfd is readable then (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    return False


def _read_status(pid: int) -> tuple[tuple[int, ...], bool]:
    """Return the users of a process, and whether it has NET_ADMIN in this user namespace; () and
    True where proc(5) does not say.

    /proc/PID/status has lines ``Uid:\\t0\\t0\\t0\\t0`` and ``CapEff:\\t00000000a80425fb``.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            words = {key: rest.split() for key, _, rest in (line.partition(":") for line in file)}
    except OSError:
        return (), True
    masks = words.get("CapEff", [])
    uids = tuple(int(word) for word in words.get("Uid", []))
    has_capability = not masks or bool(int(masks[0], 16) >> NET_ADMIN & 1)
    return uids, has_capability and _is_of_our_namespace(pid)


def _is_of_our_namespace(pid: int) -> bool:
    """Return whether a process is in this user namespace, as far as is known: in one of its own
    anybody has all capabilities.

    /proc/PID/uid_map, which every user may read, is not the same there: without capabilities here,
    a process can map only its own user there (user_namespaces(7)).
    """
    try:
        with open(f"/proc/{pid}/uid_map", "rb") as theirs, open("/proc/self/uid_map", "rb") as ours:
            return theirs.read() == ours.read()
    except OSError:
        return True


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
