"""The command `run`: puts the agent together with this host, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from paraglider.agent.agent import Agent, Dependencies
from paraglider.agent.loop import REST_S, Loop
from paraglider.agent.programs import Programs, ThreadPrograms
from paraglider.agent.protocol import socket_path
from paraglider.agent.run import Running, run_agent
from paraglider.agent.saved_state import recall
from paraglider.agent.view import View
from paraglider.agent.watch import FileWatch
from paraglider.agent.writer import Connections
from paraglider.cli.times import read_time
from paraglider.config.load import find_file
from paraglider.config.model import Config
from paraglider.config.variables import read_drain
from paraglider.health.saved_state import SavedState
from paraglider.health.service import Service
from paraglider.kernel.agent_lock import hold_agent_lock
from paraglider.kernel.apply import read_states
from paraglider.kernel.conntrack_table import read_conntrack
from paraglider.kernel.finding import Finding
from paraglider.kernel.firewall import survey_services
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Variant
from paraglider.kernel.lock import hold_rules_lock
from paraglider.kernel.reconcile import Reconciler
from paraglider.kernel.udp_flows import UdpFlows
from paraglider.kernel.variant import Choice
from paraglider.rules.decode import decode_states

if TYPE_CHECKING:
    from paraglider.cli.context import Context


def run_here(
    context: Context,
    *,
    survey: Callable[[Context, Config], Sequence[str]],
    remove: Callable[[Context], int],
) -> int:
    """Run the agent of this host until it is told to end."""

    arguments, environment = context.arguments, context.environment
    drain_s = read_time(arguments.drain, "--drain") if arguments.drain else read_drain(environment)
    loop = Loop()
    programs = Programs(loop)
    # In a thread, which waits for its programs itself.
    survey_programs = ThreadPrograms()
    survey_here = partial(survey_services, host=replace(context.host, run=survey_programs.run))
    context = replace(context, host=replace(context.host, run=programs.run))
    reconciler = Reconciler(host=context.host, report=context.report)
    dependencies = replace(
        _dependencies(context, survey, survey_services=survey_here),
        stop_survey=survey_programs.stop,
    )
    agent = Agent(loop, reconciler, dependencies)
    running = Running(
        watch=FileWatch(find_file(arguments.config, environment=environment)),
        socket_path=socket_path(environment),
        view=View(agent, context.host, loop.clock),
        programs=programs,
        remove=lambda: remove(context),
        report=context.report,
        drain_s=drain_s,
    )
    report = context.report
    with (
        loop.ignoring_signals(report),
        hold_agent_lock(report=report) as agent_lock,
        hold_rules_lock(report=report) as rules_lock,
    ):
        for lock in (agent_lock, rules_lock):
            if lock.fileno() >= 0:
                loop.watch(lock.fileno(), lock.see_off, rest_s=REST_S)
        run_agent(loop, agent, running)
    return 0


def _dependencies(
    context: Context,
    survey: Callable[[Context, Config], Sequence[str]],
    *,
    survey_services: Callable[[Sequence[Service], Variant], Sequence[Finding]],
) -> Dependencies:
    flows = UdpFlows(is_local=context.host.is_local, source_for=context.host.source_for)
    return Dependencies(
        load=context.load_config,
        choose=context.choose_variant,
        survey=lambda config: survey(context, config),
        remember=lambda choice: _remember(choice, context.host, flows),
        report=context.report,
        say=context.say,
        connections=Connections(forget_stale=flows.forget_stale),
        read_conntrack=lambda: read_conntrack(context.host),
        survey_services=survey_services,
    )


def _remember(choice: Choice, host: Host, flows: UdpFlows) -> SavedState:
    services = decode_states(read_states(choice.variant, host)).services
    flows.know(services)
    return recall(services)
