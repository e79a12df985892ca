"""TLS for the probes of HTTPS, on sockets that do not block.

Python's `ssl` takes 5 MiB, so only a prober with an HTTPS check imports it: `load_tls`, while it
may still read every file. No exception of that module leaves this one.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, TypeVar

from paraglider.config.model import HttpRequest
from paraglider.config.quote import printable
from paraglider.health.verdict import CannotProbe, ProbeFailed

if TYPE_CHECKING:
    import ssl

_T = TypeVar("_T")
_PORT = re.compile(r":[0-9]*$")


class WouldBlock(BlockingIOError):
    """To go on, wait for `events`, which may be others than the call suggests."""

    def __init__(self, events: int) -> None:
        super().__init__()
        self.events = events


class TlsStream:
    """A connected socket with TLS over it; `send` and `recv` are those of a socket."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def shake_hands(self) -> None:
        """Go on with the handshake. Raises WouldBlock until it is done, ProbeFailed where the
        certificate does not pass, and ConnectionError."""
        self._call(self._connection.do_handshake)

    def send(self, data: bytes) -> int:
        return self._call(lambda: self._connection.send(data))

    def recv(self, size_bytes: int) -> bytes:
        return self._call(lambda: self._connection.recv(size_bytes))

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self._connection.setsockopt(level, option, value)

    def close(self) -> None:
        self._connection.close()

    def _call(self, call: Callable[[], _T]) -> _T:
        import ssl

        try:
            return call()
        except ssl.SSLWantReadError as error:
            raise WouldBlock(EVENT_READ) from error
        except ssl.SSLWantWriteError as error:
            raise WouldBlock(EVENT_WRITE) from error
        except ssl.SSLCertVerificationError as error:
            told = error.verify_message.rstrip(".")
            raise ProbeFailed(f"certificate: {told[:1].lower()}{told[1:]}") from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise ConnectionError("closed") from error
        except ssl.SSLError as error:
            reason = (error.reason or "failed").lower().replace("_", " ")
            raise ConnectionError(reason) from error


def load_tls() -> None:
    """Load all that probes over TLS need: Python's ssl, OpenSSL and its settings.

    Call it before the process gives up its rights: an interpreter below a private folder cannot be
    read afterwards. Raises CannotProbe where this Python has no ssl.
    """
    try:
        import ssl

        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except (ImportError, OSError) as error:
        raise CannotProbe(
            f"cannot load Python's module ssl ({error}): use a Python that has it, or another type"
            " of check"
        ) from error


class TlsContexts:
    """What is trusted, read once for each authority, and again when its file was changed."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, bool], tuple[object, ssl.SSLContext]] = {}

    def wrap(self, connection: socket.socket, request: HttpRequest, name: str) -> TlsStream:
        """Return a stream over `connection`, which becomes its own, to a server called `name`.

        Raises CannotProbe where the authority's file cannot be used.
        """
        context = self._find(request.ca if request.is_verified else "", request.is_verified)
        # As bytes: for text, Python imports the tables of all of Unicode.
        host = strip_port(name).encode("ascii")
        try:
            wrapped = context.wrap_socket(
                connection, do_handshake_on_connect=False, server_hostname=host
            )
        except ValueError as error:
            raise CannotProbe(f"cannot ask for {name} over TLS: {error}") from error
        return TlsStream(wrapped)

    def _find(self, ca: str, is_verified: bool) -> ssl.SSLContext:
        load_tls()
        import ssl

        try:
            stat = os.stat(ca) if ca else None
            stamp = stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = self._contexts.get((ca, is_verified))
            if known is not None and known[0] == stamp:
                return known[1]
            context = _make_context(ca, is_verified)
        except ssl.SSLError as error:
            told = f"cannot read certificates of an authority in {printable(ca)}"
            raise CannotProbe(told) from error
        except OSError as error:
            told = f"cannot read the authority {printable(ca)}: {error.strerror}"
            raise CannotProbe(told) from error
        self._contexts[ca, is_verified] = (stamp, context)
        return context


def strip_port(host: str) -> str:
    """Return the name that a certificate holds: of ``shop.example:8443`` or ``[fd00::2]:443``."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return _PORT.sub("", host) if host.count(":") == 1 else host


def _make_context(ca: str, is_verified: bool) -> ssl.SSLContext:
    """Not ssl.create_default_context: from Python 3.13 that is strict (VERIFY_X509_STRICT), and
    authorities that people make themselves do not pass."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        context.load_verify_locations(cafile=ca)
    else:
        context.load_default_certs()
    return context
