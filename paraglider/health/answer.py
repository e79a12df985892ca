"""What a backend answers, read as it comes, without a socket.

Owns how much is read of an answer, and when the verdict is known. It never keeps more than what
it still has to look at. HTTP's reader is in http_answer.py.
"""

from __future__ import annotations

from typing import Protocol

from paraglider.config.quote import quoted
from paraglider.health.probe_result import ProbeResult

MAX_ANSWER_BYTES = 64 << 10


class Answer(Protocol):
    """An answer that is being read. Once it `is_over`, nothing that follows is of interest."""

    @property
    def is_over(self) -> bool: ...

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        ...

    def end(self, why: str) -> ProbeResult:
        """Return the verdict; nothing else will arrive, because of `why` (``closed``)."""
        ...


class Finder:
    """Looks for `wanted` (one byte or more) in what is fed piece by piece."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._tail = b""

    def is_in(self, data: bytes) -> bool:
        """Tell whether it is in all that was fed up to `data`, and not before."""
        text = self._tail + data
        self._tail = text[max(0, len(text) - len(self._wanted) + 1) :]
        return self._wanted in text


class BytesAnswer:
    """Any bytes, with `expect` somewhere in the first `MAX_ANSWER_BYTES` of them.

    >>> answer = BytesAnswer(b"+PONG")
    >>> answer.feed(b"-LOADING")
    >>> answer.end("closed")
    Verdict(is_good=False, told="answer lacks '+PONG'")
    """

    def __init__(self, expect: bytes) -> None:
        self.is_over = False
        self._shown = quoted(expect.decode("latin-1"))
        self._finder = Finder(expect)
        self._size_bytes = 0
        self._is_found = False

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        data = data[: MAX_ANSWER_BYTES - self._size_bytes]
        self._size_bytes += len(data)
        self._is_found = self._finder.is_in(data)
        self.is_over = self._is_found or self._size_bytes == MAX_ANSWER_BYTES

    def end(self, why: str) -> ProbeResult:
        """Return the verdict on what arrived."""
        if self._is_found:
            return ProbeResult(True, f"answered {self._shown}")
        if self._size_bytes:
            return ProbeResult(False, f"answer lacks {self._shown}")
        return ProbeResult(False, f"no answer: {why}")
