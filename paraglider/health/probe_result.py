"""What a probe says, and how it words it: short, on one line, in ASCII, for people.

What a backend sends is foreign text and passes here through `quoted` alone.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

MAX_REASON_CHARACTERS = 200

_SAID = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "no route to its network",
    errno.ENOTCONN: "closed",
    errno.EPIPE: "closed",
    errno.ETIMEDOUT: "timed out",
}


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found: ``HTTP 503``, ``refused``."""

    is_good: bool
    reason: str


class CannotProbe(Exception):
    """This host could not make the probe, which says nothing about the backend."""


class ProbeFailed(Exception):
    """The backend did not pass; the message is what is told."""


def describe_errno(number: int) -> str:
    """Return the words for an error of the kernel: ``refused``, ``no route to host``."""
    return _SAID.get(number) or os.strerror(number).lower()


def describe_error(error: OSError) -> str:
    """Return the words for an error of a socket."""
    return str(error) if error.errno is None else describe_errno(error.errno)


def clip(text: str) -> str:
    """Return `text` as it may be told: printable ASCII, cut after `MAX_TOLD_CHARACTERS`."""
    if not (text.isascii() and text.isprintable()):
        text = ascii(text)[1:-1]
    if len(text) <= MAX_REASON_CHARACTERS:
        return text
    return f"{text[: MAX_REASON_CHARACTERS - 3]}..."


def is_reason(text: str) -> bool:
    """Tell whether `text` is what `clip` leaves as it is."""
    return len(text) <= MAX_REASON_CHARACTERS and text.isascii() and text.isprintable()
