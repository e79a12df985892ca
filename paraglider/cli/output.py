"""Output: where results are printed, and the error of a result that cannot be printed."""

from __future__ import annotations

import io
import os
from typing import TextIO, cast

from paraglider.errors import UnavailableError, explain


class OutputError(UnavailableError):
    """The result cannot be printed. `is_closed`: its reader has closed the pipe, and misses
    nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot print the result: {explain(error)}")
        self.is_closed = isinstance(error, BrokenPipeError)


class _Output(io.TextIOBase):
    """A stream whose errors are OutputErrors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputError(error) from error


def guard_output(stream: TextIO | None) -> TextIO:
    """Return a stream that writes to `stream`, nowhere where that is None: closed before this
    process began. Its errors are OutputErrors; what cannot be printed is shown by its number."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    # typing.TextIO has no base class to inherit from that is made for it.
    return cast(TextIO, _Output(stream or open_nowhere()))


def open_nowhere() -> TextIO:
    """Return a stream for one that was closed before this process began."""
    return open(os.devnull, "w")


def drop_rest(stream: TextIO | None) -> None:
    """Let Python close `stream` without an error: what is left in it has no reader, or no room.
    Otherwise Python ends with exit code 120."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
