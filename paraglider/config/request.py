"""What a check says over HTTP or TCP, and what it looks for: the texts, each within bounds.

Owns that nothing but one line of a request ever comes of them: no space and no line end gets into
a path or a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from paraglider.config.address import IPV4_PATTERN, IPV6_PATTERN, Refused
from paraglider.config.endpoint import PORT_PATTERN
from paraglider.config.model import HOST_PATTERN, MAX_HOST_CHARACTERS
from paraglider.config.quote import quoted

METHODS = ("GET", "HEAD", "OPTIONS")
MAX_PATH_CHARACTERS = 1024
MAX_TEXT_CHARACTERS = 1024
MAX_BYTES = 1024
MAX_CA_CHARACTERS = 1024
MAX_STATUSES = 50
TOO_MANY_STATUSES = f"more than {MAX_STATUSES} numbers and ranges; write fewer and wider ones"

PATH_PATTERN = rf"/[!-~]{{0,{MAX_PATH_CHARACTERS - 1}}}"
HOST_HEADER_PATTERN = rf"(?:{HOST_PATTERN}|{IPV4_PATTERN}|\[({IPV6_PATTERN})\])(?::{PORT_PATTERN})?"
_STATUS = r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?"
STATUSES_PATTERN = rf"{_STATUS}(?:, *{_STATUS}){{0,{MAX_STATUSES - 1}}}"

_MAX_HEADER_CHARACTERS = MAX_HOST_CHARACTERS + len(":65535")

_ESCAPES = {r"\r": b"\r", r"\n": b"\n", r"\t": b"\t", r"\0": b"\0", r"\\": b"\\"}
_MAX_ESCAPE_CHARACTERS = len(r"\xNN")
BYTES_PATTERN = rf"(?:[^\\]|\\(?:[rnt0\\]|x[0-9A-Fa-f]{{2}})){{0,{MAX_BYTES}}}"
# An escape, whole or broken, or what stands between two.
_BYTES_PIECE = re.compile(r"\\(?:x[0-9A-Fa-f]{0,2}|.|\Z)|[^\\]+", re.DOTALL)
# In a double-quoted scalar as written: an escape of YAML's for one of U+0080 to U+00FF.
_YAML_ESCAPE = re.compile(r"\\(?:(x[89A-Fa-f][0-9A-Fa-f])|.)", re.DOTALL)


def parse_path(text: str) -> str:
    """Return a path as it stands in a request (RFC 9112, 3.2.1). Raises Refused."""
    if re.fullmatch(PATH_PATTERN, text):
        return text
    if not text.startswith("/"):
        raise Refused(f"{quoted(text)} does not begin with '/'; write a path such as /healthz")
    if len(text) > MAX_PATH_CHARACTERS:
        raise Refused(f"{quoted(text)} is longer than {MAX_PATH_CHARACTERS} characters")
    raise Refused(
        f"{quoted(text)} holds what a path cannot: printable ASCII without spaces is allowed,"
        " write anything else as %20"
    )


def parse_host_header(text: str) -> str:
    """Return a host name or an address, perhaps with a port (RFC 9110, 7.2). Raises Refused."""
    is_short = len(text) <= _MAX_HEADER_CHARACTERS
    match = re.fullmatch(HOST_HEADER_PATTERN, text) if is_short else None
    if match is not None and (match[1] is None or _is_ipv6(match[1])):
        return text
    raise Refused(
        f"{quoted(text)} is neither a host name nor an address; write one such as example.org"
        ' or "[fd00::9]", with :PORT behind it if it is to be sent'
    )


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """Return inclusive ranges: of ``200,300-399``, (200, 200) and (300, 399). Raises Refused."""
    if text.count(",") >= MAX_STATUSES:
        raise Refused(TOO_MANY_STATUSES)
    return tuple(_parse_parts(text))


def _parse_parts(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(","):
        match = re.fullmatch(rf" *{_STATUS} *", part)
        if match is None:
            raise Refused(
                f"{quoted(part.strip())} is not an HTTP status; write numbers from 100 to 599 and"
                " ranges of them, such as 200,300-399"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise Refused(f"{first}-{last} ends before it begins; write {last}-{first}")
        yield first, last


def parse_body(text: str) -> str:
    """Return text to look for. Raises Refused for what is too long or cannot be encoded."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise Refused(f"{quoted(text)} is longer than {MAX_TEXT_CHARACTERS} characters")
    _encode(text)
    return text


def parse_bytes(text: str, written: str = "") -> bytes:
    r"""Return the bytes that `text` stands for: UTF-8, with ``\xNN``, ``\r``, ``\n``, ``\t``,
    ``\0`` and ``\\`` as one byte each. Raises Refused.

    `written` is the text as it stands in the file. In double quotes YAML reads ``\xff`` first, and
    makes a character of it whose UTF-8 is two bytes: that is refused, for nobody means it.

    >>> parse_bytes(r"\x00\xff")
    b'\x00\xff'
    """
    if written.startswith('"'):
        _refuse_yaml_escapes(written)
    is_short = len(text) <= MAX_BYTES * _MAX_ESCAPE_CHARACTERS
    parts = [_decode_piece(piece[0]) for piece in _BYTES_PIECE.finditer(text)] if is_short else []
    found = b"".join(parts)
    if not is_short or len(found) > MAX_BYTES:
        raise Refused(f"{quoted(text)} is longer than {MAX_BYTES} bytes")
    return found


def _decode_piece(piece: str) -> bytes:
    if not piece.startswith("\\"):
        return _encode(piece)
    if len(piece) == _MAX_ESCAPE_CHARACTERS:
        return bytes([int(piece[2:], 16)])
    if piece in _ESCAPES:
        return _ESCAPES[piece]
    if piece.startswith(r"\x"):
        raise Refused(rf"{piece} needs two hexadecimal digits, such as \x0a")
    shown = piece if piece.isascii() and piece.isprintable() else "a backslash"
    raise Refused(
        rf"{shown} is not an escape here; write \xNN, \r, \n, \t or \0, or \\ for a backslash"
    )


def _refuse_yaml_escapes(written: str) -> None:
    for escape in _YAML_ESCAPE.finditer(written):
        if digits := escape[1] and escape[1][1:]:
            raise Refused(
                rf"in double quotes \x{digits} is the character U+00{digits.upper()}, two bytes of"
                rf" UTF-8; for the byte {digits} write \\x{digits}, or use single quotes"
            )


def parse_sni(text: str) -> str:
    """Return a host name as TLS sends it (RFC 6066, 3): without a port, no address. Raises
    Refused."""
    if len(text) <= MAX_HOST_CHARACTERS and re.fullmatch(HOST_PATTERN, text):
        return text
    raise Refused(
        f"{quoted(text)} is not a host name; TLS names a server such as example.org, without a"
        " port, and no address"
    )


def parse_ca(text: str) -> str:
    """Return the absolute path of a file, which need not exist yet. Raises Refused."""
    if not text.startswith("/"):
        raise Refused(
            f"{quoted(text)} is not an absolute path; begin it with '/', such as"
            " /etc/paraglider/ca.pem"
        )
    if len(text) > MAX_CA_CHARACTERS or not text.isprintable():
        raise Refused(
            f"{quoted(text)} is not a valid path: up to {MAX_CA_CHARACTERS} printable characters"
        )
    return text


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # PyYAML without libyaml lets "\ud800" through
        raise Refused(f"{quoted(text)} holds half a character (a surrogate)") from error
