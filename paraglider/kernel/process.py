"""The only place where a program is started.

Programs get an argument list and their input on stdin, never a shell; they answer in English
(LC_ALL=C), so that what they say can be understood. A program is finished in one of two ways: a
command waits for it (`run_program`), the agent's loop goes on meanwhile (agent/programs.py). Both
end a program that does not end by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paraglider.errors import DidNotEndError, UnavailableError

# Where an ordinary user's PATH does not lead, and iptables is.
_SYSTEM_PATHS = "/usr/sbin:/sbin:/usr/bin:/bin"
# How long a command waits for a program.
_COMMAND_S = 60.0
# What a program takes or prints allows it more time. iptables-restore (nft) needs 3 s for 1 MB of
# rules on a server, and shows no progress while the kernel works; this leaves seven times as much.
BYTES_PER_S = 50_000
_CHUNK_BYTES = 1 << 16  # as much as a pipe holds
_MOST_CHUNKS = 16  # of one that prints faster than it is read
# Without a descriptor for the process (Linux before 5.3), how often to ask whether it has ended.
_ASK_S = 0.05
# For one that was killed to be gone.
_KILLED_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended; `returncode` is minus the signal that ended it, if one did."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


# Called as run(argv, text="", wait_s=0.0): with `text` on stdin, and `wait_s` seconds more than
# otherwise, for a program that may wait for others. Raises UnavailableError where it cannot be
# started, DidNotEndError where it had to be ended.
Run = Callable[..., Finished]


def find_program(name: str) -> str | None:
    """Return the path of the program `name`, or None where it is not installed."""
    # Not shutil.which, whose module takes a tenth of what `paraglider check` takes.
    for folder in f"{os.environ.get('PATH', '')}:{_SYSTEM_PATHS}".split(":"):
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run_program(argv: Sequence[str], *, text: str = "", wait_s: float = 0.0) -> Finished:
    """Run a program to its end, and wait for it. Raises as `Run` says."""
    with Program(argv, text) as program:
        while (finished := program.proceed()) is None:
            program.check_time(_COMMAND_S + wait_s, time.monotonic())
            select.select([program.fileno()], [], [], _ASK_S if program.must_be_asked else 1.0)
    return finished


class Program:
    """A program that was started. At the end of the `with` it has ended, or is killed.

    It is in a process group of its own: a terminal's Ctrl-C is for its parent to answer, and what
    it has started itself is killed with it. SIGKILL at once: none of these programs handles
    SIGTERM, and the kernel applies a table of iptables, or a file of nft, whole or not at all.
    """

    def __init__(self, argv: Sequence[str], text: str) -> None:
        self._argv = tuple(argv)
        self._input = memoryview(text.encode("utf-8", "surrogateescape"))
        self._output = bytearray(), bytearray()
        self._moved_bytes = 0
        self._status: int | None = None
        self._started_s = time.monotonic()
        try:
            self._start()
        except OSError as error:
            raise UnavailableError(f"cannot start {argv[0]}: {error.strerror}") from error

    def _start(self) -> None:
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            pipes = [_make_pipe() for _ in range(3)]
            for pipe in pipes:
                for descriptor in pipe:
                    undo.callback(os.close, descriptor)
            (stdin, self._stdin), (self._stdout, stdout), (self._stderr, stderr) = pipes
            self._poll = select.epoll()
            undo.callback(self._poll.close)
            self._pid = os.posix_spawn(
                self._argv[0],
                self._argv,
                {**os.environ, "LC_ALL": "C"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, descriptor, number)
                    for number, descriptor in enumerate((stdin, stdout, stderr))
                ],
                setpgroup=0,
                # Python ignores these; who is started expects them to end it.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
            undo.pop_all()
            for descriptor in (stdin, stdout, stderr):
                theirs.callback(os.close, descriptor)
        self._open = {self._stdin, self._stdout, self._stderr}
        for descriptor in self._open:
            os.set_blocking(descriptor, False)
            is_input = descriptor == self._stdin
            self._poll.register(descriptor, select.EPOLLOUT if is_input else select.EPOLLIN)
        self._process = -1
        with contextlib.suppress(OSError):  # an old kernel: it has to be asked
            self._process = os.pidfd_open(self._pid)
            self._poll.register(self._process, select.EPOLLIN)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        for descriptor in (*self._open, self._process):
            if descriptor >= 0:
                os.close(descriptor)
        self._poll.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `proceed` has something to do."""
        return self._poll.fileno()

    @property
    def must_be_asked(self) -> bool:
        """Whether `proceed` has to be called now and then though nothing is readable."""
        return self._process < 0

    def proceed(self) -> Finished | None:
        """Move what can be moved without waiting; return what came of it once it has ended."""
        has_ended = self._has_ended()
        if self._stdin in self._open:
            self._feed()
        # What it printed itself is all there when it has ended; another may still have the pipe.
        for descriptor, output in zip((self._stdout, self._stderr), self._output, strict=True):
            if descriptor in self._open:
                self._drain(descriptor, output)
        if not has_ended or self._status is None:
            return None
        stdout, stderr = (part.decode("utf-8", "surrogateescape") for part in self._output)
        return Finished(self._argv, os.waitstatus_to_exitcode(self._status), stdout, stderr)

    def check_time(self, limit_s: float, now_s: float, bytes_per_s: int = BYTES_PER_S) -> None:
        """Raise DidNotEndError once it has run for longer than `limit_s`, and what it moved allows
        beside, a second for `bytes_per_s`; `now_s` is of time.monotonic."""
        allowed_s = limit_s + self._moved_bytes / bytes_per_s
        if now_s - self._started_s > allowed_s:
            raise DidNotEndError(
                f"{' '.join(self._argv)} did not end within {allowed_s:.1f} s and was killed; find "
                "out what it waits for"
            )

    def _has_ended(self) -> bool:
        if self._status is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # somebody has taken its status away
                pid, status = self._pid, 0xFF00
            self._status = status if pid else None
        return self._status is not None

    def _feed(self) -> None:
        try:
            while self._input:
                written = os.write(self._stdin, self._input[:_CHUNK_BYTES])
                self._moved_bytes += written
                self._input = self._input[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # it wants no more
        self._close(self._stdin)

    def _drain(self, descriptor: int, output: bytearray) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_CHUNKS):
                part = os.read(descriptor, _CHUNK_BYTES)
                if not part:
                    self._close(descriptor)
                    return
                output += part
                self._moved_bytes += len(part)

    def _close(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._open.discard(descriptor)
        os.close(descriptor)

    def _kill(self) -> None:
        if self._has_ended():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        until_s = time.monotonic() + _KILLED_WITHIN_S
        # One that the kernel does not let go of yet is left behind.
        while not self._has_ended() and time.monotonic() < until_s:
            time.sleep(0.001)


def _make_pipe() -> tuple[int, int]:
    """Return a pipe's two ends, neither of which is 0, 1 or 2, which may have been closed."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    return _above_streams(reading), _above_streams(writing)


def _above_streams(descriptor: int) -> int:
    if descriptor > 2:
        return descriptor
    above = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return above
