"""The bytes of a configuration, before anything reads them as YAML.

Owns what is a text to us: UTF-8, at most 4 MiB, no control characters, no YAML directives; and
where in it something stands. Everything here is one pass in C over the bytes.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode

from paraglider.config.problems import Place, Unreadable

# A thousand frontends of a hundred backends are about 2.5 MiB.
MAX_SIZE_BYTES = 4 << 20

# Megabytes are looked at by pieces where they would be copied else.
_PIECE_BYTES = 1 << 16
# Bytes that go on with a character of UTF-8.
_CONTINUATION = bytes(range(0x80, 0xC0))

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

# What YAML forbids, and beyond it what would make our line numbers differ from an editor's
# (U+0085, U+2028, U+2029) or cannot be seen (a byte order mark in the middle). One pattern for
# each first byte: each is then a plain search in C.
_CONTROL_CHARACTERS = (
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
    rb"\xc2[\x80-\x9f]",
    rb"\xe2\x80[\xa8\xa9]",
    rb"\xef(?:\xbb\xbf|\xbf[\xbe\xbf])",
)

# At the start of a line. libyaml compares every %TAG with all before it: 20,000 of them take half
# a second before the first event comes, so no limit on events could stop them.
_DIRECTIVE = rb"%(?<![^\r\n]%)"


def clean_text(text: bytes) -> bytes:
    """Return `text` without its byte order mark. Raises Unreadable for what is not text to us."""
    if len(text) > MAX_SIZE_BYTES:
        raise Unreadable((Place(None, None, ""), too_large(len(text))))
    text = text.removeprefix(_BYTE_ORDER_MARK)
    _check_encoding(text)
    for pattern in _CONTROL_CHARACTERS:
        if found := re.search(pattern, text):
            name = f"U+{ord(found[0].decode()):04X}"
            message = f"the control character {name} stands here; remove it"
            raise Unreadable((place_at(text, found.start()), message))
    if found := re.search(_DIRECTIVE, text):
        message = "a line may not begin with '%': YAML directives are not supported; remove it"
        raise Unreadable((place_at(text, found.start()), message))
    return text


def too_large(size_bytes: int) -> str:
    """Say that a text of at least `size_bytes` is over the limit."""
    return (
        f"is larger than {MAX_SIZE_BYTES} bytes (it has {size_bytes} or more);"
        " a configuration is smaller, check that this is the right file"
    )


def place_at(text: bytes, offset: int) -> Place:
    """Return the line and the column, both from 1, of the byte at `offset`."""
    start = line_start(text, offset)
    pieces = (
        text[at : min(at + _PIECE_BYTES, offset)] for at in range(start, offset, _PIECE_BYTES)
    )
    column = 1 + sum(len(piece.translate(None, _CONTINUATION)) for piece in pieces)
    return Place(count_line_ends(text, 0, offset) + 1, column, "")


def count_line_ends(text: bytes, start: int, end: int) -> int:
    """Return how many lines end between two offsets: at LF, at CR, or at both as one."""
    line_feeds, returns = text.count(b"\n", start, end), text.count(b"\r", start, end)
    return line_feeds + returns - text.count(b"\r\n", start, end)


def line_start(text: bytes, offset: int) -> int:
    """Return the offset at which the line of the byte at `offset` begins."""
    return max(text.rfind(b"\n", 0, offset), text.rfind(b"\r", 0, offset)) + 1


def _check_encoding(text: bytes) -> None:
    if text.startswith(_UTF16_MARKS):
        raise Unreadable((Place(1, 1, ""), "is UTF-16: save the file as UTF-8"))
    at = 0
    while at < len(text):
        piece = text[at : at + _PIECE_BYTES]
        try:
            # Up to the last whole character, which may be the piece's or the text's.
            at += utf_8_decode(piece, "strict", at + len(piece) == len(text))[1]
        except UnicodeDecodeError as error:
            at += error.start
            message = f"the byte 0x{text[at]:02x} is not UTF-8: save the file as UTF-8"
            raise Unreadable((place_at(text, at), message)) from error
