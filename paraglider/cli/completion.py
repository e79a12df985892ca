"""Completion scripts for shells, made from the parser, so that they cannot differ from it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

_BASH = """\
_paraglider() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" w
    case "$before" in
        -config|--config) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    esac
    for w in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$w" in {names}) command="$w" ;; esac
    done
    case "$command" in
{cases}
        *) COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;
    esac
}}
complete -o filenames -F _paraglider paraglider
"""
_BASH_CASE = '        {name}) COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;'

_ZSH = """\
#compdef paraglider
_paraglider() {{
    local -a commands=(
{commands}
    )
    local command=""
    for w in ${{words[2,CURRENT-1]}}; do
        (( ${{commands[(I)$w:*]}} )) && command=$w
    done
    if [[ ${{words[CURRENT-1]}} == (-|--)config ]]; then
        _files
        return
    fi
    case $command in
{cases}
        *) _describe command commands; compadd -- {words} ;;
    esac
}}
compdef _paraglider paraglider
"""
_ZSH_CASE = "        {name}) compadd -- {words} ;;"


def completion_script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the script that makes `shell` (bash, zsh or fish) complete the command line."""
    commands = _subparsers(parser)
    summaries = _summaries(parser)
    words = {name: _words(command) for name, command in commands.items()}
    if shell == "fish":
        return _fish(summaries, words)
    names = " ".join(commands)
    top = " ".join(_words(parser))
    if shell == "zsh":
        described = "\n".join(f"        '{name}:{text}'" for name, text in summaries.items())
        cases = "\n".join(_ZSH_CASE.format(name=n, words=" ".join(w)) for n, w in words.items())
        return _ZSH.format(commands=described, cases=cases, words=top)
    cases = "\n".join(_BASH_CASE.format(name=n, words=" ".join(w)) for n, w in words.items())
    return _BASH.format(names=names.replace(" ", "|"), cases=cases, words=f"{names} {top}")


def _fish(summaries: Mapping[str, str], words: Mapping[str, list[str]]) -> str:
    lines = ["complete -c paraglider -f", "complete -c paraglider -o config -l config -r -F"]
    lines += [
        f"complete -c paraglider -n __fish_use_subcommand -a {name} -d '{text}'"
        for name, text in summaries.items()
    ]
    lines += [
        f"complete -c paraglider -n '__fish_seen_subcommand_from {name}' -a '{' '.join(w)}'"
        for name, w in words.items()
    ]
    return "\n".join(lines) + "\n"


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


def _words(parser: argparse.ArgumentParser) -> list[str]:
    words: list[str] = []
    for action in parser._actions:
        words += action.option_strings
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            words += action.choices or ()
    return words
