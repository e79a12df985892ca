"""Client: how a command reaches the agent of this host."""

from __future__ import annotations

import contextlib
import socket

from paraglider.agent.protocol import Answer, Request, decode_answer, encode
from paraglider.errors import UnavailableError, explain
from paraglider.kernel.unix_peer import connect_within

# A reload or a drain waits for what holds the lock of the rules.
ANSWER_WAIT_S = 40.0


def ask_agent(path: str, request: Request, *, wait_s: float = ANSWER_WAIT_S) -> Answer | None:
    """Return what the agent behind the socket `path` answers; None where there is none.

    UnavailableError where it does not answer, or this process may not ask it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connect_within(connection, path, wait_s)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnavailableError(f"cannot reach the agent at {path}: {_why(error)}") from error
        connection.settimeout(wait_s)
        try:
            with contextlib.suppress(BrokenPipeError):  # it may have answered before it was asked
                connection.sendall(encode(request))
            return decode_answer(_read_line(connection))
        except TimeoutError as error:
            raise UnavailableError(
                f"the agent did not answer within {wait_s:g} s; see its log"
            ) from error
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"the agent ended before it answered ({explain(error)})"
            ) from error


def _why(error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return "too many clients wait for it, and its queue stayed full; try again"
    if isinstance(error, PermissionError):
        return f"{error.strerror}; its socket is for root and its own group"
    return str(error.strerror)


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part:
            break
        line += part
    return bytes(line)
