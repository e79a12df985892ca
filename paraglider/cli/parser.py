"""The command line's grammar, and the help that teaches it."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import NoReturn

from paraglider import __version__

SHELLS = ("bash", "zsh", "fish")

_DESCRIPTION = """\
Make this host a TCP load balancer: connections to an address and port are spread over backends by
the kernel's own address translation. No connection passes through this program.
"""

_EPILOG = """\
The configuration, /etc/paraglider/glider.yaml unless -config says otherwise:

  frontend:
    bind: 192.0.2.10:80          # what clients connect to, an address of this host
    privateip: 10.0.0.4          # what backends see as the source, an address of this host
    backends:
      - 10.0.0.11:8080
      - 10.0.0.12:8080

or, without a file: PARAGLIDER_BIND, PARAGLIDER_PRIVATEIP, PARAGLIDER_BACKENDS (comma-separated).
PARAGLIDER_IPTABLES=nft|legacy overrides which variant of iptables is used.

Try it:                 paraglider demo
See before you apply:   paraglider -config glider.yaml check
                        paraglider -config glider.yaml render
                        paraglider -config glider.yaml diff
Apply, look, take away: paraglider -config glider.yaml start
                        paraglider status
                        paraglider stop

exit codes: 0 done; 1 differs or not running; 2 usage; 69 the kernel, the host or a tool lacks
something; 77 no permission; 78 bad configuration
"""


@dataclass(frozen=True, slots=True)
class _Command:
    name: str
    summary: str
    more: str = ""


_COMMANDS = (
    _Command(
        "start",
        "apply the configuration and return",
        "Twice is once: where the rules are as wanted nothing is written. A changed file replaces "
        "what was; established connections of a frontend that stays keep their backend.",
    ),
    _Command(
        "stop",
        "take away every rule of ours",
        "From any state and without any file: whatever bears our name goes, in both variants of "
        "iptables and both address families. Rules of others stay as they are.",
    ),
    _Command(
        "run",
        "apply, wait, and take the rules away at SIGTERM",
        "What the container runs. SIGHUP reads the configuration again.",
    ),
    _Command(
        "check",
        "say whether the configuration is right",
        "Reports every problem at once as file:line:column. Needs no root and touches nothing.",
    ),
    _Command(
        "render",
        "print what would be given to iptables-restore",
        "For a host that has no rules of ours yet. Needs no root and touches nothing.",
    ),
    _Command(
        "diff",
        "show how the live rules differ from the configuration",
        "'-' is in the kernel only, '+' is wanted only. Exit code 1 where they differ.",
    ),
    _Command(
        "status",
        "show what the kernel does now",
        "Reads the live rules, no file. Exit code 1 where nothing runs or rules are damaged.",
    ),
    _Command(
        "demo",
        "balance real connections between throwaway hosts on this machine",
        "Client, balancer and three backends in network namespaces of their own, with no way out; "
        "nothing is left afterwards. Works as root and as an ordinary user.",
    ),
    _Command("schema", "print the JSON Schema of the configuration, for editors"),
    _Command(
        "completion",
        "print a completion script for a shell",
        "For example: source <(paraglider completion bash)",
    ),
)


class _Parser(argparse.ArgumentParser):
    """The parser of the standard library, with the nearest command for one that does not exist."""

    def error(self, message: str) -> NoReturn:
        import difflib

        found = re.search(r"invalid choice: '(.*?)'", message)
        names = [command.name for command in _COMMANDS]
        near = difflib.get_close_matches(found[1], names, n=1) if found else []
        hint = f"did you mean {near[0]!r}?" if near else "see 'paraglider --help'"
        super().error(f"{message}; {hint}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="paraglider",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_config(parser, default=None)
    parser.add_argument(
        "-version", "--version", action="version", version=f"paraglider {__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        added = commands.add_parser(
            command.name,
            help=command.summary,
            # Not capitalize(), which takes the capitals from SIGTERM.
            description=f"{command.summary[:1].upper()}{command.summary[1:]}. {command.more}",
            allow_abbrev=False,
        )
        # Without a default of its own, so that it does not undo what stands before the command.
        _add_config(added, default=argparse.SUPPRESS)
        _add_options(command.name, added)
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument(
        "-config",
        "--config",
        metavar="FILE",
        default=default,
        help="the configuration; '-' reads it from stdin (default: /etc/paraglider/glider.yaml)",
    )


def _add_options(name: str, parser: argparse.ArgumentParser) -> None:
    match name:
        case "check":
            parser.add_argument(
                "--strict", action="store_true", help="what does not fit this host is an error too"
            )
        case "render":
            family = parser.add_mutually_exclusive_group()
            family.add_argument(
                "-4", dest="family", action="store_const", const=4, help="for iptables only"
            )
            family.add_argument(
                "-6", dest="family", action="store_const", const=6, help="for ip6tables only"
            )
        case "status":
            parser.add_argument("--json", action="store_true", help="as one JSON object")
            parser.add_argument("--quiet", action="store_true", help="say it by exit code alone")
        case "completion":
            parser.add_argument("shell", choices=SHELLS)
