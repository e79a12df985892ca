"""Where a configuration comes from: a file, standard input or the environment.

Owns the choice and the reading. A file is opened once and read once, and only those bytes count:
nobody can exchange it between a check and a use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import BinaryIO

from paraglider.config.environment import ADDRESS_VARIABLES, is_configured, parse_environment
from paraglider.config.model import Config
from paraglider.config.parse import parse_config
from paraglider.config.quote import printable
from paraglider.config.text import MAX_SIZE_BYTES, too_large
from paraglider.config.variables import CONFIG_YAML, CONTAINER
from paraglider.errors import ConfigError, Problem

DEFAULT_PATH = "/etc/paraglider/glider.yaml"
STDIN_PATH = "-"
STDIN_SOURCE = "<stdin>"

_NO_FILE = "does not exist; check the path"
_NO_DEFAULT = (
    "does not exist; write it, name another file with -config FILE ('-' is standard input), or set"
    f" {ADDRESS_VARIABLES[0]}, {ADDRESS_VARIABLES[1]} and {ADDRESS_VARIABLES[2]}, or {CONFIG_YAML}"
)
_NO_MOUNT = (
    'does not exist: no file is mounted; mount its folder (-v "$PWD:/etc/paraglider:ro"), or set'
    f" {ADDRESS_VARIABLES[0]}, {ADDRESS_VARIABLES[1]} and {ADDRESS_VARIABLES[2]}, or {CONFIG_YAML}"
)


def load_config(
    path: str | None,
    *,
    environment: Mapping[str, str],
    stdin: BinaryIO,
    default_path: str = DEFAULT_PATH,
) -> Config:
    """Load the configuration from `path`; `-` is `stdin`.

    None means that the caller named none: the PARAGLIDER_* variables then stand in for a file, and
    where none of them is set, `default_path` is read. Raises ConfigError.
    """
    file = find_file(path, environment=environment, default_path=default_path)
    if file is not None:
        no_default = _NO_MOUNT if environment.get(CONTAINER) else _NO_DEFAULT
        text = read_file(file, no_default if path is None else _NO_FILE)
        return parse_config(text, source=printable(file))
    if path == STDIN_PATH:
        return parse_config(_read_stdin(stdin), source=STDIN_SOURCE)
    return parse_environment(environment)


def find_file(
    path: str | None, *, environment: Mapping[str, str], default_path: str = DEFAULT_PATH
) -> str | None:
    """Return the file that `load_config` reads, None where that is no file: the one to
    watch for changes."""
    if path is not None:
        return None if path == STDIN_PATH else path
    return None if is_configured(environment) else default_path


def read_file(path: str, when_missing: str = _NO_FILE) -> bytes:
    """Return the content of a file. Raises ConfigError; `when_missing` says what to do then."""
    # Not blocking: opening a FIFO that nobody writes to would wait for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
        try:
            return _read_descriptor(descriptor, path)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise _error(path, when_missing) from error
    except PermissionError as error:
        raise _error(
            path,
            "cannot be read: change its mode (chmod 644), or run as its owner. In a container"
            " without CAP_DAC_OVERRIDE root cannot read the private files of other users",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise _error(path, f"cannot be read: {_reason(error)}") from error


def _read_descriptor(descriptor: int, path: str) -> bytes:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise _error(
            path,
            "is a directory; name the file in it. Docker makes a directory where the file that a"
            " volume names does not exist on the host",
        )
    if not stat.S_ISREG(status.st_mode):
        raise _error(path, "is not a regular file; to read a pipe, use '-config -'")
    if status.st_size > MAX_SIZE_BYTES:
        raise _error(path, too_large(status.st_size))
    # By the size read and not the size told: files in /proc tell 0, and a file may grow.
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return _read_bounded(file, path)


def _read_stdin(stdin: BinaryIO) -> bytes:
    try:
        return _read_bounded(stdin, STDIN_SOURCE)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise _error(STDIN_SOURCE, f"cannot be read: {_reason(error)}") from error


def _read_bounded(file: BinaryIO, source: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := file.read(MAX_SIZE_BYTES + 1 - size):
        parts.append(part)
        size += len(part)
    if size > MAX_SIZE_BYTES:
        raise _error(source, too_large(size))
    return b"".join(parts)  # no copy of the one part that there mostly is


def _reason(error: OSError | ValueError) -> str:
    return printable(
        error.strerror or "unknown error" if isinstance(error, OSError) else str(error)
    )


def _error(path: str, message: str) -> ConfigError:
    return ConfigError([Problem(printable(path), None, None, "", message)])
