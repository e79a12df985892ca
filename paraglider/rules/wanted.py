"""Wanted: the state that the kernel is to have for some services.

Where one backend of many changes, only the chains of its frontend are planned and written anew:
the others are the very objects that they were, and compare in no time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from paraglider.config.model import Address, Family
from paraglider.health.service import Service
from paraglider.rules.affinity import ClientSet, client_sets, render_set
from paraglider.rules.checksum import Chains, add_digests, digest_chain, plan_checksummed_pin
from paraglider.rules.markers import PIN_CHAIN, plan_markers
from paraglider.rules.plan import (
    NOBODY,
    local_members,
    plan_frontend,
    plan_hooks,
    plan_shared,
)
from paraglider.rules.policy_rules import (
    NO_FAMILY_POLICY,
    NO_POLICY,
    NO_RETURN_PLAN,
    FamilyPolicy,
    Policy,
    plan_return,
)
from paraglider.rules.restore import lint_restore, plan_restore
from paraglider.rules.return_path import routed_binds
from paraglider.rules.ruleset import Chain, TableName
from paraglider.rules.state import LAST, NOTHING, HookLine, RuleLine, State, TableState
from paraglider.rules.text import render_rule

_NAT, _MANGLE = TableName.NAT, TableName.MANGLE


@dataclass(frozen=True, slots=True)
class _Written:
    """Chains of one table as text, and what their digests add up to."""

    chains: Chains
    digest: int


_NONE = _Written({}, 0)


@dataclass(frozen=True, slots=True)
class _Frontend:
    """What is written for one service alone."""

    service: Service
    outline: tuple[object, ...]
    client_sets: frozenset[ClientSet]
    own: _Written
    markers: Chains


def wanted_hooks(name: TableName, chains: Collection[str]) -> frozenset[HookLine]:
    """Return the jumps that a wanted table with these chains of ours has."""
    return frozenset(
        HookLine(h.builtin, LAST if h.is_last else 1, f"-j {h.chain}")
        for h in plan_hooks(name, chains)
    )


class Planner:
    """Plans states for services that change a little at a time.

    `starts_anywhere` and `local` are as for `plan_rulesets`; `policy` are the host's policy rules.
    """

    def __init__(self, *, randomize_start: bool) -> None:
        self._randomize_start = randomize_start
        self._families: dict[Family, _FamilyPlanner] = {}

    def plan(
        self,
        services: Sequence[Service],
        local: Collection[Address] = NOBODY,
        policy: Policy = NO_POLICY,
    ) -> Mapping[Family, State]:
        """Return the wanted state of each family that `services` use."""
        states = {}
        for family in Family:
            own = [service for service in services if service.family is family]
            if own:
                if family not in self._families:
                    self._families[family] = _FamilyPlanner(randomize_start=self._randomize_start)
                planner = self._families[family]
                states[family] = planner.plan(own, local, policy.get(family, NO_FAMILY_POLICY))
        return MappingProxyType(states)


def plan_states(
    services: Sequence[Service],
    *,
    randomize_start: bool = False,
    local: Collection[Address] = NOBODY,
    policy: Policy = NO_POLICY,
) -> Mapping[Family, State]:
    """Return the wanted state of each family that `services` use."""
    return Planner(randomize_start=randomize_start).plan(services, local, policy)


def render_states(states: Mapping[Family, State]) -> Iterator[tuple[str, str]]:
    """Yield, for each family, a comment that names the program and what it would be given on a host
    that has nothing of ours yet; before it, for sets of clients, the same for ``ipset``.

    Raises RuleSyntaxError at what we would never say.
    """
    for family, state in states.items():
        if state.client_sets:
            lines = (f"{render_set(found, family)}\n" for found in sorted(state.client_sets))
            yield "# ipset restore", "".join(lines)
        program = "iptables-restore" if family is Family.IPV4 else "ip6tables-restore"
        text = plan_restore(NOTHING, state)
        lint_restore(text)
        yield f"# {program} --noflush", text


class _FamilyPlanner:
    def __init__(self, *, randomize_start: bool) -> None:
        self._randomize_start = randomize_start
        self._frontends: dict[int, _Frontend] = {}
        self._outlines: tuple[tuple[object, ...], ...] = ()
        self._shared: dict[TableName, _Written] = {}
        self._policy = NO_FAMILY_POLICY
        self._return = NO_RETURN_PLAN

    def plan(
        self,
        services: Sequence[Service],
        local: Collection[Address],
        policy: FamilyPolicy,
    ) -> State:
        # By identity: who decides returns the same object for what has not changed.
        old = self._frontends
        self._frontends = {
            id(s): old.get(id(s)) or _write_frontend(s, randomize_start=self._randomize_start)
            for s in services
        }
        outlines = tuple(
            (*frontend.outline, local_members(frontend.service, local))
            for frontend in self._frontends.values()
        )
        if outlines != self._outlines or policy != self._policy:
            self._outlines, self._policy = outlines, policy
            self._return = plan_return(routed_binds(services), policy)
            planned = plan_shared(services, local, self._return.marks).items()
            self._shared = {name: _write(name, chains) for name, chains in planned}
        return self._assemble()

    def _assemble(self) -> State:
        frontends = self._frontends.values()
        shared = {name: written.chains for name, written in self._shared.items()}
        nat = dict(shared[_NAT])
        for frontend in frontends:
            nat |= frontend.own.chains
        marking = {c: rules for c, rules in shared[_MANGLE].items() if c != PIN_CHAIN}
        markers = _join_notes(frontend.markers for frontend in frontends)
        digest = add_digests(
            [written.digest for name, written in self._shared.items() if name is not _MANGLE]
            + [digest_chain(_MANGLE, chain, rules) for chain, rules in marking.items()]
            + [frontend.own.digest for frontend in frontends]
            + [digest_chain(_MANGLE, chain, rules) for chain, rules in markers.items()]
        )
        shared[_MANGLE] = {**marking, **markers, PIN_CHAIN: plan_checksummed_pin(digest)}
        shared[_NAT] = nat
        return State(
            {
                name: TableState(chains, wanted_hooks(name, chains))
                for name, chains in shared.items()
            },
            client_sets=frozenset().union(*(frontend.client_sets for frontend in frontends)),
            policy_rules=self._return.rules,
        )


def _write_frontend(service: Service, *, randomize_start: bool) -> _Frontend:
    own = _write(_NAT, plan_frontend(service, randomize_start=randomize_start))
    markers = _write(_MANGLE, plan_markers([service]))
    return _Frontend(service, _outline(service), client_sets(service), own, markers.chains)


def _outline(service: Service) -> tuple[object, ...]:
    """Return all that `plan_shared` looks at."""
    addresses: dict[Address, None] = {member.backend.address: None for member in service.members}
    return (
        service.name,
        service.binds,
        service.source,
        service.access,
        service.is_leaving,
        service.is_policy_routed,
        bool(service.serving),
        tuple(addresses),
    )


def _write(name: TableName, chains: Iterable[Chain]) -> _Written:
    found = {chain.name: tuple(RuleLine(render_rule(r)) for r in chain.rules) for chain in chains}
    digests = (digest_chain(name, chain, rules) for chain, rules in found.items())
    return _Written(found, add_digests(digests)) if found else _NONE


def _join_notes(markers: Iterable[Chains]) -> dict[str, tuple[RuleLine, ...]]:
    joined: dict[str, tuple[RuleLine, ...]] = {}
    for chains in markers:
        for chain, rules in chains.items():
            joined[chain] = (*joined.get(chain, ()), *rules)
    return joined
