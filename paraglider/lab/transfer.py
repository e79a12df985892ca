"""Much through one connection, there and back: does it arrive whole and in order?

One thread sends while the other reads the echo, so that both directions are full at once.
"""

from __future__ import annotations

import hashlib
import random
import socket
import threading

from paraglider.lab.wire import open_connection

CHUNK_BYTES = 1 << 16


def transfer(host: str, port: int, *, size: int, timeout_s: float) -> tuple[str, str]:
    """Send `size` bytes to an echoing server; return the SHA-256 of what went and of what came.

    Raises OSError where the connection breaks or the echo ends early, ValueError where the other
    end is no server of the lab.
    """
    connection, _ = open_connection(host, port, timeout_s=timeout_s)
    with connection:
        connection.settimeout(timeout_s)
        sent = hashlib.sha256()
        sender = threading.Thread(target=_send, args=(connection, size, sent), daemon=True)
        sender.start()
        received = _receive(connection, size)
        sender.join()
    return sent.hexdigest(), received


def _send(connection: socket.socket, size: int, digest: hashlib._Hash) -> None:
    # No two chunks alike, so that none can take the place of another unseen.
    source = random.Random(size)  # noqa: S311 - nothing is secret here
    try:
        for begin in range(0, size, CHUNK_BYTES):
            chunk = source.randbytes(min(CHUNK_BYTES, size - begin))
            digest.update(chunk)
            connection.sendall(chunk)
    except OSError:
        return  # the reader fails by the same cause, and says so


def _receive(connection: socket.socket, size: int) -> str:
    digest, count = hashlib.sha256(), 0
    while count < size:
        chunk = connection.recv(CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError(f"closed after {count} of {size} bytes")
        digest.update(chunk)
        count += len(chunk)
    return digest.hexdigest()
