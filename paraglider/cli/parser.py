"""The command line's grammar, and the help that teaches it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, NoReturn

from paraglider import __version__
from paraglider.errors import EXIT_CODES

SHELLS = ("bash", "zsh", "fish")
NAME_KINDS = ("backends", "frontends")

_DESCRIPTION = """\
Turn this host into a TCP and UDP load balancer: iptables rules spread connections to an address and
port over backends. The kernel forwards every packet; no connection passes through this program.
"""

_EPILOG = """\
Configuration file (default: /etc/paraglider/glider.yaml):

  frontend:
    bind: 192.0.2.10:80          # address and port for clients, an address of this host
    privateip: 10.0.0.4          # source address that backends see, an address of this host
    backends:
      - 10.0.0.11:8080
      - 10.0.0.12:8080           # or a host name: web:8080
    check: http                  # default: tcp, every 2 s

Without a file: PARAGLIDER_BIND, PARAGLIDER_PRIVATEIP, PARAGLIDER_BACKENDS (comma-separated).
PARAGLIDER_IPTABLES=nft|legacy selects the variant of iptables (default: the one the host uses).
docs/configuration.md lists all keys and variables.

Try it:                 paraglider demo
Check before you apply: paraglider -config glider.yaml check
                        paraglider -config glider.yaml render
                        paraglider -config glider.yaml diff
Apply, show, remove:    paraglider -config glider.yaml start
                        paraglider status
                        paraglider stop
With health checks:     paraglider -config glider.yaml run
and, while it runs:     paraglider drain 10.0.0.11:8080 --deadline 30s
                        paraglider undrain 10.0.0.11:8080
                        paraglider reload

Exit codes:
""" + "".join(f"{code:5}  {meaning}\n" for code, meaning in EXIT_CODES.items())


class _Command(NamedTuple):
    name: str
    summary: str
    more: str = ""


_COMMANDS = (
    _Command(
        "start",
        "apply the configuration once and exit",
        "Writes nothing if the rules are already as configured. After a change of the file, "
        "established connections of a frontend that stays keep their backend. Backends are not "
        "health-checked; use 'run' for that.",
    ),
    _Command(
        "stop",
        "remove all rules of Paraglider",
        "Stops the agent of this host, if there is one. Works from any state, without the file: "
        "removes everything with Paraglider's prefix, in both variants of iptables and both "
        "address families. Other rules stay as they are.",
    ),
    _Command(
        "run",
        "run the agent: apply, health-check, repair, and remove the rules at SIGTERM",
        "Health-checks the backends, follows host names and the file, and repairs rules that other "
        "programs change. This is what the container runs. SIGHUP reloads the configuration, as a "
        "changed file does; a wrong configuration changes nothing.",
    ),
    _Command(
        "check",
        "check the configuration",
        "Reports all problems at once as file:line:column. Needs no root and changes nothing; as "
        "root it also reads other programs' rules.",
    ),
    _Command(
        "render",
        "print the input for iptables-restore",
        "For a host without rules of Paraglider. Needs no root and changes nothing; host names are "
        "looked up.",
    ),
    _Command(
        "diff",
        "show how the live rules differ from the configuration",
        "'-' is only in the kernel, '+' is missing from it. Backends that are out of service are "
        "not expected in the rules. Exit code 1 if the rules differ.",
    ),
    _Command(
        "status",
        "show frontends, backends, their health and connections",
        "Asks the agent; without one, reads the live rules. Exit code 1: not running, damaged, "
        "a change overdue for 5 s, or no answer from the agent. Exit code 3: a frontend has no "
        "backend that serves.",
    ),
    _Command(
        "drain",
        "send no new connections to a backend; existing ones continue",
        "Lasts until 'undrain', also across restarts of the agent. At the deadline, connections "
        "that are left are cut.",
    ),
    _Command("undrain", "send new connections to a drained backend again"),
    _Command(
        "disable",
        "take a backend out of service and stop checking it; existing connections continue",
        "Lasts until 'enable', also across restarts of the agent.",
    ),
    _Command("enable", "put a disabled backend back into service"),
    _Command(
        "reload",
        "make the agent read the configuration again",
        "The agent also notices a changed file by itself within two seconds. Exit code 78 if the "
        "configuration is wrong; nothing is changed then.",
    ),
    _Command("metrics", "print the metrics of this host in Prometheus format"),
    _Command(
        "demo",
        "balance real connections between temporary hosts on this machine",
        "Client, balancer and three backends in network namespaces without a route out. Leaves "
        "nothing behind. Runs as root or as an ordinary user.",
    ),
    _Command("schema", "print the JSON Schema of the configuration, for editors"),
    _Command("help", "print this help, or the help of a command"),
    _Command("version", "print the version"),
    _Command(
        "completion",
        "print a completion script for a shell",
        "For example: source <(paraglider completion bash). It offers the names that "
        "'completion backends' and 'completion frontends' print: those of the agent; without an "
        "agent, those of the file.",
    ),
)

# Those that say something about one backend.
ORDERS = ("drain", "undrain", "disable", "enable")

# What a misspelt command may be taken for: a guess must not suggest to change anything.
_HARMLESS = (
    *("check", "render", "diff", "status", "metrics"),
    *("schema", "completion", "demo", "help", "version"),
)


class Parser(argparse.ArgumentParser):
    """The parser of the standard library, with answers that say what to type.

    `commands` holds the parser of each command, by its name.
    """

    commands: Mapping[str, Parser]

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong; exit with 2."""
        found = re.search(r"(\S+): invalid choice: (['\"]?)(.*)\2 \(choose from (.*)\)", message)
        if found and found[1] == "COMMAND":
            message = _explain_command(found[3])
        elif found:
            words = found[4].replace("'", "")
            message = f"{found[1]}: unknown value {found[3]}; choose one of: {words}"
        elif "are required: COMMAND" in message:
            message = f"no command; {_LISTED}"
        super().error(f"{message}; see '{self.prog} --help'")


_LISTED = f"commands: {', '.join(command.name for command in _COMMANDS)}"


def _explain_command(word: str) -> str:
    """Say that `word` is no command, and what was probably meant."""
    import difflib

    near = [name for name in _HARMLESS if name.startswith(word)]
    near += difflib.get_close_matches(word, _HARMLESS, n=1, cutoff=0.75)
    if near:
        return f"no such command: {word}; did you mean {near[0]}? {_LISTED}"
    if _is_like_a_file(word):
        return f"no such command: {word}; to name a file, write -config {word}; {_LISTED}"
    return f"no such command: {word}; {_LISTED}"


def _is_like_a_file(word: str) -> bool:
    return "/" in word or word.endswith((".yaml", ".yml"))


def parse_line(words: Sequence[str], *, parser: Parser | None = None) -> argparse.Namespace:
    """Return the arguments in `words`; where they are wrong, say what to type, and exit with 2.

    `-t` is `check`, as other servers have it. `parser` is the one for these words if not given.
    """
    parser = parser or build_parser(words)
    arguments, extra = parser.parse_known_args(words)
    if arguments.is_check and not arguments.command:
        return parse_line([*(word for word in words if word != "-t"), "check"])
    if arguments.is_check:
        parser.error(f"-t means check: leave out -t, or {arguments.command}")
    if not arguments.command:
        parser.error("the following arguments are required: COMMAND")
    if extra:
        _refuse_extra(parser.commands[arguments.command], extra)
    if getattr(arguments, "file", None):
        if arguments.config:
            parser.error(f"two files, {arguments.config} and {arguments.file}: name one")
        arguments.config = arguments.file
    return arguments


def _refuse_extra(command: Parser, extra: Sequence[str]) -> NoReturn:
    import difflib

    message = f"unknown arguments: {' '.join(extra)}"
    known = [name for action in command._actions for name in action.option_strings]
    if near := difflib.get_close_matches(extra[0], known, n=1):
        message += f"; did you mean {near[0]}?"
    elif not extra[0].startswith("-") and _is_like_a_file(extra[0]):
        message += f"; to name a file, write -config {extra[0]}"
    command.error(message)


def build_parser(words: Collection[str] | None = None) -> Parser:
    """Return the parser of the whole command line.

    Where the `words` on it are given, a command that is none of them is known by its name and
    summary alone: options are most of what a parser costs.
    """
    parser = Parser(
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
    parser.add_argument(
        "-t", dest="is_check", action="store_true", help="the same as the command check"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.commands = commands.choices
    for command in _COMMANDS:
        is_usable = words is None or command.name in words
        added = commands.add_parser(
            command.name,
            help=command.summary,
            # Not capitalize(), which takes the capitals from SIGTERM.
            description=f"{command.summary[:1].upper()}{command.summary[1:]}. {command.more}",
            allow_abbrev=False,
            add_help=is_usable,
        )
        if is_usable:
            # Without a default of its own, so that it does not undo what stands before the command.
            _add_config(added, default=argparse.SUPPRESS)
            _add_options(command.name, added)
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument(
        "-config",
        "--config",
        "-f",
        metavar="FILE",
        default=default,
        help="configuration file; '-' is standard input (default: /etc/paraglider/glider.yaml)",
    )


def _add_options(name: str, parser: argparse.ArgumentParser) -> None:
    match name:
        case "check":
            parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
            parser.add_argument("file", metavar="FILE", nargs="?", help="the same as -config FILE")
        case "render":
            family = parser.add_mutually_exclusive_group()
            family.add_argument(
                "-4", dest="family", action="store_const", const=4, help="only rules for iptables"
            )
            family.add_argument(
                "-6", dest="family", action="store_const", const=6, help="only rules for ip6tables"
            )
        case "status":
            parser.add_argument("--json", action="store_true", help="print JSON")
            parser.add_argument(
                "--quiet", action="store_true", help="print nothing, only set the exit code"
            )
        case "run":
            parser.add_argument(
                "--drain",
                metavar="TIME",
                help="at SIGTERM, wait up to this time for connections to end (default: "
                "$PARAGLIDER_DRAIN, or 0s)",
            )
        case _ if name in ORDERS:
            _add_backend(name, parser)
        case "completion":
            parser.add_argument("shell", metavar="SHELL", choices=(*SHELLS, *NAME_KINDS))
        case "help":
            names = [command.name for command in _COMMANDS]
            parser.add_argument("topic", metavar="COMMAND", nargs="?", choices=names)


def _add_backend(name: str, parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backend",
        metavar="BACKEND",
        help="ADDRESS:PORT, an address, or a host name of the configuration",
    )
    parser.add_argument(
        "--frontend", metavar="NAME", default="", help="only in this frontend (default: in all)"
    )
    if name == "drain":
        parser.add_argument(
            "--deadline",
            metavar="TIME",
            help="cut connections that are left after 30s, 5m, ... (default: never)",
        )
