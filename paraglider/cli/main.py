"""The `paraglider` command: parse the line, call the command, turn errors into exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

from paraglider.cli.commands import COMMANDS
from paraglider.cli.context import Context
from paraglider.cli.log import open_log
from paraglider.cli.output import OutputError, drop_rest, guard_output, open_nowhere
from paraglider.cli.parser import parse_line
from paraglider.errors import (
    INTERRUPTED_EXIT_CODE,
    ConfigError,
    ParagliderError,
    UnavailableError,
    explain,
)
from paraglider.kernel.host import Host


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); return the exit code."""
    arguments = parse_line(sys.argv[1:] if argv is None else argv)
    is_agent = arguments.command == "run"
    context = Context(
        arguments=arguments,
        environment=os.environ,
        stdin=sys.stdin.buffer if sys.stdin else io.BytesIO(),
        out=open_log(sys.stdout) if is_agent else guard_output(sys.stdout),
        err=open_log(sys.stderr) if is_agent else sys.stderr or open_nowhere(),
        host=Host(),
    )
    try:
        return _call(context)
    finally:
        drop_rest(sys.stdout)
        drop_rest(sys.stderr)


def _call(context: Context) -> int:
    """Run the command; print what went wrong with it; return the exit code."""
    try:
        code = COMMANDS[context.arguments.command](context)
        context.out.flush()
    except ParagliderError as error:
        return _tell(context, error)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE
    except OSError as error:
        context.report(f"{context.arguments.command} failed: {explain(error)}")
        return UnavailableError.exit_code
    return code


def _tell(context: Context, error: ParagliderError) -> int:
    """Print what went wrong; return the exit code."""
    if isinstance(error, OutputError) and error.is_closed:
        return 0
    if isinstance(error, ConfigError):
        # As it is: `file:line:column:` at the start of a line is what editors look for.
        with contextlib.suppress(OSError):
            print(error, file=context.err, flush=True)
    else:
        context.report(str(error))
    return error.exit_code
