"""What each command does: call the rooms to the left, print what came of it.

Modules that only one command needs are imported when it runs: on a small device an import is most
of what `paraglider check` costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO

from paraglider.config.model import Config
from paraglider.errors import ConfigError, Problem
from paraglider.kernel.host import Host

if TYPE_CHECKING:
    import argparse

    from paraglider.kernel.iptables import Variant
    from paraglider.kernel.variant import Choice
    from paraglider.rules.ruleset import Ruleset


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works with."""

    arguments: argparse.Namespace
    environment: Mapping[str, str]
    stdin: BinaryIO
    out: TextIO
    err: TextIO
    host: Host

    def say(self, text: str) -> None:
        """Print a result."""
        print(text, file=self.out, flush=True)

    def report(self, text: str) -> None:
        """Print something to know beside the result."""
        print(f"paraglider: {text}", file=self.err, flush=True)

    def load_config(self) -> Config:
        """Return the configuration that the command line and the environment name."""
        from paraglider.config.load import load_config

        path: str | None = self.arguments.config
        return load_config(path, environment=self.environment, stdin=self.stdin)

    def choose_variant(self, *, where_ours_are: bool = False) -> Choice:
        """Return the variant of iptables to use here, or the one that ours are in."""
        from paraglider.kernel.iptables import Variant
        from paraglider.kernel.variant import choose_variant, require_capabilities

        require_capabilities(self.host, Variant.NFT)
        return choose_variant(
            environment=self.environment, host=self.host, where_ours_are=where_ours_are
        )


def start(context: Context) -> int:
    """Apply the configuration; say what is balanced now."""
    _apply(context)
    return 0


def _apply(context: Context) -> tuple[Sequence[Ruleset], Variant]:
    """Do what `start` does; return the rules that are now in place, and the variant that has
    them."""
    from paraglider.kernel.apply import apply_rulesets
    from paraglider.kernel.firewall import survey_firewall
    from paraglider.kernel.process import find_program
    from paraglider.kernel.survey import survey_host
    from paraglider.rules.plan import plan_rulesets

    config = context.load_config()
    choice = context.choose_variant()
    families = {frontend.family for frontend in config.frontends}
    firewall = survey_firewall(families, nft_path=find_program("nft"))
    for finding in (*survey_host(config, context.host), *firewall):
        context.report(f"warning: {finding}")
    rulesets = plan_rulesets(config)
    is_changed = apply_rulesets(
        rulesets,
        variant=choice.variant,
        host=context.host,
        report=context.report,
    )
    if not is_changed:
        context.say("already running as configured; nothing to change")
    for frontend in config.frontends:
        count = len(frontend.backends)
        context.say(
            f"{frontend.name}: balancing {frontend.bind} over {count} "
            f"backend{'s' if count > 1 else ''} as {frontend.privateip}"
        )
    context.say(f"rules are in iptables ({choice.variant.value}): {choice.reason}")
    return rulesets, choice.variant


def stop(context: Context) -> int:
    """Take away every rule of ours."""
    from paraglider.kernel.removal import remove_rules

    removal = remove_rules(host=context.host, report=context.report)
    for error in removal.unread:
        context.report(f"there may be rules of ours that cannot be read: {error}")
    if removal.unread:
        context.say("stopped: the rules that can be read are gone")
    elif removal.found:
        context.say("stopped: all rules are gone")
    else:
        context.say("nothing was running")
    return removal.unread[0].exit_code if removal.unread else 0


def run(context: Context) -> int:
    """Apply, look after it, take away at SIGTERM."""
    from paraglider.agent.keep import Keeper
    from paraglider.agent.run import run_agent
    from paraglider.kernel.apply import put_jumps_back

    def report(text: str) -> None:
        # Whoever read the log may be gone; the rules are more than that.
        with contextlib.suppress(OSError):
            context.report(text)

    keeper = Keeper(report)

    def start() -> None:
        rulesets, variant = _apply(context)
        keeper.take_over(
            variant, lambda: put_jumps_back(rulesets, variant=variant, host=context.host)
        )

    def take_away() -> None:
        keeper.close()
        stop(context)

    run_agent(start=start, look=keeper.look, stop=take_away, report=report)
    return 0


def check(context: Context) -> int:
    """Say whether the configuration is right, and fits this host."""
    from paraglider.kernel.survey import survey_host

    config = context.load_config()
    findings = survey_host(config, context.host)
    if findings and context.arguments.strict:
        raise ConfigError([Problem(config.source, None, None, "", f) for f in findings])
    for finding in findings:
        context.report(f"warning: {finding}")
    frontends = len(config.frontends)
    backends = sum(len(frontend.backends) for frontend in config.frontends)
    context.say(
        f"{config.source}: configuration OK ({frontends} frontend{'s' * (frontends > 1)}, "
        f"{backends} backend{'s' * (backends > 1)})"
    )
    return 0


def render(context: Context) -> int:
    """Print what would be given to iptables-restore."""
    from paraglider.rules.plan import plan_rulesets
    from paraglider.rules.restore import lint_restore, render_rulesets

    only = context.arguments.family
    rulesets = [r for r in plan_rulesets(context.load_config()) if only in (None, r.family)]
    for header, text in render_rulesets(rulesets):
        lint_restore(text)
        context.out.write(f"{header}\n{text}")
    return 0


def diff(context: Context) -> int:
    """Show how the live rules differ from the wanted ones."""
    from paraglider.config.model import Family
    from paraglider.kernel.apply import find_missing_anchors, read_states
    from paraglider.rules.diff import diff_states
    from paraglider.rules.plan import plan_rulesets
    from paraglider.rules.state import NOTHING, state_of_ruleset

    wanted = {r.family: state_of_ruleset(r) for r in plan_rulesets(context.load_config())}
    variant = context.choose_variant().variant
    live = read_states(variant, context.host)
    unanchored = find_missing_anchors(variant, wanted)
    is_different = False
    for family in Family:
        lines = diff_states(live.get(family, NOTHING), wanted.get(family, NOTHING))
        if family in unanchored:
            lines.append("nft\n+ table paraglider, which keeps connections alive")
        if lines:
            is_different = True
            context.say("\n".join([f"IPv{family.value}:", *lines]))
    return 1 if is_different else 0


def status(context: Context) -> int:
    """Show what the kernel does now."""
    from paraglider.cli.status import read_status, status_json, status_text

    choice = context.choose_variant(where_ours_are=True)
    found = read_status(choice, context.host)
    if not context.arguments.quiet:
        context.say(status_json(found) if context.arguments.json else status_text(found))
    return 0 if found.is_whole else 1


def demo(context: Context) -> int:
    """Balance real connections between throwaway hosts."""
    from paraglider.lab.demo import run_demo

    return run_demo(out=context.out)


def schema(context: Context) -> int:
    """Print the JSON Schema of the configuration."""
    import json

    from paraglider.config.schema import config_schema

    context.say(json.dumps(config_schema(), indent=2))
    return 0


def completion(context: Context) -> int:
    """Print a completion script."""
    from paraglider.cli.completion import completion_script
    from paraglider.cli.parser import build_parser

    context.out.write(completion_script(context.arguments.shell, build_parser()))
    return 0


COMMANDS: Mapping[str, Callable[[Context], int]] = {
    "start": start,
    "stop": stop,
    "run": run,
    "check": check,
    "render": render,
    "diff": diff,
    "status": status,
    "demo": demo,
    "schema": schema,
    "completion": completion,
}
