"""Findings: what `check`, `start` and `run` warn of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from paraglider.cli.context import Context
from paraglider.config.effect import effect_findings
from paraglider.config.model import Config
from paraglider.errors import NotHereError, ParagliderError
from paraglider.kernel.host import NET_ADMIN, grant_mend
from paraglider.kernel.policy_routing import PolicyWatch
from paraglider.kernel.survey import survey_host, survey_policy

if TYPE_CHECKING:
    from paraglider.health.service import Service
    from paraglider.kernel.finding import Finding
    from paraglider.kernel.iptables import Variant


def survey(context: Context, config: Config) -> Sequence[str]:
    """Return the warnings that come before `config` is put into force; starts no program."""
    return _without_programs(context, config)


def report_rules(context: Context, services: Sequence[Service], variant: Variant) -> None:
    """Report what on this host keeps connections from passing. Called once our rules are there: of
    NAT chains of one priority the newer is met first."""
    from paraglider.kernel.firewall import survey_services

    for finding in _without_repeats(survey_services(services, variant, host=context.host)):
        context.report(f"warning: {finding}")


def check_findings(context: Context, config: Config) -> Sequence[str]:
    """Return what `start` would warn of, or fail with, on this host."""
    return [
        *_without_programs(context, config),
        *_missing_programs(config),
        *certificate_findings(config),
        *_foreign_findings(context, config),
    ]


def _foreign_findings(context: Context, config: Config) -> list[str]:
    """Return what others' rules and settings do to balanced connections. It takes NET_ADMIN to read
    more than policy rules; what cannot be read is reported in one line. No host name is looked up.
    """
    policy = [str(it) for it in survey_policy(config.frontends, PolicyWatch().rules())]
    if not context.host.has_capability(NET_ADMIN):
        context.report(f"did not read other programs' rules: {grant_mend('NET_ADMIN')}")
        return policy
    from paraglider.health.service import standing_services
    from paraglider.kernel.firewall import survey_services

    off = context.host.forwarding_obstacles({frontend.family for frontend in config.frontends})
    services = standing_services(config, {})
    try:
        variant = context.choose_variant().variant
    except ParagliderError as error:
        reason = "; ".join(str(error).splitlines())
        context.report(f"did not read other programs' rules: {reason}")
        return [*off, *policy]
    return [
        *off,
        *map(str, _without_repeats(survey_services(services, variant, host=context.host))),
    ]


def _without_repeats(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what `survey_host` reports, and forwarding that `start` switches on."""
    return [it for it in findings if it.code not in ("privateip-away", "forwarding-off")]


def certificate_findings(config: Config) -> list[str]:
    """Return which HTTPS checks cannot be made here; a running agent learns it from its prober."""
    from paraglider.config.model import CheckKind

    checks = (backend.check.kind for frontend in config.frontends for backend in frontend.backends)
    if CheckKind.HTTPS not in checks:
        return []
    from paraglider.agent.check_trial import https_findings

    return https_findings(config)


def _without_programs(context: Context, config: Config) -> list[str]:
    return [*effect_findings(config), *survey_host(config, context.host)]


def _missing_programs(config: Config) -> list[str]:
    if not any(frontend.affinity_s for frontend in config.frontends):
        return []
    from paraglider.kernel.client_sets import find_ipset

    try:
        find_ipset()
    except NotHereError as error:
        return [str(error)]
    return []
