"""Admin: the unix socket through which commands reach the agent.

Owns the socket, its folder and who may open it: the agent's user, root, and its group. Requests are
answered in the agent's own loop, one after another; a client that says nothing holds up nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable

from paraglider.agent.loop import Loop
from paraglider.agent.protocol import MAX_LINE_BYTES, Answer, Request, decode_request, encode
from paraglider.errors import UnavailableError, UsageError
from paraglider.health.wire import receive
from paraglider.kernel.unix_peer import read_peer

_MAX_CLIENTS = 16
_CLIENT_WAIT_S = 5.0


class AdminServer:
    """Listens at `path` and answers with what `answer` makes of each request."""

    def __init__(self, loop: Loop, path: str, answer: Callable[[Request], Answer]) -> None:
        self._loop = loop
        self._path = path
        self._answer = answer
        self._clients: dict[socket.socket, tuple[bytearray, float]] = {}
        self._listener = _listen(path)
        loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        for client in list(self._clients):
            self._drop(client)
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            peer = read_peer(client)
            if peer is None or not is_welcome(peer.uid, os.geteuid()):
                client.close()
                return
            client.setblocking(False)
            now_s = self._loop.clock()
            for old, (_, since_s) in list(self._clients.items()):
                if now_s - since_s > _CLIENT_WAIT_S or len(self._clients) >= _MAX_CLIENTS:
                    self._drop(old)
            self._clients[client] = bytearray(), now_s
            self._loop.watch(client.fileno(), lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        if client not in self._clients:
            return
        line, _ = self._clients[client]
        part = receive(client)
        if part is None:
            return
        line += part
        if line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
            self._loop.forget(client.fileno())
            del self._clients[client]
            _reply(client, self._answer_line(bytes(line)))
        elif not part or len(line) > MAX_LINE_BYTES:
            self._drop(client)

    def _answer_line(self, line: bytes) -> Answer:
        try:
            request = decode_request(line)
        except (ValueError, TypeError) as error:
            return Answer(UsageError.exit_code, f"not a request: {error}")
        return self._answer(request)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        self._loop.forget(client.fileno())
        client.close()


def is_welcome(peer_uid: int, own_uid: int) -> bool:
    """Return whether a user may ask, whom the socket's mode has let in: not the agent's own, unless
    that is root. It has no one to ask but the prober, which talks with strangers."""
    return peer_uid == 0 or peer_uid != own_uid


def _reply(client: socket.socket, answer: Answer) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(1.0)  # an answer fits the socket's buffer, or its reader is there
        client.sendall(encode(answer))


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
        listener.listen(_MAX_CLIENTS)
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
