"""Admin: the unix socket through which commands reach the agent.

Owns the socket, its folder and who may open it: the agent's user, root, and its group. Requests are
answered in the agent's own loop, one after another. No client holds up the loop or another client:
nothing here waits, and what clients can make the agent do, keep in memory or hold open is limited.
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
# For a client to ask, and to read its answer.
_CLIENT_WAIT_S = 5.0
# Answers that clients have not read yet; one answer alone may be longer.
_MAX_UNREAD_BYTES = 1 << 25
# More are accepted at once than wait in the queue, so that who waits for a place in it gets one.
_BACKLOG = 4
_ACCEPTED_AT_ONCE = 8
# What changes nothing has the same answer for all who ask within REST_S; within _KEPT_S where so
# many ask that answers are made at _LOOKS_PER_S (a flood of them must not cost a core).
LOOKS = ("status", "metrics")
_KEPT_S = 2.0
_LOOKS_AT_ONCE, _LOOKS_PER_S = 20.0, 1.0
_NO_FILES = Answer(
    UnavailableError.exit_code,
    "the agent cannot answer: no file descriptors are left (EMFILE or ENFILE); raise its limit "
    "(ulimit -n) or that of the host (sysctl fs.file-max), and restart it",
)


# Sends an answer to the client.
Reply = Callable[[Answer], None]


@dataclass(slots=True, eq=False)
class _Client:
    """`late_s`: when it is closed, for it has not asked or read; None while the agent is to
    answer. `answer` is shared with clients that asked the same; the first `sent_bytes` are sent."""

    connection: socket.socket
    uid: int
    late_s: float | None
    line: bytearray = field(default_factory=bytearray)
    answer: bytes = b""
    sent_bytes: int = 0


@dataclass(slots=True)
class _Look:
    """A look that is being answered to `clients`, or was answered at `made_s`."""

    clients: list[_Client]
    made_s: float | None = None
    answer: bytes = b""


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
        self._looks: dict[Request, _Look] = {}
        self._looks_left = _LOOKS_AT_ONCE
        self._looks_left_s = loop.clock()
        self._listener = _listen(path)
        # Given up for a moment where there is no other left to accept, and refuse, a client with.
        self._spare = _open_spare()
        loop.watch(self._listener.fileno(), self._accept, rest_s=REST_S)

    def next_s(self) -> float | None:
        """Return when `look` has something to do, on the clock of the loop; None: never yet."""
        times = [client.late_s for client in self._clients]
        times += [look.made_s + _KEPT_S for look in self._looks.values() if look.made_s is not None]
        return min((time_s for time_s in times if time_s is not None), default=None)

    def look(self) -> None:
        """Close clients that have not asked or not read for too long, and forget old answers."""
        now_s = self._loop.clock()
        for client in [c for c in self._clients if c.late_s is not None and c.late_s <= now_s]:
            self._drop(client)
        for request, look in list(self._looks.items()):
            if look.made_s is not None and look.made_s + _KEPT_S <= now_s:
                del self._looks[request]

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
        client = _Client(connection, uid, self._loop.clock() + _CLIENT_WAIT_S)
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
        """Return the oldest client of the user with most of them, of those that are not to be
        answered if there is one."""
        counts = Counter(client.uid for client in self._clients)
        most = max(counts.values())
        theirs = [client for client in self._clients if counts[client.uid] == most]
        return next((client for client in theirs if client.late_s is not None), theirs[0])

    def _read(self, client: _Client) -> None:
        part = receive(client.connection)
        if part is None:
            return
        client.line += part
        if client.line.endswith(b"\n") and len(client.line) <= MAX_LINE_BYTES:
            client.late_s = None
            self._loop.forget(client.connection.fileno())
            self._answer_line(client, bytes(client.line))
        elif not part or len(client.line) > MAX_LINE_BYTES:
            self._drop(client)

    def _answer_line(self, client: _Client, line: bytes) -> None:
        try:
            request = decode_request(line)
        except (ValueError, TypeError) as error:
            self._reply(client, encode(Answer(UsageError.exit_code, f"not a request: {error}")))
            return
        if request.command in LOOKS:
            self._answer_look(client, Request(command=request.command, is_json=request.is_json))
            return
        self._looks.clear()  # the next look shows what this order has done
        self._answer(request, lambda answer: self._reply(client, encode(answer)))

    def _answer_look(self, client: _Client, request: Request) -> None:
        known = self._looks.get(request)
        if known is None or (known.made_s is not None and not self._is_fresh(known.made_s)):
            self._looks_left = max(0.0, self._looks_left - 1)
            look = self._looks[request] = _Look([client])
            self._answer(request, lambda answer: self._reply_look(look, answer))
        elif known.made_s is None:
            known.clients.append(client)
        else:
            self._reply(client, known.answer)

    def _is_fresh(self, made_s: float) -> bool:
        now_s = self._loop.clock()
        more = (now_s - self._looks_left_s) * _LOOKS_PER_S
        self._looks_left = min(_LOOKS_AT_ONCE, self._looks_left + more)
        self._looks_left_s = now_s
        return now_s <= made_s + (REST_S if self._looks_left >= 1 else _KEPT_S)

    def _reply_look(self, look: _Look, answer: Answer) -> None:
        look.made_s, look.answer = self._loop.clock(), encode(answer)
        for client in look.clients:
            self._reply(client, look.answer)
        look.clients = []

    def _reply(self, client: _Client, answer: bytes) -> None:
        """Send what the client takes now, and the rest when it takes more."""
        if client not in self._clients:
            return
        client.answer = answer
        client.late_s = self._loop.clock() + _CLIENT_WAIT_S
        self._send(client)
        if client not in self._clients:
            return
        try:
            descriptor = client.connection.fileno()
            self._loop.watch(descriptor, lambda: self._send(client), is_writing=True)
        except OSError:
            self._drop(client)
        self._limit_unread()

    def _send(self, client: _Client) -> None:
        try:
            with contextlib.suppress(BlockingIOError), memoryview(client.answer) as answer:
                client.sent_bytes += client.connection.send(answer[client.sent_bytes :])
                client.late_s = self._loop.clock() + _CLIENT_WAIT_S
        except OSError:
            client.sent_bytes = len(client.answer)
        if client.sent_bytes == len(client.answer):
            self._drop(client)

    def _limit_unread(self) -> None:
        """Drop the oldest clients while there is more unread than may be kept."""
        unread = [client for client in self._clients if client.answer]
        sizes = {id(client.answer): len(client.answer) for client in unread}
        while len(sizes) > 1 and sum(sizes.values()) > _MAX_UNREAD_BYTES:
            oldest = unread[0].answer
            for client in [client for client in unread if client.answer is oldest]:
                unread.remove(client)
                self._drop(client)
            del sizes[id(oldest)]

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
            os.unlink(path)  # of an agent that was killed: the lock is ours, so no other agent runs
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
        raise PermissionError(0, f"{real} belongs to another user")
