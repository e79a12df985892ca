"""Properties that hold for every configuration, whatever is in it."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.model import Endpoint
from paraglider.health.service import Health, Member, Service, Share
from paraglider.rules.describe import describe_states
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.restore import lint_restore, plan_restore
from paraglider.rules.ruleset import (
    CERTAIN,
    Chance,
    CtState,
    Dnat,
    Jump,
    Nth,
    Rule,
    Snat,
    TcpReset,
    Verdict,
    own_chain,
)
from paraglider.rules.state import NOTHING, state_of_ruleset
from paraglider.rules.text import parse_rule, render_rule
from tests.walker import Packet, Walker

_ports = st.integers(1, 65535)
_addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,14}", fullmatch=True)
_chains = _names.map(own_chain)


_ADDRESSES = {4: st.ip_addresses(v=4), 6: st.ip_addresses(v=6)}


def _endpoints(version: int) -> st.SearchStrategy[Endpoint]:
    return st.builds(Endpoint, _ADDRESSES[version], _ports)


_targets = st.one_of(
    st.sampled_from(Verdict),
    st.builds(Jump, _chains),
    st.builds(Dnat, st.one_of(_endpoints(4), _endpoints(6))),
    st.builds(Snat, _addresses),
    st.just(TcpReset()),
)


_statistics = st.one_of(
    st.builds(Nth, st.integers(1, 1000), st.integers(0, 999)),
    st.builds(Chance, st.integers(1, CERTAIN - 1)),
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """A rule of our grammar."""
    return draw(
        st.builds(
            Rule,
            source=st.none() | _addresses,
            destination=st.none() | _addresses,
            is_tcp=st.booleans(),
            source_port=st.none() | _ports,
            destination_port=st.none() | _ports,
            ct_state=st.none() | st.sampled_from(CtState),
            ct_is_tcp=st.booleans(),
            ct_original=st.none() | _endpoints(4) | _endpoints(6),
            statistic=st.none() | _statistics,
            until_s=st.none() | st.integers(0, 10**12 - 1),
            target=_targets,
        )
    )


@st.composite
def services(draw: st.DrawFn) -> tuple[Service, ...]:
    """One to six frontends, each with members in any state of which any serve."""
    found = []
    for index, name in enumerate(draw(st.lists(_names, min_size=1, max_size=6, unique=True))):
        version = draw(st.sampled_from([4, 6]))
        backends = draw(st.lists(_endpoints(version), min_size=1, max_size=12, unique=True))
        members = tuple(
            Member(b, draw(st.sampled_from(Health)), draw(st.none() | st.integers(0, 2**31)))
            for b in backends
        )
        noted = (Health.DRAINING, Health.DOWN, Health.DISABLED)
        members = tuple(m if m.health in noted else Member(m.backend) for m in members)
        able = [m.backend for m in members if m.health is Health.UNKNOWN]
        percents = st.just(100) | st.integers(1, 100)
        shares = [Share(b, draw(percents)) for b in able if draw(st.integers(0, 5))]
        if shares and all(share.percent < 100 for share in shares):
            shares[-1] = Share(shares[-1].backend)
        bind = Endpoint(ip_address("192.0.2.1" if version == 4 else "2001:db8::1"), 1000 + index)
        privateip = draw(_ADDRESSES[version])
        found.append(Service(name, bind, privateip, members, tuple(shares)))
    return tuple(found)


@given(rules())
def test_a_rule_reads_back_as_it_was_written(rule: Rule) -> None:
    """parse(render(x)) == x."""
    assert parse_rule(render_rule(rule)) == rule


@given(services())
@settings(max_examples=25)
def test_all_services_plan_rules_of_our_grammar(wanted: tuple[Service, ...]) -> None:
    """What would be given to iptables-restore passes the last door, going up and going down."""
    for ruleset in plan_rulesets(wanted):
        state = state_of_ruleset(ruleset)
        lint_restore(plan_restore(NOTHING, state))
        lint_restore(plan_restore(state, NOTHING))


@given(services(), services())
@settings(max_examples=25)
def test_the_way_between_any_two_passes_the_last_door(
    a: tuple[Service, ...], b: tuple[Service, ...]
) -> None:
    """A reload says nothing but our grammar, and a second one has nothing to say."""
    after = {r.family: state_of_ruleset(r) for r in plan_rulesets(b)}
    for before in plan_rulesets(a):
        wanted = after.get(before.family, NOTHING)
        lint_restore(plan_restore(state_of_ruleset(before), wanted))
        assert plan_restore(wanted, wanted) == ""


@given(services(), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_those_with_a_full_share_get_the_same(wanted: tuple[Service, ...], random: Random) -> None:
    """Whatever slow ones take at random, the others stay in turn: none is ahead by more than one;
    where there are no slow ones, five rounds give five to each."""
    for ruleset in plan_rulesets(wanted):
        walker = Walker(ruleset, local=[], random=random.random)
        for service in wanted:
            if service.family is not ruleset.family or not service.serving:
                continue
            client = Endpoint(service.privateip, 50000)
            count = 5 * len(service.serving)
            outcomes = [walker.send(Packet(client, service.bind)) for _ in range(count)]
            found = Counter(outcome.packet.destination for outcome in outcomes)
            full = [found[share.backend] for share in service.serving if share.percent == 100]
            assert max(full) - min(full) <= 1
            if len(full) == len(service.serving):
                assert full == [5] * len(full)


@given(services())
@settings(max_examples=100)
def test_live_rules_tell_the_services_that_they_came_from(wanted: tuple[Service, ...]) -> None:
    """Who serves with which share, who does not and why; members that neither serve nor have a
    reason not to (backups) are no longer known."""
    states = {r.family: state_of_ruleset(r) for r in plan_rulesets(wanted)}
    description = describe_states(states)
    told = {s.bind: (s.name, s.privateip, set(s.serving)) for s in description.services}
    assert told == {s.bind: (s.name, s.privateip, set(s.serving)) for s in wanted}
    noted = {(s.bind, m) for s in description.services for m in s.members if m.health != "unknown"}
    assert noted == {(s.bind, m) for s in wanted for m in s.members if m.health != "unknown"}
    assert description.is_whole
