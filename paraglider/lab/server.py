"""A backend for tests: names itself and its peer on each connection, then echoes.

One thread, one selector. It must never wait for one client: a slow reader fills its own buffer
and is read again when that is empty.
"""

from __future__ import annotations

import selectors
import socket
from dataclasses import dataclass, field
from typing import BinaryIO

from paraglider.lab.wire import family_of, render_greeting

CHUNK_BYTES = 65536
BACKLOG = 4096


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises OSError where the address is not ours to have."""
    listener = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@dataclass(slots=True)
class Client:
    """One accepted connection: what is still to be sent, and whether its end was seen."""

    connection: socket.socket
    unsent: bytes
    ended: bool = False


@dataclass(slots=True)
class Server:
    """Serves a listener until `until` (a file, such as standard input) ends; for ever if None."""

    listener: socket.socket
    name: str
    until: BinaryIO | None = None
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> None:
        """Accept, greet and echo."""
        self._selector.register(self.listener, selectors.EVENT_READ, self.listener)
        if self.until is not None:
            self._selector.register(self.until, selectors.EVENT_READ, self.until)
        while True:
            for key, events in self._selector.select():
                if key.data is self.listener:
                    self._accept()
                elif isinstance(key.data, Client):
                    self._move(key.data, events)
                elif not key.data.read1(CHUNK_BYTES):
                    return

    def _accept(self) -> None:
        try:
            connection, address = self.listener.accept()
        except OSError:
            return  # gone between the selector's word and ours
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(connection, render_greeting(self.name, address[0], address[1]))
        self._selector.register(connection, selectors.EVENT_WRITE, client)
        self._move(client, selectors.EVENT_WRITE)

    def _move(self, client: Client, events: int) -> None:
        """Read or write what one connection has to offer; forget it when it is over."""
        try:
            if events & selectors.EVENT_READ:
                chunk = client.connection.recv(CHUNK_BYTES)
                client.ended = not chunk
                client.unsent += chunk
            if client.unsent:
                client.unsent = client.unsent[client.connection.send(client.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            client.ended, client.unsent = True, b""
        if client.unsent:
            self._selector.modify(client.connection, selectors.EVENT_WRITE, client)
        elif not client.ended:
            self._selector.modify(client.connection, selectors.EVENT_READ, client)
        else:
            self._selector.unregister(client.connection)
            client.connection.close()
