"""How the lab's server and clients speak: endpoints, and the line that names the server.

A server greets each connection with ``NAME PEER_ADDRESS PEER_PORT``, then sends back what it gets.
Standard library only: this runs on small hosts and starts often.
"""

from __future__ import annotations

import resource
import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from paraglider.config.quote import quoted
from paraglider.lab.results import Answer

GREETING_LIMIT = 512


def parse_endpoint(text: str) -> tuple[str, int]:
    """Read ``166.1.101.2:4444`` or ``[::1]:80``; port 0 to 65535. Raises ValueError otherwise."""
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ip_address(host[1:-1] if bracketed else host) if colon else None
    if address is None or bracketed != (address.version == 6):
        raise ValueError(f"{text}: expected ADDRESS:PORT, an IPv6 address in []")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535):
        raise ValueError(f"{text}: {quoted(port_text)} is no port, expected 0 to 65535")
    return str(address), int(port_text)


def family_of(host: str) -> socket.AddressFamily:
    """Return the socket family of an address."""
    address: IPv4Address | IPv6Address = ip_address(host)
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def render_greeting(name: str, peer: str, port: int) -> bytes:
    """Return the line that a server sends first.

    A server on ``[::]`` serves IPv4 too, and sees ``::ffff:172.19.0.4``: told without that prefix.
    """
    address = ip_address(peer)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return f"{name} {mapped or address} {port}\n".encode()


def parse_greeting(line: bytes) -> Answer:
    """Read a server's first line; raises ValueError where it is none.

    >>> parse_greeting(b"172.19.0.2:5555 172.19.0.4 43210")
    Answer(backend='172.19.0.2:5555', peer='172.19.0.4')
    """
    words = line.decode("utf-8", "replace").split()
    if len(words) != 3:
        raise ValueError(f"not a greeting: {quoted(line.decode('latin-1'))}")
    return Answer(backend=words[0], peer=words[1])


def open_connection(
    host: str, port: int, *, timeout_s: float, source: str = ""
) -> tuple[socket.socket, Answer]:
    """Connect (from the own address `source`, if given) and read the greeting, both in time.

    Raises OSError (TimeoutError among them), or ValueError where the other end is no such server.
    """
    deadline = time.monotonic() + timeout_s
    own = (source, 0) if source else None
    connection = socket.create_connection((host, port), timeout=timeout_s, source_address=own)
    try:
        return connection, parse_greeting(read_line(connection, deadline))
    except BaseException:
        connection.close()
        raise


def read_line(connection: socket.socket, deadline: float) -> bytes:
    """Return the first line, without its end."""
    received = b""
    while b"\n" not in received and len(received) < GREETING_LIMIT:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(remaining_s)
        chunk = connection.recv(GREETING_LIMIT)
        if not chunk:
            raise ConnectionResetError("closed before the greeting")
        received += chunk
    return received.partition(b"\n")[0]


def describe(error: Exception) -> str:
    """Return a failure as a reason that can be counted: the same words for the same failure."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def raise_file_limit() -> None:
    """Allow as many open connections as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
