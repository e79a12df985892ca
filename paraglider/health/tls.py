"""TLS for the probes of HTTPS, on sockets that do not block.

Python's `ssl` takes 5 MiB, so only a prober with an HTTPS check imports it: `load_tls`, while it
may still read every file. No exception of that module leaves this one.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Iterable, Sequence
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, TypeVar

from paraglider.config.model import HttpRequest
from paraglider.config.quote import printable
from paraglider.errors import explain
from paraglider.health.probe_result import CannotProbe, ProbeFailed

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
            reason = error.verify_message.rstrip(".")
            raise ProbeFailed(f"certificate: {reason[:1].lower()}{reason[1:]}") from error
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
            f"cannot load Python's module ssl ({explain(error)}): use a Python that has it, or"
            " another type of check"
        ) from error


class TlsContexts:
    """What is trusted, read once for each authority, and again when its files were changed: those
    of the system are renewed, too, while a prober lives."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, bool], tuple[object, ssl.SSLContext]] = {}

    def wrap(self, connection: socket.socket, request: HttpRequest, name: str) -> TlsStream:
        """Return a stream over `connection`, which becomes its own, to a server called `name`.

        Raises CannotProbe where the authority's file cannot be used.
        """
        context = self.find(request)
        # As bytes: for text, Python imports the tables of all of Unicode.
        host = strip_port(name).encode("ascii")
        try:
            wrapped = context.wrap_socket(
                connection, do_handshake_on_connect=False, server_hostname=host
            )
        except ValueError as error:
            raise CannotProbe(f"cannot ask for {name} over TLS: {error}") from error
        return TlsStream(wrapped)

    def find(self, request: HttpRequest) -> ssl.SSLContext:
        """Return what trusts the authority of `request`. Raises CannotProbe where there is none."""
        if not self._contexts:
            load_tls()
        ca, is_verified = key = _key(request)
        stamp = [_stamp(path) for path in _trusted_paths(ca)] if is_verified else []
        known = self._contexts.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        context = _make_context(ca, is_verified)
        self._contexts[key] = (stamp, context)
        return context

    def keep(self, requests: Iterable[HttpRequest]) -> None:
        """Forget what none of `requests` needs: 144 authorities take 0.8 MiB, and every reload may
        name another file."""
        wanted = {_key(request) for request in requests}
        self._contexts = {key: it for key, it in self._contexts.items() if key in wanted}


def _key(request: HttpRequest) -> tuple[str, bool]:
    """Return the authority's file, '' for the system's or none, and whether it has to vouch."""
    return (request.ca, True) if request.is_verified else ("", False)


def _trusted_paths(ca: str) -> Sequence[str]:
    """Return `ca`, or where the system's authorities are: a file, and a folder with one in each."""
    if ca:
        return (ca,)
    import ssl

    system, environment = ssl.get_default_verify_paths(), os.environ
    return (
        environment.get(system.openssl_cafile_env, system.openssl_cafile),
        environment.get(system.openssl_capath_env, system.openssl_capath),
    )


def _stamp(path: str) -> tuple[int, ...] | None:
    """Return what differs once the file is another one, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
        _trust_file(context, ca)
    else:
        _trust_system(context)
    return context


def _trust_file(context: ssl.SSLContext, ca: str) -> None:
    import ssl

    try:
        if not stat.S_ISREG(os.stat(ca).st_mode):  # a pipe would be waited for
            raise CannotProbe(f"ca {printable(ca)} is not a regular file; write the path of one")
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        reason = f"no certificate can be read from ca {printable(ca)}"
        raise CannotProbe(f"{reason}; put the authority's certificate there, as PEM") from error
    except OSError as error:
        reason = f"cannot read ca {printable(ca)}: {error.strerror}"
        raise CannotProbe(f"{reason}{_mend_reading(error)}") from error


def _mend_reading(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "; the prober has no rights: chmod o+r the file, o+x its folders"
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "; correct the path, or mount the file"
    return ""  # of files or memory this host may have more soon


def _trust_system(context: ssl.SSLContext) -> None:
    context.load_default_certs()
    _, folder = _trusted_paths("")
    if context.cert_store_stats()["x509"]:
        return
    # Those of the folder are looked up when a certificate asks for them.
    try:
        if os.listdir(folder):
            return
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:
        raise CannotProbe(f"cannot read certificates in {folder}: {error.strerror}") from error
    raise CannotProbe(
        "this system has no certificates of authorities; install ca-certificates, or name a file"
        " with ca:"
    )
