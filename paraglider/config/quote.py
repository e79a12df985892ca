"""Foreign text in our messages: short, on one line, in ASCII.

A message ends up in a terminal and in logs. What stands in a file may be a megabyte long, hold
escape sequences that move the cursor, or letters that look like others; none of it passes here.
"""

from __future__ import annotations

SHOWN_CHARACTERS = 40


def quoted(text: str) -> str:
    """Return `text` in quotes, escaped as Python would, cut after `SHOWN_CHARACTERS`.

    >>> quoted("web:80")
    "'web:80'"
    >>> quoted("x" * 50)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'... (50 characters)"
    """
    shown = ascii(text[:SHOWN_CHARACTERS])
    if len(text) <= SHOWN_CHARACTERS:
        return shown
    return f"{shown}... ({len(text)} characters)"


def printable(path: str) -> str:
    """Return the path of a file with everything escaped that is not printable.

    Paths are not cut: the reader wants to copy them, and the caller typed them.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)
