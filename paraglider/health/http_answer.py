"""HTTP/1.1 as far as a probe needs it: one request, and whether the answer is as wanted.

Own code and no library: of HTTP a probe needs the status line, and where the body ends. h11 would
read more than this, into more memory, and would have to be pinned, shipped and watched.

    GET /healthz HTTP/1.1            HTTP/1.1 200 OK
    Host: shop.example               Content-Length: 2
    Connection: close
                                     ok

The answer is read to its end even where the status line has decided, so that no server complains
of a connection reset under it; but never beyond `MAX_HEAD_BYTES` and `MAX_ANSWER_BYTES`.
"""

from __future__ import annotations

import re

from paraglider import __version__
from paraglider.config.headers import HEADER_NAME_PATTERN, HEADER_VALUE_PATTERN
from paraglider.config.model import Address, CheckKind, HttpRequest
from paraglider.config.quote import quoted
from paraglider.health.answer import MAX_ANSWER_BYTES, Finder
from paraglider.health.probe_result import CannotProbe, ProbeResult

# All heads of an answer together, those of 1xx too.
MAX_HEAD_BYTES = 16 << 10
_MAX_CHUNK_LINE_BYTES = 1 << 10

_DEFAULT_PORTS = {CheckKind.HTTP: 80, CheckKind.HTTPS: 443}
_VISIBLE = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(HEADER_NAME_PATTERN)
_HEADER_VALUE = re.compile(HEADER_VALUE_PATTERN)
# Where the check has none of its own.
_DEFAULT_HEADERS = (("User-Agent", f"paraglider/{__version__}"), ("Accept", "*/*"))

_START = b"HTTP/"
# RFC 9112: 2.2 (a line may end in LF alone), 4 (status line), 6 (where a message ends), 7.1.
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?(?:\n|$)")
_CODINGS = re.compile(rb"^transfer-encoding:([^\n]*)", re.IGNORECASE | re.MULTILINE)
_LENGTHS = re.compile(rb"^content-length:([^\n]*)", re.IGNORECASE | re.MULTILINE)
_CHUNK_LINE = re.compile(rb"(?:\r?\n)?([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")


def render_request(request: HttpRequest, host: str) -> bytes:
    """Return the request. Raises CannotProbe where it would be another than the one meant."""
    for text in (request.method, request.path, host):
        if not _VISIBLE.fullmatch(text):
            raise CannotProbe(f"cannot ask {quoted(text)} over HTTP: printable ASCII, no spaces")
    for name, value in request.headers:
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise CannotProbe(f"cannot send the header {quoted(name)}: it is not one line of HTTP")
    given = {name.lower() for name, _ in request.headers}
    headers = [("Host", host)]
    headers += [header for header in _DEFAULT_HEADERS if header[0].lower() not in given]
    headers += [*request.headers, ("Connection", "close")]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{request.method} {request.path} HTTP/1.1\r\n{lines}\r\n".encode("ascii")


def name_host(kind: CheckKind, request: HttpRequest, name: str | Address, port: int) -> str:
    """Return the Host header: the configured one, or `name` with `port` unless it is `kind`'s."""
    if request.host:
        return request.host
    host = name if isinstance(name, str) or name.version == 4 else f"[{name}]"
    return str(host) if port == _DEFAULT_PORTS[kind] else f"{host}:{port}"


class HttpAnswer:
    """The answer to a request, whose status and body it is to have."""

    def __init__(self, request: HttpRequest) -> None:
        self.is_over = False
        self._request = request
        self._body_finder = Finder(request.body.encode()) if request.body else None
        self._verdict: ProbeResult | None = None
        self._head = bytearray()
        self._head_bytes = 0
        self._looked_bytes = 0
        self._body: _Body | None = None
        self._told = ""

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        if self._body is not None:
            self._read_body(self._body, data)
            return
        self._head += data
        while self._body is None and not self.is_over:
            if not self._head.startswith(_START[: len(self._head)]):
                self._refuse(f"not HTTP: {quoted(self._head[:40].decode('latin-1'))}")
                return
            end = _HEAD_END.search(self._head, max(0, self._looked_bytes - 3))
            size_bytes = end.end() if end else len(self._head)
            if self._head_bytes + size_bytes > MAX_HEAD_BYTES:
                self._refuse(f"headers of more than {MAX_HEAD_BYTES >> 10} KiB")
                return
            self._looked_bytes = 0 if end else size_bytes
            if end is None:
                return
            self._head_bytes += size_bytes
            head = bytes(self._head[: end.start()])
            del self._head[:size_bytes]
            self._read_head(head)

    def end(self, why: str) -> ProbeResult:
        """Return the verdict on what arrived."""
        if self._verdict is not None:
            return self._verdict
        if self._body is not None:
            return self._lacking()
        if self._head_bytes or self._head:
            return ProbeResult(False, f"answer cut short: {why}")
        return ProbeResult(False, f"no answer: {why}")

    def _read_head(self, head: bytes) -> None:
        line = _STATUS_LINE.match(head)
        if line is None:
            self._refuse(f"not HTTP: {quoted(head[:40].decode('latin-1'))}")
            return
        status = int(line[1])
        # RFC 9110, 15.2: an answer follows, but not after 101, which changes the protocol.
        if status < 200 and status != 101:
            return
        self._told = f"HTTP {status}"
        if not any(first <= status <= last for first, last in self._request.statuses):
            self._verdict = ProbeResult(False, self._told)
        elif self._body_finder is None:
            self._verdict = ProbeResult(True, self._told)
        has_body = self._request.method != "HEAD" and status not in (101, 204, 304)
        self._body = _Body(head) if has_body else _Body(None)
        self._read_body(self._body, bytes(self._head))

    def _read_body(self, body: _Body, data: bytes) -> None:
        content = body.take(data)
        if (
            self._verdict is None
            and self._body_finder is not None
            and self._body_finder.is_in(content)
        ):
            self._verdict = ProbeResult(True, self._told)
        if body.is_over:
            self._verdict = self._verdict or self._lacking()
            self.is_over = True

    def _lacking(self) -> ProbeResult:
        return ProbeResult(False, f"{self._told}, body lacks {quoted(self._request.body)}")

    def _refuse(self, reason: str) -> None:
        self._verdict = ProbeResult(False, reason)
        self.is_over = True


class _Body:
    """The body that follows a head: what of the bytes after it is content, and where it ends.

    A length that is none means what no length does: all until the connection is closed. Without a
    `head` there is no body.
    """

    def __init__(self, head: bytes | None) -> None:
        self.is_over = False
        self._chunks: _Chunks | None = None
        self._left_bytes = 0
        if head is None:
            return
        self._left_bytes = MAX_ANSWER_BYTES
        lengths = {value.strip() for value in _LENGTHS.findall(head)}
        length = lengths.pop() if len(lengths) == 1 else b""
        if b",".join(_CODINGS.findall(head)).strip().lower().endswith(b"chunked"):
            self._chunks = _Chunks()
        elif length.isdigit() and len(length) <= 18:
            self._left_bytes = min(int(length), MAX_ANSWER_BYTES)

    def take(self, data: bytes) -> bytes:
        """Return the content in `data`."""
        data = data[: self._left_bytes]
        self._left_bytes -= len(data)
        content = data if self._chunks is None else self._chunks.take(data)
        self.is_over = not self._left_bytes or (self._chunks is not None and self._chunks.is_over)
        return content


class _Chunks:
    """Chunked coding: ``2\\r\\nok\\r\\n0\\r\\n\\r\\n``. It is over, too, where it is broken."""

    def __init__(self) -> None:
        self.is_over = False
        self._unread = bytearray()
        self._left_bytes = 0

    def take(self, data: bytes) -> bytes:
        self._unread += data
        content = bytearray()
        while self._unread and not self.is_over:
            if self._left_bytes == 0 and not self._read_line():
                break
            piece = self._unread[: self._left_bytes]
            del self._unread[: len(piece)]
            self._left_bytes -= len(piece)
            content += piece
        return bytes(content)

    def _read_line(self) -> bool:
        """Read the line before a chunk, and the end of the chunk before it, once it is there."""
        line = _CHUNK_LINE.match(self._unread)
        if line is None:
            is_broken = b"\n" in self._unread[2:] or len(self._unread) > _MAX_CHUNK_LINE_BYTES
            self.is_over = is_broken
            return False
        self._left_bytes = int(line[1], 16)
        self.is_over = self._left_bytes == 0
        del self._unread[: line.end()]
        return True
