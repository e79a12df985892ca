"""One probe of one backend: connect, perhaps speak, and say whether it passed.

Owns one socket that never blocks. It waits for nothing itself: `advance` goes as far as it can,
then `events` says what the socket must be ready for; who calls it (prober.py) keeps the time.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import TypeVar

from paraglider.config.model import Address, Check, CheckKind
from paraglider.health.answer import Answer, BytesAnswer
from paraglider.health.http_answer import HttpAnswer, name_host, render_request
from paraglider.health.probe_result import (
    CannotProbe,
    ProbeFailed,
    ProbeResult,
    describe_errno,
    describe_error,
)
from paraglider.health.tls import TlsContexts, TlsStream, WouldBlock

# No more than the largest record of TLS, so that nothing stays behind where epoll does not see it.
_CHUNK_BYTES = 16 << 10
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# Faults of this host: no files, memory, ports or address family, or a rule of its own firewall.
_OWN_ERRORS = frozenset(
    {
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
    }
)

OpenSocket = Callable[[socket.AddressFamily], socket.socket]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed, and how. `key` is the caller's, and comes back with each result.

    `host_name` is the backend's, '' where it is known by its address alone. An address or a port of
    the check's own goes first.
    """

    key: str
    host_name: str
    address: Address
    port: int
    check: Check


def open_socket(family: socket.AddressFamily) -> socket.socket:
    """Return a TCP socket that does not block."""
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


class Probe:
    """A probe under way. Raises CannotProbe where this host cannot make one (also `advance`).

    The owner calls `close`, once; `fd` stays the same until then.
    """

    def __init__(self, target: Target, contexts: TlsContexts, open_: OpenSocket) -> None:
        self.events = EVENT_WRITE
        self._check = target.check
        self._host_name = target.host_name
        self._contexts = contexts
        self._address = target.address if self._check.address is None else self._check.address
        self._port = target.port if self._check.port is None else self._check.port
        # What comes before the reason of a failure; None once the two speak.
        self._stage: str | None = ""
        self._is_polite = False
        self._opening, self._answer = _plan_talk(target, self._address, self._port)
        family = socket.AF_INET if self._address.version == 4 else socket.AF_INET6
        try:
            self._connection = open_(family)
        except OSError as error:
            raise CannotProbe(f"cannot open a socket: {describe_error(error)}") from error
        self._stream: socket.socket | TlsStream = self._connection
        self.fd = self._connection.fileno()
        self._steps = self._run()

    def advance(self) -> ProbeResult | None:
        """Go on; return the verdict once it is known."""
        try:
            self.events = next(self._steps)
        except StopIteration as stop:
            probe_result: ProbeResult = stop.value
            return probe_result
        except ProbeFailed as failed:
            return ProbeResult(False, str(failed))
        except OSError as error:
            return self._give_up(describe_error(error))
        return None

    def expire(self) -> ProbeResult:
        """Return the verdict now that its time is over."""
        return self._give_up(f"timed out after {self._check.timeout_s:g} s")

    def close(self) -> None:
        """Close the connection: by a reset unless the two have spoken to the end."""
        self._steps.close()
        # Closed already where TLS could not begin.
        with contextlib.suppress(OSError):
            if not self._is_polite:
                self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._stream.close()

    def _give_up(self, why: str) -> ProbeResult:
        if self._stage is None and self._answer is not None:
            return self._answer.end(why)
        return ProbeResult(False, f"{self._stage or ''}{why}")

    def _run(self) -> Generator[int, None, ProbeResult]:
        """Yield what to wait for, and return the verdict."""
        yield from self._connect()
        if self._check.kind is CheckKind.HTTPS:
            yield from self._shake_hands()
        yield from self._send()
        answer = self._answer
        if answer is None:
            # What was sent is still on its way: a reset would throw it away.
            self._is_polite = bool(self._opening)
            return ProbeResult(True, "connected")
        yield from self._read(answer)
        self._is_polite = True
        return answer.end("closed")

    def _connect(self) -> Generator[int, None, None]:
        """Connect. Where nothing is to be said, it leaves no trace, as HAProxy's checks do not.

        Without the quick ACK the handshake stays one packet short, and the reset of `close` is the
        first that the server hears: its accept() does not return (seen on Linux 6.18, loopback and
        veth, IPv4 and IPv6), and nobody keeps a TIME_WAIT. Where the backend is that slow that the
        ACK goes out after all, the server sees a connection that was reset.
        """
        if not self._opening and self._answer is None:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        code = self._connection.connect_ex((str(self._address), self._port))
        if code == errno.EINPROGRESS:
            yield EVENT_WRITE
            code = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code in _OWN_ERRORS:
            raise CannotProbe(f"cannot connect: {_describe_own_error(code)}")
        if code:
            raise ProbeFailed(describe_errno(code))

    def _shake_hands(self) -> Generator[int, None, None]:
        self._stage = "TLS handshake: "
        request = self._check.http
        name = request.sni or request.host or self._host_name or str(self._address)
        stream = self._contexts.wrap(self._connection, request, name)
        self._stream = stream
        yield from _finish(stream.shake_hands, EVENT_READ)

    def _send(self) -> Generator[int, None, None]:
        self._stage = None
        unsent = self._opening
        while unsent:
            sent_bytes = yield from _finish(partial(self._stream.send, unsent), EVENT_WRITE)
            unsent = unsent[sent_bytes:]

    def _read(self, answer: Answer) -> Generator[int, None, None]:
        """Feed `answer` until it is over, or the backend has closed."""
        recv = partial(self._stream.recv, _CHUNK_BYTES)
        while not answer.is_over:
            yield EVENT_READ
            data = yield from _finish(recv, EVENT_READ)
            if not data:
                return
            answer.feed(data)


def _describe_own_error(code: int) -> str:
    reason = describe_errno(code)
    if code in (errno.EPERM, errno.EACCES):
        return f"{reason}; a firewall rule or a route of this host forbids it"
    return reason


def _finish(call: Callable[[], _T], events: int) -> Generator[int, None, _T]:
    """Make a call of a socket, again and again until it does not block; return what it returns.

    Yields what to wait for: `events`, unless TLS knows better.
    """
    while True:
        try:
            return call()
        except WouldBlock as blocked:
            yield blocked.events
        except BlockingIOError:
            yield events


def _plan_talk(target: Target, address: Address, port: int) -> tuple[bytes, Answer | None]:
    """Return what is said once connected, and the answer that is wanted, if any."""
    check = target.check
    if check.kind is CheckKind.TCP:
        return check.send, BytesAnswer(check.expect) if check.expect else None
    host = name_host(check.kind, check.http, target.host_name or address, port)
    return render_request(check.http, host), HttpAnswer(check.http)
