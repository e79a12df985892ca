"""Much through one connection, between two threads of this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from paraglider.lab.transfer import transfer

SIZE = 300_000


@contextmanager
def _server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Serve one connection on loopback: the greeting, then `answer`."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"b1 127.0.0.1 1\n")
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


def _echo(connection: socket.socket) -> None:
    while chunk := connection.recv(65536):
        connection.sendall(chunk)


def _echo_with_a_fault(connection: socket.socket) -> None:
    connection.sendall(bytes([connection.recv(1)[0] ^ 1]))
    _echo(connection)


def _break_off(connection: socket.socket) -> None:
    connection.sendall(connection.recv(1000))


def test_what_comes_back_whole_has_the_same_checksum() -> None:
    with _server(_echo) as (host, port):
        sent, received = transfer(host, port, size=SIZE, timeout_s=5)
    assert sent == received


def test_one_wrong_bit_is_seen() -> None:
    with _server(_echo_with_a_fault) as (host, port):
        sent, received = transfer(host, port, size=SIZE, timeout_s=5)
    assert sent != received


def test_an_echo_that_ends_early_is_an_error() -> None:
    with _server(_break_off) as (host, port), pytest.raises(ConnectionError):
        transfer(host, port, size=SIZE, timeout_s=5)
