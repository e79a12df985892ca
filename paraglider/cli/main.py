"""The `paraglider` command: parse the line, call the command, turn errors into exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from paraglider.cli.commands import COMMANDS, Context
from paraglider.cli.parser import build_parser
from paraglider.errors import ConfigError, ParagliderError
from paraglider.kernel.host import Host

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); return the exit code."""
    arguments = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A stranger's rule may hold anything; what cannot be printed is shown by its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    context = Context(
        arguments=arguments,
        environment=os.environ,
        stdin=sys.stdin.buffer,
        out=sys.stdout,
        err=sys.stderr,
        host=Host(),
    )
    try:
        code = COMMANDS[arguments.command](context)
        sys.stdout.flush()
    except ConfigError as error:
        # As it is: `file:line:column:` at the start of a line is what editors look for.
        print(error, file=sys.stderr)
        return error.exit_code
    except ParagliderError as error:
        print(f"paraglider: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
