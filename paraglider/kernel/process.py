"""The only place where a program is started.

Programs get an argument list and their input on stdin, never a shell; they answer in English
(LC_ALL=C), so that what they say can be understood.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from paraglider.errors import UnavailableError

# Where an ordinary user's PATH does not lead, and iptables is.
_SYSTEM_PATHS = "/usr/sbin:/sbin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def find_program(name: str) -> str | None:
    """Return the path of the program `name`, or None where it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATHS}")


def run_program(argv: Sequence[str], *, text: str = "", timeout_s: float = 60) -> Finished:
    """Run a program to its end, with `text` on its stdin.

    Raises UnavailableError where it cannot be started or does not end in `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=text,
            capture_output=True,
            check=False,
            # What others name their chains need not be UTF-8; it goes back as it came.
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout_s,
            # Only what was made inheritable on purpose: the rules lock, which must not be free
            # while a program that we started still writes, though we are gone.
            close_fds=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"{' '.join(argv)} did not end within {timeout_s:g} s; see what it waits for, then try "
            "again"
        ) from error
    return Finished(tuple(argv), done.returncode, done.stdout, done.stderr)
