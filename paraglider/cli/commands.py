"""What each command does: call the rooms to the left, print what came of it.

Modules that only one command needs are imported when it runs: on a small device an import is most
of what `paraglider check` costs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from paraglider import __version__
from paraglider.cli.context import Context
from paraglider.errors import ConfigError, ParagliderError, Problem, UnavailableError

if TYPE_CHECKING:
    from paraglider.agent.protocol import Answer

# For a process to be known that holds the agent's lock, or to show that it is alive.
_UNKNOWN_WAIT_S = 2.0
# Above what an agent takes to remove its rules.
_STOP_ANSWER_S = 10.0


def start(context: Context) -> int:
    """Apply the configuration; say what is balanced now."""
    from paraglider.agent.in_force import in_force_lines
    from paraglider.cli.findings import certificate_findings, report_rules, survey
    from paraglider.cli.flows import forget_flows, read_served
    from paraglider.cli.names import resolve_names
    from paraglider.config.effect import agent_findings
    from paraglider.health.service import backend_addresses, standing_services
    from paraglider.kernel.apply import apply_states
    from paraglider.kernel.iptables import Variant
    from paraglider.kernel.lock import hold_rules_lock
    from paraglider.kernel.policy_routing import PolicyWatch
    from paraglider.kernel.routes import find_local
    from paraglider.rules.wanted import plan_states

    _refuse_beside_agent(context)
    _warn_of_variables(context)
    config = context.load_config()
    choice = context.choose_variant()
    findings = (*survey(context, config), *agent_findings(config), *certificate_findings(config))
    for finding in findings:
        context.report(f"warning: {finding}")
    services = standing_services(config, resolve_names(config))
    is_legacy = choice.variant is Variant.LEGACY
    local = find_local(backend_addresses(services))
    policy = PolicyWatch(report=context.report).rules()
    with hold_rules_lock(report=context.report):
        _refuse_beside_agent(context)  # one may have come and gone on without the lock
        before = read_served(context, choice.variant)
        is_changed = apply_states(
            plan_states(services, randomize_start=is_legacy, local=local, policy=policy),
            variant=choice.variant,
            host=context.host,
            report=context.report,
        )
        forget_flows(context, services, before)
    report_rules(context, services, choice.variant)
    for line in in_force_lines(services, choice, is_changed=is_changed):
        context.say(line)
    return 0


def _refuse_beside_agent(context: Context) -> None:
    from paraglider.kernel.agent_lock import find_agent

    agent = find_agent(wait_s=_UNKNOWN_WAIT_S)
    if agent is None:
        return
    if not agent.is_known:
        context.report(f"warning: {agent}; continuing as if it were no agent")
        return
    raise UnavailableError(
        f"{agent} manages the rules of this host: it applies a changed file by itself, or at "
        "'paraglider reload'; to stop it, run 'paraglider stop'"
    )


def stop(context: Context) -> int:
    """Take away every rule of ours; an agent that there is does it itself, and ends."""
    from paraglider.agent.protocol import Request
    from paraglider.kernel.agent_lock import find_agent
    from paraglider.kernel.lock import hold_rules_lock_to_stop

    try:
        answer = context.ask(Request(command="stop"), wait_s=_STOP_ANSWER_S)
    except UnavailableError as error:
        context.report(f"warning: {error}")
        answer = None
    if answer is not None:
        return _tell(context, answer)
    if agent := find_agent():
        if agent.is_responsive(_UNKNOWN_WAIT_S):
            raise UnavailableError(
                f"{agent} manages the rules of this host, would restore them, and cannot be "
                "reached from here: stop its container, or end that process"
            )
        context.report(f"{agent} does not answer: removing the rules without it; end it")
    with hold_rules_lock_to_stop(report=context.report, is_hopeless=agent is not None):
        return _remove(context)


def _remove(context: Context) -> int:
    from paraglider.cli.flows import forget_flows, read_whatever_is_served
    from paraglider.kernel.removal import remove_rules

    before = read_whatever_is_served(context)
    removal = remove_rules(host=context.host, report=context.report)
    forget_flows(context, (), before)
    for error in removal.unread:
        context.report(f"rules may be left that cannot be read: {error}")
    if removal.unread:
        context.say("stopped: removed the rules that can be read")
    elif removal.found:
        context.say("stopped: removed all rules")
    else:
        context.say("nothing was running")
    return removal.unread[0].exit_code if removal.unread else 0


def run(context: Context) -> int:
    """Apply, keep it true, take away at SIGTERM."""
    from paraglider.cli.findings import survey
    from paraglider.cli.run import run_here

    _warn_of_variables(context)
    return run_here(context, survey=survey, remove=_remove)


def check(context: Context) -> int:
    """Say whether the configuration is right, and fits this host."""
    from paraglider.cli.findings import check_findings
    from paraglider.config.variables import read_drain, read_iptables

    unknown = _warn_of_variables(context)
    config = context.load_config()
    read_drain(context.environment)
    read_iptables(context.environment)
    findings = check_findings(context, config)
    if context.arguments.strict and (wrong := [*unknown, *findings]):
        raise ConfigError([Problem(config.source, None, None, "", text) for text in wrong])
    for finding in findings:
        context.report(f"warning: {finding}")
    # One with binds of both families is two in `config`.
    frontends = len({frontend.name for frontend in config.frontends})
    backends = len({(f.name, str(backend)) for f in config.frontends for backend in f.backends})
    context.say(
        f"{config.source}: configuration OK ({frontends} frontend{'s' * (frontends > 1)}, "
        f"{backends} backend{'s' * (backends > 1)})"
    )
    return 0


def render(context: Context) -> int:
    """Print what iptables-restore, and ipset for clients that come back, would be given."""
    from paraglider.cli.names import resolve_names
    from paraglider.health.service import backend_addresses, standing_services
    from paraglider.kernel.iptables import Variant
    from paraglider.kernel.routes import find_local
    from paraglider.kernel.variant import asked_variant
    from paraglider.rules.wanted import plan_states, render_states

    _warn_of_variables(context)
    only, is_legacy = context.arguments.family, asked_variant(context.environment) is Variant.LEGACY
    config = context.load_config()
    services = standing_services(config, resolve_names(config))
    local = find_local(backend_addresses(services))
    planned = plan_states(services, randomize_start=is_legacy, local=local)
    wanted = {family: state for family, state in planned.items() if only in (None, family)}
    for header, text in render_states(wanted):
        context.out.write(f"{header}\n{text}")
    return 0


def diff(context: Context) -> int:
    """Show how the live rules differ from the wanted ones."""
    from paraglider.agent.saved_state import recall
    from paraglider.cli.names import resolve_names
    from paraglider.config.model import Family
    from paraglider.health.health_state import HealthState
    from paraglider.health.service import backend_addresses
    from paraglider.kernel.apply import find_missing_anchors, read_states
    from paraglider.kernel.iptables import Variant
    from paraglider.kernel.policy_routing import PolicyWatch, differing_policy
    from paraglider.kernel.routes import find_local
    from paraglider.rules.decode import decode_states
    from paraglider.rules.diff import diff_states
    from paraglider.rules.state import NOTHING
    from paraglider.rules.wanted import plan_states

    _warn_of_variables(context)
    config = context.load_config()
    variant = context.choose_variant().variant
    live = read_states(variant, context.host)
    # Backends that are noted as out of service are not expected to serve.
    health_state = HealthState(recall(decode_states(live).services))
    health_state.configure(config, resolve_names(config), 0.0)
    services = health_state.services(0.0)
    policy = PolicyWatch(report=context.report).rules()
    wanted = plan_states(
        services,
        randomize_start=variant is Variant.LEGACY,
        local=find_local(backend_addresses(services)),
        policy=policy,
    )
    unanchored = find_missing_anchors(variant, wanted, context.host)
    is_different = False
    for family in Family:
        lines = diff_states(live.get(family, NOTHING), wanted.get(family, NOTHING))
        if family in unanchored:
            lines.append("nft\n+ table paraglider, which keeps connections alive")
        lines += differing_policy(policy, wanted).get(family, [])
        if lines:
            is_different = True
            context.say("\n".join([f"IPv{family.value}:", *lines]))
    return 1 if is_different else 0


def status(context: Context) -> int:
    """Show what is balanced now."""
    from paraglider.agent.protocol import Request

    arguments = context.arguments
    request = Request(command="status", is_json=arguments.json)
    answer, is_silent = context.ask_or_look(request)
    if answer is None:
        answer = _status_here(context, is_silent=is_silent)
    if not arguments.quiet:
        context.say(answer.text)
    return answer.exit_code


def _status_here(context: Context, *, is_silent: bool) -> Answer:
    """Read from the kernel; an agent that does not answer looks after nothing."""
    from paraglider.agent.protocol import Answer
    from paraglider.agent.status import read_status
    from paraglider.agent.status_text import status_json, status_text
    from paraglider.kernel.agent_lock import find_agent

    choice = context.choose_variant(where_ours_are=True)
    found = read_status(choice, context.host, time.monotonic())
    if context.arguments.json:
        text = status_json(found)
    else:
        agent = find_agent()
        why = (
            "does not answer" if is_silent else "manages the rules, but cannot be reached from here"
        )
        text = status_text(found, unasked=f"{agent} {why}" if agent else "")
    return Answer(ParagliderError.exit_code if is_silent else found.exit_code, text)


def metrics(context: Context) -> int:
    """Print the metrics."""
    from paraglider.agent.metrics import metrics_text
    from paraglider.agent.protocol import Request
    from paraglider.agent.status import read_status

    answer, _ = context.ask_or_look(Request(command="metrics"))
    if answer is None:
        choice = context.choose_variant(where_ours_are=True)
        found = read_status(choice, context.host, time.monotonic())
        context.out.write(metrics_text(found))
        return 0
    context.out.write(answer.text)
    return answer.exit_code


def order(context: Context) -> int:
    """Let the agent do something: drain and its like, and reload."""
    from paraglider.agent.protocol import Request
    from paraglider.cli.times import read_time

    arguments = context.arguments
    deadline = getattr(arguments, "deadline", None)
    request = Request(
        command=arguments.command,
        backend=getattr(arguments, "backend", ""),
        frontend=getattr(arguments, "frontend", ""),
        deadline_s=None if deadline is None else read_time(deadline, "--deadline"),
    )
    answer = context.ask(request)
    if answer is None:
        raise UnavailableError(
            f"'{arguments.command}' needs an agent, and none can be reached from here: start one "
            "with 'paraglider run' (in a container: docker exec NAME paraglider ...)"
        )
    return _tell(context, answer)


def _warn_of_variables(context: Context) -> list[str]:
    """Warn of misspelt variables before the file is read: they may be why it is."""
    from paraglider.config.variables import unknown_variables

    warnings = unknown_variables(context.environment)
    for warning in warnings:
        context.report(f"warning: {warning}")
    return warnings


def _tell(context: Context, answer: Answer) -> int:
    if answer.exit_code:
        with contextlib.suppress(OSError):
            print(answer.text, file=context.err, flush=True)
    else:
        context.say(answer.text)
    return answer.exit_code


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


def help_(context: Context) -> int:
    """Print the help of everything, or of a command."""
    from paraglider.cli.parser import build_parser

    topic: str | None = context.arguments.topic
    parser = build_parser() if topic is None else build_parser([topic]).commands[topic]
    context.out.write(parser.format_help())
    return 0


def version(context: Context) -> int:
    """Print the version."""
    context.say(f"paraglider {__version__}")
    return 0


def completion(context: Context) -> int:
    """Print a completion script, or the names that one offers."""
    from paraglider.cli.completion import completion_script, list_names
    from paraglider.cli.parser import NAME_KINDS, build_parser

    wanted: str = context.arguments.shell
    if wanted in NAME_KINDS:
        context.out.write("".join(f"{name}\n" for name in list_names(wanted, context)))
    else:
        context.out.write(completion_script(wanted, build_parser()))
    return 0


COMMANDS: Mapping[str, Callable[[Context], int]] = {
    "start": start,
    "stop": stop,
    "run": run,
    "check": check,
    "render": render,
    "diff": diff,
    "status": status,
    "metrics": metrics,
    "reload": order,
    "drain": order,
    "undrain": order,
    "disable": order,
    "enable": order,
    "demo": demo,
    "schema": schema,
    "completion": completion,
    "help": help_,
    "version": version,
}
