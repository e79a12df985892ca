"""Log: the agent's lines on standard output and standard error.

Owns that no reader ever holds up or fails the agent: one that is gone, slow or full loses lines,
which are counted and told with the next line that passes. Nothing here waits or raises.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import stat
from typing import TextIO, cast

# A pipe that select.POLLOUT reports takes so much without waiting (pipe(7)).
_WITHOUT_WAITING_BYTES = select.PIPE_BUF


class Log(io.TextIOBase):
    """A stream to an open file that never waits for room in it.

    The flag O_NONBLOCK belongs to the open file, which others may share: a pipe or terminal is
    opened once more, with the flag. Where that may not be, as for the pipes of a supervisor of
    another user, each piece is written when poll(2) reports room.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._own: int | None = None  # the descriptor, where it is not the caller's
        self._socket: socket.socket | None = None
        mode = os.fstat(descriptor).st_mode
        self._is_file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif not self._is_file:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            with contextlib.suppress(OSError):
                self._own = self._descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
        self._line = ""
        self._unsent = b""  # the rest of a line that has begun
        self._lost = 0

    def write(self, text: str, /) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._put(line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: whole lines were sent."""

    def close(self) -> None:
        """Close what this log has opened."""
        if self._socket is not None:
            self._socket.close()
        if self._own is not None:
            os.close(self._own)
        self._own = self._socket = None
        super().close()

    def _put(self, line: str) -> None:
        lost = f"paraglider: {self._lost} log lines lost: the log was not read\n"
        encoded = f"{lost if self._lost else ''}{line}\n".encode("utf-8", "backslashreplace")
        self._send()
        if not self._unsent:
            self._unsent = encoded
            self._send()
            if self._unsent != encoded:
                self._lost = 0
                return
            self._unsent = b""
        self._lost += 1

    def _send(self) -> None:
        """Send what can be sent now; a line that nobody has room for stays whole."""
        with contextlib.suppress(OSError):
            while self._unsent and self._has_room():
                piece = self._unsent if self._is_file else self._unsent[:_WITHOUT_WAITING_BYTES]
                self._unsent = self._unsent[self._write(piece) :]

    def _has_room(self) -> bool:
        if self._is_file:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def _write(self, piece: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(piece, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._descriptor, piece)


def open_log(stream: TextIO | None) -> TextIO:
    """Return a Log to the file of a standard stream; one to nowhere where that is None, closed
    before this process began. A stream without a file, in memory, is returned as it is."""
    if stream is None:
        return cast(TextIO, Log(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)))
    try:
        return cast(TextIO, Log(stream.fileno()))
    except io.UnsupportedOperation:
        return stream
