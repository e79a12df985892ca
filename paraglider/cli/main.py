"""The `paraglider` command: parse the line, call the command, turn errors into exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from paraglider.cli.commands import COMMANDS
from paraglider.cli.context import Context
from paraglider.cli.parser import build_parser
from paraglider.errors import ConfigError, ParagliderError, UnavailableError
from paraglider.kernel.host import Host

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser(words).parse_args(words)
    out, err = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    if isinstance(out, io.TextIOWrapper):
        # A stranger's rule may hold anything; what cannot be printed is shown by its number.
        out.reconfigure(errors="backslashreplace")
    context = Context(
        arguments=arguments,
        environment=os.environ,
        stdin=sys.stdin.buffer if sys.stdin else io.BytesIO(),
        out=out,
        err=err,
        host=Host(),
    )
    try:
        code = COMMANDS[arguments.command](context)
        out.flush()
    except ConfigError as error:
        # As it is: `file:line:column:` at the start of a line is what editors look for.
        print(error, file=err)
        return error.exit_code
    except ParagliderError as error:
        print(f"paraglider: {error}", file=err)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        print(f"paraglider: cannot print the result: {error.strerror}", file=err)
        return UnavailableError.exit_code
    return code


def _nowhere() -> TextIO:
    """Return a stream for what was closed before this process began."""
    return open(os.devnull, "w")


def _drop_output() -> None:
    """Let Python close stdout in peace: what is left in it has no reader, or no room."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
