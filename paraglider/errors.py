"""The exception tree: one class for each way a command can end, one exit code each.

    ParagliderError          1
    ├── UsageError           2
    ├── UnavailableError    69
    │   ├── NotHereError         the kernel, or this host's tools, do not have it at all
    │   ├── LockHeldError        another program keeps a lock; trying at once again is of no use
    │   └── DidNotEndError       a program that was started did not end in time, and was killed
    ├── PermissionDenied    77
    └── ConfigError         78   carries every problem found

EXIT_CODES says what each one means, also those that no exception has; the codes above 64 are those
of sysexits.h(3). A message says what was done, on what, what came back and what to do; foreign
exceptions are translated once, where they enter, with ``from``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Of `status`, where the rules are in place and a frontend has no backend that serves.
NO_BACKEND_EXIT_CODE = 3
INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells report it

# All of them, as help and README have them; docs/troubleshooting.md has the long form.
EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "diff: the rules differ; status: not running, damaged, overdue, or no answer from the agent",
    2: "wrong command line, or no such backend",
    NO_BACKEND_EXIT_CODE: "status: a frontend has no backend that serves",
    69: "the kernel, the host or a tool lacks something, or no agent is running",
    77: "missing permission or capability",
    78: "wrong configuration or environment variable",
    INTERRUPTED_EXIT_CODE: "interrupted (Ctrl-C)",
}


class ParagliderError(Exception):
    """Base of all errors that a user is meant to read."""

    exit_code = 1


class UsageError(ParagliderError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class UnavailableError(ParagliderError):
    """The kernel, the host or a tool lacks what is needed (EX_UNAVAILABLE)."""

    exit_code = 69


class NotHereError(UnavailableError):
    """The kernel does not have this rule engine or address family, or its tools are missing."""


class LockHeldError(UnavailableError):
    """Another program kept the lock of the rules for longer than was waited."""


class DidNotEndError(UnavailableError):
    """A program that was started did not end in time; it was killed."""


class PermissionDenied(ParagliderError):
    """The process lacks a capability (EX_NOPERM)."""

    exit_code = 77


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration, and where.

    `line` and `column` count from 1; both are None where the source has no lines (environment
    variables, a file that cannot be read).
    """

    source: str
    line: int | None
    column: int | None
    key_path: str
    message: str

    def __str__(self) -> str:
        place = self.source
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        key = f" {self.key_path}:" if self.key_path else ""
        return f"{place}:{key} {self.message}"


class ConfigError(ParagliderError):
    """The configuration cannot be used (EX_CONFIG); nothing was applied."""

    exit_code = 78

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def explain(error: Exception) -> str:
    """Return what a message says of `error`; of one of the system, `FILE: Permission denied`.

    str() of an OSError has its number and Python's quotes in it.
    """
    if not isinstance(error, OSError):
        return str(error)
    cause = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.EMFILE, errno.ENFILE):
        cause += " (raise the limit: 'ulimit -n', LimitNOFILE= or --ulimit nofile=)"
    name = error.filename
    if name is None:
        return cause
    return f"{os.fsdecode(name) if isinstance(name, str | bytes) else name}: {cause}"
