"""Completion scripts for shells, made from the parser, so that they cannot differ from it; and the
names that they offer, of the backends and frontends of this host.

A script asks `paraglider completion backends` for names. It runs while somebody waits for a key:
it prints no error, and waits for nothing longer than two seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraglider.cli.parser import NAME_KINDS
from paraglider.errors import UnavailableError

if TYPE_CHECKING:
    from paraglider.cli.context import Context
    from paraglider.config.model import Config

_AGENT_WAIT_S = 0.5

_BASH = """\
_paraglider() {{
    local words=() offered=() files="" kind="" command="" config=() glue="" word before w i
    # ':' and '=' break words in bash: 10.0.0.11:80 is three.
    for w in "${{COMP_WORDS[@]:0:COMP_CWORD+1}}"; do
        if [[ -n $glue || ( -n $w && -z ${{w//[:=]/}} ) ]]; then
            words[-1]+="$w"
        else
            words+=("$w")
        fi
        glue=""
        [[ -n $w && -z ${{w//[:=]/}} ]] && glue=1
    done
    for ((i = 1; i < ${{#words[@]}} - 1; i++)); do
        w="${{words[i]}}"
        case "${{words[i - 1]}}" in
            {files}) config=(-config "${{w/#~\\//$HOME/}}"); continue ;;
            {valued}) continue ;;
        esac
        [[ "$w" =~ ^({files})= ]] && config=(-config "${{w#*=}}")
        case "$w" in {names}) command="${{command:-$w}}" ;; esac
    done
    word="${{words[-1]}}" before="${{words[-2]}}"
    [[ $word == -*=* ]] && before="${{word%%=*}}" word="${{word#*=}}"
    case "$before" in
        {files}) files=1 ;;
        {frontends}) kind=frontends ;;
        {valued}) return ;;
        *)
            case "$command" in
{cases}
                *) offered=({names_listed} {words}) ;;
            esac
            ;;
    esac
    COMPREPLY=()
    if [[ -n $kind ]]; then
        mapfile -t -O "${{#offered[@]}}" offered < <(
            timeout 2 "${{COMP_WORDS[0]/#~\\//$HOME/}}" "${{config[@]}}" completion "$kind" \\
                2>/dev/null </dev/null
        )
    fi
    for w in "${{offered[@]}}"; do
        [[ $w == "${{word//\\\\/}}"* ]] && COMPREPLY+=("$w")
    done
    if [[ -n $files ]]; then
        mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames 2>/dev/null
    elif [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{word%"${{word##*:}}"}}"}}")
    fi
}}
complete -F _paraglider paraglider
"""
_BASH_CASE = "                {name}) offered=({words}){values} ;;"
_BASH_VALUES = {"": "", "files": " files=1"} | {kind: f" kind={kind}" for kind in NAME_KINDS}

_ZSH = """\
#compdef paraglider
_paraglider() {{
    local -a commands=(
{commands}
    )
    local command="" before=${{words[CURRENT-1]}} w
    local -a config
    for w in ${{words[2,CURRENT-1]}}; do
        (( ${{commands[(I)$w:*]}} )) && [[ -z $command ]] && command=$w
    done
    local at=${{words[(I)({files})]}}
    (( at > 1 && at < CURRENT - 1 )) && config=(-config ${{(Q)words[at+1]/#\\~\\//$HOME/}})
    case $before in
        {files}) _files; return ;;
        {frontends}) _paraglider_names frontends; return ;;
        {valued}) return ;;
    esac
    case $command in
{cases}
        *) _describe command commands; compadd -- {words} ;;
    esac
}}
_paraglider_names() {{
    compadd -- ${{(f)"$(timeout 2 ${{words[1]/#\\~\\//$HOME/}} $config completion $1 2>/dev/null \\
        </dev/null)"}}
}}
compdef _paraglider paraglider
"""
_ZSH_CASE = "        {name}) compadd -- {words}{values} ;;"
_ZSH_VALUES = {"": "", "files": "; _files"} | {
    kind: f"; _paraglider_names {kind}" for kind in NAME_KINDS
}

_FISH_NAMES = "(timeout 2 paraglider completion {kind} 2>/dev/null </dev/null)"


@dataclass(frozen=True, slots=True)
class _Line:
    """What may stand after a command: its options and fixed words, and the kind of its values."""

    words: Sequence[str]
    kind: str  # "files", one of NAME_KINDS, or "" for none


# What an argument takes, by the name that its help has for it.
_KINDS = {"FILE": "files", "BACKEND": "backends", "NAME": "frontends"}


def completion_script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the script that makes `shell` (bash, zsh or fish) complete the command line."""
    lines = {name: _line(command) for name, command in _subparsers(parser).items()}
    options = _valued_options(parser)
    if shell == "fish":
        return _fish(_summaries(parser), lines, options)
    patterns = {kind: "|".join(sorted(names)) for kind, names in options.items()}
    template, case, values = (
        (_ZSH, _ZSH_CASE, _ZSH_VALUES) if shell == "zsh" else (_BASH, _BASH_CASE, _BASH_VALUES)
    )
    return template.format(
        commands="\n".join(f"        '{n}:{text}'" for n, text in _summaries(parser).items()),
        cases="\n".join(
            case.format(name=name, words=" ".join(line.words), values=values[line.kind])
            for name, line in lines.items()
        ),
        names="|".join(lines),
        names_listed=" ".join(lines),
        words=" ".join(_line(parser).words),
        files=patterns["files"],
        frontends=patterns["frontends"],
        valued="|".join(patterns.values()),
    )


def _fish(
    summaries: Mapping[str, str],
    lines: Mapping[str, _Line],
    options: Mapping[str, Sequence[str]],
) -> str:
    script = ["complete -c paraglider -f", "complete -c paraglider -o config -l config -s f -r -F"]
    script += [
        f"complete -c paraglider -n __fish_use_subcommand -a {name} -d '{text}'"
        for name, text in summaries.items()
    ]
    for name, line in lines.items():
        seen = f"complete -c paraglider -n '__fish_seen_subcommand_from {name}'"
        script.append(f"{seen} -a '{' '.join(line.words)}'")
        if line.kind == "files":
            script.append(f"{seen} -F")
        elif line.kind:
            script.append(f"{seen} -a '{_FISH_NAMES.format(kind=line.kind)}'")
    script += [
        f"complete -c paraglider -l {name.lstrip('-')} -x -a '{_FISH_NAMES.format(kind=kind)}'"
        for kind in NAME_KINDS
        for name in options.get(kind, ())
    ]
    return "\n".join(script) + "\n"


def list_names(kind: str, context: Context) -> Sequence[str]:
    """Return the names that may be typed for the `kind` of NAME_KINDS: of the agent if it answers
    soon, else of the configuration. ConfigError where neither is of use."""
    found = _agent_names(kind, context)
    if found is None and context.arguments.config == "-":
        return ()  # a terminal, which must not be read
    if found is None:
        found = list(_config_names(kind, context.load_config()))
    return list(dict.fromkeys(found))


def _agent_names(kind: str, context: Context) -> list[str] | None:
    from paraglider.agent.protocol import Request

    try:
        answer = context.ask(Request(command="status", is_json=True), wait_s=_AGENT_WAIT_S)
        frontends = json.loads(answer.text)["frontends"] if answer else None
    except (UnavailableError, ValueError):
        return None
    if frontends is None:
        return None
    if kind == "frontends":
        return [frontend["name"] for frontend in frontends if not frontend["leaving"]]
    backends = [backend for frontend in frontends for backend in frontend["backends"]]
    return [b["backend"] for b in backends] + [b["host_name"] for b in backends if b["host_name"]]


def _config_names(kind: str, config: Config) -> Iterator[str]:
    for frontend in config.frontends:
        if kind == "frontends":
            yield frontend.name
            continue
        for backend in frontend.backends:
            yield backend.host if isinstance(backend.host, str) else str(backend)


def _subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    return _subparsers_action(parser).choices


def _summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {
        choice.dest: (choice.help or "").replace("'", "")
        for choice in _subparsers_action(parser)._choices_actions
    }


def _subparsers_action(
    parser: argparse.ArgumentParser,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    # argparse tells its actions to nobody; the name has been the same since Python 2.7.
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _line(parser: argparse.ArgumentParser) -> _Line:
    words: list[str] = []
    kind = ""
    for action in parser._actions:
        words += action.option_strings
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            words += action.choices or ()
            kind = _KINDS.get(str(action.metavar), kind)
    return _Line(words, kind)


def _valued_options(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return the options that take a value, of all commands, by the kind of the value."""
    found: dict[str, list[str]] = {}
    for one in (parser, *_subparsers(parser).values()):
        for action in one._actions:
            if action.option_strings and action.metavar is not None:
                names = found.setdefault(_KINDS.get(str(action.metavar), ""), [])
                names += [name for name in action.option_strings if name not in names]
    return found
