"""The agent's log: nobody who reads it, or does not, holds up or fails the agent."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import socket
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paraglider.cli.log import Log, open_log

LOST = re.compile(r"paraglider: ([0-9]+) log lines lost: the log was not read")
LINES = 40_000  # of 20 bytes each: more than any pipe, socket or terminal holds


def write_lines(log: Log, count: int = LINES) -> None:
    """Write numbered lines, as print does it."""
    for number in range(count):
        print(f"line {number:013d}", file=log, flush=True)


Ends = tuple[int, Callable[[], bytes]]


def open_pipe() -> Ends:
    """Return a pipe's writing end, and how to read all that is in it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return writing, lambda: read_all(lambda: os.read(reading, 1 << 16))


def open_socket() -> Ends:
    """The same for a unix socket, as a journal gives."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    descriptor = reading.detach()
    return writing.detach(), lambda: read_all(lambda: os.read(descriptor, 1 << 16))


def open_terminal() -> Ends:
    """The same for a terminal."""
    reading, writing = pty.openpty()
    tty.setraw(writing)
    os.set_blocking(reading, False)
    return writing, lambda: read_all(lambda: os.read(reading, 1 << 16))


def read_all(read: Callable[[], bytes]) -> bytes:
    """Read until nothing is left."""
    found = b""
    try:
        while part := read():
            found += part
    except BlockingIOError:
        pass
    return found


@pytest.fixture(params=[open_pipe, open_socket, open_terminal], ids=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Something to write to that blocks when nobody reads, and how to read it."""
    descriptor, read = request.param()
    yield descriptor, read
    os.close(descriptor)


def test_a_reader_who_does_not_read_loses_lines_and_is_told_how_many(ends: Ends) -> None:
    """What arrives are whole lines in their order, and the numbers of those that are lost between
    them; the file stays one that others can wait for."""
    descriptor, read = ends
    log = Log(descriptor)
    write_lines(log)
    text, written = read().decode(), LINES
    deadline = time.monotonic() + 20
    while "here again" not in text and time.monotonic() < deadline:
        print("here again", file=log, flush=True)  # a terminal takes it when it has moved the rest
        written += 1
        text += read().decode()
    lines = text.splitlines()
    numbered = [line for line in lines if line.startswith("line ")]
    lost = [int(found[1]) for line in lines if (found := LOST.fullmatch(line))]
    assert len(numbered) + len(lost) + lines.count("here again") == len(lines)
    assert numbered == sorted(numbered)
    assert {len(line) for line in numbered} == {18}
    assert sum(lost) + len(numbered) + lines.count("here again") == written
    assert sum(lost) > 0
    assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_pipe_of_another_user_does_not_block_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be opened once more, as that of a supervisor."""
    descriptor, read = open_pipe()

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        log = Log(descriptor)
    write_lines(log)
    assert 0 < read().count(b"\n") < LINES
    os.close(descriptor)


def test_a_reader_who_is_gone_fails_nothing() -> None:
    """Neither does a full disk."""
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for descriptor in (writing, full):
        write_lines(Log(descriptor), count=10)
        os.close(descriptor)


def test_a_long_line_arrives_whole(tmp_path: Path) -> None:
    """In a file, and in a pipe with room for it."""
    text = "x" * 20_000
    with open(tmp_path / "log", "a+") as file:
        file.write("before\n")
        file.flush()
        print(text, file=Log(file.fileno()))
        file.seek(0)
        assert file.read() == f"before\n{text}\n"
    descriptor, read = open_pipe()
    print(text, file=Log(descriptor))
    assert read().decode() == f"{text}\n"
    os.close(descriptor)


def test_a_stream_that_was_closed_before_leads_nowhere() -> None:
    """And one in memory stays."""
    print("nothing", file=open_log(None))
    stream = io.StringIO()
    assert open_log(stream) is stream
