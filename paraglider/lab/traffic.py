"""Real TCP traffic from a command line: ``python -m paraglider.lab.traffic COMMAND``.

serve    a backend: greets each connection with its own name and the peer's address, then echoes
connect  a client: connections one after another, and a table of who answered
hold     a client: connections that stay open and talk while something breaks (see hold.py)
transfer a client: one connection that carries much, there and back, and whether it came whole
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from paraglider.config.quote import quoted
from paraglider.lab.client import Patience, connect_many
from paraglider.lab.hold import Hold
from paraglider.lab.results import render_json, render_table
from paraglider.lab.server import Server, open_listener
from paraglider.lab.transfer import transfer
from paraglider.lab.wire import (
    describe,
    family_of,
    parse_endpoint,
    raise_file_limit,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; return 0, or 1 when a connection failed or none could be had."""
    arguments = make_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, leave)
    raise_file_limit()
    command: Callable[[argparse.Namespace], int] = arguments.run
    with contextlib.suppress(KeyboardInterrupt):
        return command(arguments)
    return 130


def leave(_number: int, _frame: FrameType | None) -> None:
    """End the process at SIGTERM, as a success: that is how a server is told to stop."""
    sys.exit(0)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m paraglider.lab.traffic", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, metavar="serve|connect|hold|transfer")
    add_serve(commands.add_parser("serve", help="be a backend until SIGTERM"))
    add_connect(commands.add_parser("connect", help="connect COUNT times, one after another"))
    add_hold(commands.add_parser("hold", help="keep COUNT connections open and talking"))
    add_transfer(commands.add_parser("transfer", help="send SIZE bytes and read their echo"))
    return parser


def add_serve(serve: argparse.ArgumentParser) -> None:
    """Add the options of `serve`."""
    serve.add_argument("--listen", type=endpoint, required=True, metavar="ADDRESS:PORT")
    serve.add_argument("--name", help="what it calls itself (default: where it listens)")
    serve.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    serve.set_defaults(run=run_serve)


def add_connect(connect: argparse.ArgumentParser) -> None:
    """Add the options of `connect`."""
    add_target(connect, timeout_s=5.0)
    connect.add_argument(
        "--wait",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long to try again until the first connection succeeds",
    )
    connect.add_argument(
        "--within",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="give up on the remaining connections after this time (default 60)",
    )
    connect.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="ADDRESS",
        help="the address of this host that connections come from",
    )
    connect.add_argument("--json", action="store_true", help="print JSON instead of a table")
    connect.set_defaults(run=run_connect)


def add_hold(hold: argparse.ArgumentParser) -> None:
    """Add the options of `hold`."""
    add_target(hold, timeout_s=10.0)
    hold.add_argument(
        "--interval",
        type=seconds,
        default=0.1,
        metavar="SECONDS",
        help="pause of each connection between two round trips (default 0.1)",
    )
    hold.set_defaults(run=run_hold)


def add_transfer(transfer: argparse.ArgumentParser) -> None:
    """Add the options of `transfer`."""
    transfer.add_argument("--to", type=endpoint, required=True, metavar="ADDRESS:PORT")
    transfer.add_argument("--size", type=count, default=10**6, help="bytes (default 1000000)")
    transfer.add_argument("--timeout", type=seconds, default=60.0, metavar="SECONDS")
    transfer.set_defaults(run=run_transfer)


def add_target(parser: argparse.ArgumentParser, *, timeout_s: float) -> None:
    """Add the options of a client."""
    parser.add_argument("--to", type=endpoint, required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--count", type=count, default=300, help="connections (default 300)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=timeout_s,
        metavar="SECONDS",
        help=f"for each answer (default {timeout_s:g})",
    )


def endpoint(text: str) -> tuple[str, int]:
    """Read ADDRESS:PORT for argparse, which shows the reason."""
    try:
        return parse_endpoint(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def count(text: str) -> int:
    """Read a number of connections or bytes, 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{quoted(text)}: expected a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """Read a time, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{quoted(text)}: expected seconds, 0 or more")
    return value


def run_serve(arguments: argparse.Namespace) -> int:
    """Be a backend; print ``ready`` when connections are accepted."""
    host, port = arguments.listen
    shown = f"[{host}]:{port}" if family_of(host).name == "AF_INET6" else f"{host}:{port}"
    try:
        listener = open_listener(host, port)
    except OSError as error:
        print(f"listening on {shown} failed: {describe(error)}", file=sys.stderr)
        return 1
    print("ready", flush=True)
    until = sys.stdin.buffer if arguments.until_eof else None
    with listener:
        Server(listener, arguments.name or shown, until=until).serve()
    return 0


def run_connect(arguments: argparse.Namespace) -> int:
    """Connect COUNT times and show who answered."""
    host, port = arguments.to
    patience = Patience(
        timeout_s=arguments.timeout, wait_s=arguments.wait, within_s=arguments.within
    )
    results = connect_many(
        host, port, count=arguments.count, patience=patience, source=arguments.source
    )
    print(render_json(results) if arguments.json else render_table(results).rstrip("\n"))
    return 1 if results.failures else 0


def run_hold(arguments: argparse.Namespace) -> int:
    """Keep COUNT connections open and talking until standard input ends."""
    host, port = arguments.to
    hold = Hold(
        host,
        port,
        timeout_s=arguments.timeout,
        interval_s=arguments.interval,
        commands=sys.stdin,
        out=sys.stdout,
    )
    hold.open(arguments.count)
    hold.talk()
    return 0


def run_transfer(arguments: argparse.Namespace) -> int:
    """Send SIZE bytes through one connection; say whether their echo is the same."""
    host, port = arguments.to
    try:
        sent, received = transfer(host, port, size=arguments.size, timeout_s=arguments.timeout)
    except (OSError, ValueError) as error:
        print(f"failed: {describe(error)}", file=sys.stderr)
        return 1
    print(f"sent {arguments.size} bytes, SHA-256 {sent}\nreceived their echo, SHA-256 {received}")
    return 0 if sent == received else 1


if __name__ == "__main__":
    sys.exit(main())
