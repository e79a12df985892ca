"""Admin: the unix socket through which commands reach the agent.

Owns the socket, its folder and who may open it: the agent's user, root, and its group. Requests are
answered in the agent's own loop, one after another. No client holds up the loop or another client:
nothing here waits, a slow reader's answer stays in memory, and where there are too many clients the
user with most of them loses the oldest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from paraglider.agent.loop import REST_S, Loop
from paraglider.agent.protocol import MAX_LINE_BYTES, Answer, Request, decode_request, encode
from paraglider.errors import UnavailableError, UsageError
from paraglider.health.wire import receive
from paraglider.kernel.unix_peer import read_peer_uid

_MAX_CLIENTS = 16
_CLIENT_WAIT_S = 5.0
_BACKLOG = 16
_ACCEPTED_AT_ONCE = 16
# What changes nothing has the same answer for all who ask within REST_S.
LOOKS = ("status", "metrics")
_NO_FILES = Answer(
    UnavailableError.exit_code,
    "the agent cannot answer: no file descriptors are left (EMFILE or ENFILE); raise its limit "
    "(ulimit -n) or that of the host (sysctl fs.file-max), and restart it",
)


# Gives an answer to whoever asked.
Reply = Callable[[Answer], None]


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    uid: int
    since_s: float
    line: bytearray = field(default_factory=bytearray)
    is_answered: bool = False
    unsent: bytes = b""


class AdminServer:
    """Listens at `path`; `answer` gets each request, and what to call, now or later, with its
    answer."""

    def __init__(
        self,
        loop: Loop,
        path: str,
        answer: Callable[[Request, Reply], None],
        *,
        may_ask: Callable[[int], bool] = lambda uid: is_welcome(uid, os.geteuid()),
    ) -> None:
        self._may_ask = may_ask
        self._loop = loop
        self._path = path
        self._answer = answer
        self._clients: list[_Client] = []
        self._looked: tuple[float, Request, Answer] | None = None
        self._listener = _listen(path)
        # Given up for a moment where there is no other left to accept, and refuse, a client with.
        self._spare = _open_spare()
        loop.watch(self._listener.fileno(), self._accept, rest_s=REST_S)

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        for client in list(self._clients):
            self._drop(client)
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._close_spare()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _accept(self) -> None:
        if self._spare < 0:  # something else took its place
            self._spare = _open_spare()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or self._spare < 0:
                    return
                self._refuse_one()
                continue
            self._take(connection)

    def _refuse_one(self) -> None:
        self._close_spare()
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.setblocking(False)
                connection.send(encode(_NO_FILES))
                connection.recv(MAX_LINE_BYTES)  # unread, it would turn the end into a reset
        self._spare = _open_spare()

    def _close_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
        self._spare = -1

    def _take(self, connection: socket.socket) -> None:
        uid = read_peer_uid(connection)
        if uid is None or not self._may_ask(uid):
            connection.close()
            return
        connection.setblocking(False)
        now_s = self._loop.clock()
        late_s = now_s - _CLIENT_WAIT_S
        for old in [c for c in self._clients if c.since_s < late_s and not c.is_answered]:
            self._drop(old)
        client = _Client(connection, uid, now_s)
        try:
            self._loop.watch(connection.fileno(), lambda: self._read(client))
        except OSError:  # the kernel watches no more files for us
            connection.close()
            return
        self._clients.append(client)
        self._read(client)  # before others push it out: most have asked by now
        if len(self._clients) > _MAX_CLIENTS:
            self._drop(self._most_dispensable())

    def _most_dispensable(self) -> _Client:
        """Return the oldest client of the user with most of them."""
        counts = Counter(client.uid for client in self._clients)
        most = max(counts.values())
        return next(client for client in self._clients if counts[client.uid] == most)

    def _read(self, client: _Client) -> None:
        part = receive(client.connection)
        if part is None:
            return
        client.line += part
        if client.line.endswith(b"\n") and len(client.line) <= MAX_LINE_BYTES:
            client.is_answered = True
            self._loop.forget(client.connection.fileno())
            self._answer_line(client, bytes(client.line))
        elif not part or len(client.line) > MAX_LINE_BYTES:
            self._drop(client)

    def _answer_line(self, client: _Client, line: bytes) -> None:
        try:
            request = decode_request(line)
        except (ValueError, TypeError) as error:
            self._reply(client, Answer(UsageError.exit_code, f"not a request: {error}"))
            return
        if request.command not in LOOKS:
            self._looked = None
            self._answer(request, lambda answer: self._reply(client, answer))
            return
        now_s = self._loop.clock()
        if self._looked and self._looked[1] == request and now_s <= self._looked[0] + REST_S:
            self._reply(client, self._looked[2])
            return
        self._answer(request, lambda answer: self._reply_look(client, request, answer))

    def _reply_look(self, client: _Client, request: Request, answer: Answer) -> None:
        self._looked = self._loop.clock(), request, answer
        self._reply(client, answer)

    def _reply(self, client: _Client, answer: Answer) -> None:
        """Send what the client takes now, and the rest when it takes more."""
        if client not in self._clients:
            return
        descriptor = client.connection.fileno()
        client.unsent = encode(answer)
        self._send(client)
        if client.unsent:
            try:
                self._loop.watch(descriptor, lambda: self._send(client), is_writing=True)
            except OSError:
                self._drop(client)

    def _send(self, client: _Client) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                client.unsent = client.unsent[client.connection.send(client.unsent) :]
        except OSError:
            client.unsent = b""
        if not client.unsent:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._loop.forget(client.connection.fileno())
            client.connection.close()


def is_welcome(peer_uid: int, own_uid: int) -> bool:
    """Return whether a user may ask, whom the socket's mode has let in: not the agent's own, unless
    that is root. It has no one to ask but the prober, which talks with strangers."""
    return peer_uid == 0 or peer_uid != own_uid


def _open_spare() -> int:
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _listen(path: str) -> socket.socket:
    """Return a listening socket that the owner and the group may connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # No one but us can be here before the mode is set: the folder is ours, and its mode is 0750.
    before = os.umask(0o117)
    try:
        _make_folder(os.path.dirname(path))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of an agent that was killed: whoever holds the lock is alone here
        listener.bind(path)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot make the socket {path}: {error.strerror}; commands cannot reach this agent"
        ) from error
    finally:
        os.umask(before)
    return listener


def _make_folder(folder: str) -> None:
    real = os.path.realpath(folder)  # in the image /run/paraglider leads to where one may write
    before = os.umask(0o027)
    try:
        os.makedirs(real, mode=0o750, exist_ok=True)
    finally:
        os.umask(before)
    found = os.stat(real)
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & stat.S_IWOTH:
        raise PermissionError(0, f"{real} is somebody else's")
