"""Variant: which of the kernel's two rule engines this host uses.

A host's rules live in nf_tables or in the older x_tables; rules in the one do not see the other's
order, so ours belong where the host's own are. Neither lsmod (both may be built in) nor the tools
that happen to be installed in a container say which that is; the rules themselves do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from paraglider.config.model import Family
from paraglider.config.variables import IPTABLES, read_iptables
from paraglider.errors import (
    NotHereError,
    ParagliderError,
    PermissionDenied,
)
from paraglider.kernel.host import NET_ADMIN, NET_RAW, Host
from paraglider.kernel.iptables import (
    Iptables,
    Variant,
    default_variant,
    find_iptables,
    permission_mend,
)

# Of an engine for this host. DOCKER_OUTPUT and DOCKER_POSTROUTING are in every container that has a
# network with names, and say nothing about it.
_DOCKER_CHAIN = re.compile(r"^:DOCKER[ -]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant to use, and why, in words for a log."""

    variant: Variant
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one variant's tables hold."""

    has_docker: bool
    has_ours: bool
    rule_count: int


def choose_variant(
    *, environment: Mapping[str, str], host: Host, where_ours_are: bool = False
) -> Choice:
    """Return the variant for this host.

    In this order: what PARAGLIDER_IPTABLES says; where Docker's chains are; where ours are; where
    there are any rules; what the host's own `iptables` is; what there is. With `where_ours_are`,
    ours count before Docker's: to look at what runs, not to decide where it should. Raises
    NotHereError where there is neither, UsageError where the variable holds neither name, and what
    kept a variant from being read where that could be the one.
    """
    if asked := asked_variant(environment):
        return Choice(asked, f"{IPTABLES} says so")
    seen: dict[Variant, Evidence] = {}
    missing, unread = list[NotHereError](), list[ParagliderError]()
    for variant in Variant:
        try:
            seen[variant] = _examine(variant, host)
        except NotHereError as error:
            missing.append(error)
        except ParagliderError as error:
            unread.append(error)
    if unread and not any(e.has_docker or e.has_ours for e in seen.values()):
        # There are tables that may hold the host's rules: anything else would be a guess.
        hint = f"or name the variant that the host uses: {IPTABLES}=nft|legacy"
        raise type(unread[0])(f"{unread[0]}\n{hint}")
    if choice := judge_evidence(seen, where_ours_are=where_ours_are):
        return choice
    default = default_variant(host.run)
    if default in seen:
        return Choice(default, "the variant of this host's iptables command")
    if seen:
        return Choice(next(iter(seen)), "the other variant is not available here")
    raise missing[0]


def asked_variant(environment: Mapping[str, str]) -> Variant | None:
    """Return what PARAGLIDER_IPTABLES says, None where it is not set. Raises ConfigError."""
    asked = read_iptables(environment)
    return Variant(asked) if asked else None


def judge_evidence(
    seen: Mapping[Variant, Evidence], *, where_ours_are: bool = False
) -> Choice | None:
    """Return the variant that the rules on this host speak for, None where there are none."""
    with_docker = [v for v, evidence in seen.items() if evidence.has_docker]
    with_ours = [v for v, evidence in seen.items() if evidence.has_ours]
    with_rules = [v for v, evidence in seen.items() if evidence.rule_count]
    if len(with_docker) == 1 and not (where_ours_are and with_ours):
        return Choice(with_docker[0], "Docker's chains are in it")
    if len(with_ours) == 1:
        return Choice(with_ours[0], "Paraglider's rules are in it")
    if len(with_rules) == 1:
        return Choice(with_rules[0], "the host's rules are in it")
    if with_rules:
        return Choice(Variant.NFT, f"both variants hold rules; {IPTABLES}=legacy overrides this")
    return None


def _examine(variant: Variant, host: Host) -> Evidence:
    find_iptables(variant, Family.IPV4, host.run)  # without it the variant does not count
    text = ""
    for tools in find_all(host):
        if tools.variant is variant:
            try:
                text += tools.read_text()
            except NotHereError:
                if tools.family is Family.IPV4:
                    raise
    return Evidence(
        has_docker=_DOCKER_CHAIN.search(text) is not None,
        has_ours="\n:PARAGLIDER-" in text,
        rule_count=text.count("] -A "),
    )


def find_all(host: Host) -> list[Iptables]:
    """Return the tools of each variant and family in which something of ours could be.

    Legacy tables that do not exist hold nothing, and reading them would create them.
    """
    found = []
    for variant in Variant:
        for family in Family:
            if variant is Variant.LEGACY and not host.has_legacy_tables(family):
                continue
            try:
                found.append(find_iptables(variant, family, host.run))
            except NotHereError:
                continue  # where the tools are not installed, they made no rules
    return found


def require_capabilities(host: Host, variant: Variant) -> None:
    """Raise PermissionDenied where this process may not touch the rules of `variant`."""
    if not host.has_capability(NET_ADMIN) or (
        variant is Variant.LEGACY and not host.has_capability(NET_RAW)
    ):
        raise PermissionDenied(
            f"this process may not read or change the host's rules\n{permission_mend(variant)}"
        )
