"""Properties that hold for every configuration, whatever is in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.model import Endpoint, Family, HashKey, Ports, Protocol
from paraglider.health.service import Health, Member, Service, Share, backend_addresses
from paraglider.rules.checksum import without_checksum
from paraglider.rules.decode import decode_states
from paraglider.rules.parse import parse_rule
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.restore import lint_restore, plan_restore
from paraglider.rules.ruleset import (
    ALL_BITS,
    CERTAIN,
    Chance,
    CtState,
    Dnat,
    Hmark,
    Jump,
    Mark,
    Marking,
    Note,
    Nth,
    Recent,
    Rule,
    Snat,
    TcpReset,
    Verdict,
    own_chain,
)
from paraglider.rules.state import NOTHING
from paraglider.rules.text import render_rule
from paraglider.rules.wanted import Planner, plan_states
from tests.services import privateip_of, service_of
from tests.walker import Packet, Walker

_ports = st.integers(1, 65535)
_port_ranges = st.tuples(_ports, _ports).map(lambda ends: Ports(min(ends), max(ends)))
_mark_names = st.from_regex(r"paraglider-[0-9a-f]{16}", fullmatch=True)
_recents = st.builds(Recent, _mark_names, st.sampled_from(Family), st.booleans())
_words = st.integers(0, ALL_BITS)
_marks = st.builds(Mark, _words, _words, st.booleans())
_numbers = st.from_regex(r"[0-9]{1,12}", fullmatch=True)
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
    st.sampled_from(Marking),
    st.builds(Hmark, st.sampled_from(Family), st.sampled_from(HashKey), _ports, st.integers(0, 9)),
)


_statistics = st.one_of(
    st.builds(Nth, st.integers(1, 1000), st.integers(0, 999)),
    st.builds(Chance, st.integers(1, CERTAIN - 1)),
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """A rule of our grammar."""
    protocol = draw(st.none() | st.sampled_from(Protocol))
    ports = st.none() | _port_ranges if protocol else st.none()
    return draw(
        st.builds(
            Rule,
            source=st.none() | _addresses,
            destination=st.none() | _addresses,
            protocol=st.just(protocol),
            source_ports=ports,
            destination_ports=ports,
            ct_state=st.none() | st.sampled_from(CtState),
            ct_protocol=st.none() | st.sampled_from(Protocol),
            ct_address=st.none() | _addresses,
            ct_ports=st.none() | _port_ranges,
            statistic=st.none() | _statistics,
            recent=st.none()
            | st.builds(Recent, _mark_names, st.sampled_from(Family), st.booleans()),
            mark=st.none() | _marks,
            note=st.none() | st.builds(Note, st.just("until"), _numbers),
            target=_targets,
        )
    )


@st.composite
def services(draw: st.DrawFn) -> tuple[Service, ...]:
    """One to six frontends, each with members in any state of which any serve."""
    found = []
    for index, name in enumerate(draw(st.lists(_names, min_size=1, max_size=6, unique=True))):
        version = draw(st.sampled_from([4, 6]))
        backends = draw(st.lists(_endpoints(version), min_size=1, max_size=30, unique=True))
        members = tuple(
            Member(b, draw(st.sampled_from(Health)), draw(st.none() | st.integers(0, 2**31)))
            for b in backends
        )
        noted = (Health.DRAINING, Health.DOWN, Health.DISABLED)
        members = tuple(m if m.health in noted else Member(m.backend) for m in members)
        able = [m.backend for m in members if m.health is Health.UNKNOWN]
        percents = st.just(100) | st.integers(1, 100)
        weight = draw(st.sampled_from([1, 3]))
        shares = [Share(b, weight, draw(percents)) for b in able if draw(st.integers(0, 5))]
        if shares and all(share.percent < 100 for share in shares):
            shares[-1] = Share(shares[-1].backend, weight)
        bind = Endpoint(ip_address("192.0.2.1" if version == 4 else "2001:db8::1"), 1000 + index)
        privateip = draw(_ADDRESSES[version])
        found.append(service_of(name, bind, privateip, members, shares))
    return tuple(found)


@given(rules())
def test_a_rule_reads_back_as_it_was_written(rule: Rule) -> None:
    """parse(render(x)) == x."""
    assert parse_rule(render_rule(rule)) == rule


@given(services())
@settings(max_examples=25)
def test_all_services_plan_rules_of_our_grammar(wanted: tuple[Service, ...]) -> None:
    """What would be given to iptables-restore passes the last door, going up and going down."""
    for state in plan_states(wanted).values():
        lint_restore(plan_restore(NOTHING, state))
        lint_restore(plan_restore(state, NOTHING))


@given(services(), services())
@settings(max_examples=25)
def test_the_way_between_any_two_passes_the_last_door(
    a: tuple[Service, ...], b: tuple[Service, ...]
) -> None:
    """A reload says nothing but our grammar, and a second one has nothing to say."""
    after = plan_states(b)
    for family, before in plan_states(a).items():
        wanted = after.get(family, NOTHING)
        lint_restore(plan_restore(before, wanted))
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
            client = Endpoint(privateip_of(service), 50000)
            count = 5 * len(service.serving)
            outcomes = [walker.send(Packet(client, service.bind.endpoint)) for _ in range(count)]
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
    description = decode_states(plan_states(wanted))
    reason = {s.bind: (s.name, s.source, set(s.serving)) for s in description.services}
    by_part = [(s, {Share(share.backend, 1, share.percent) for share in s.serving}) for s in wanted]
    assert reason == {s.bind: (s.name, s.source, serving) for s, serving in by_part}
    noted = {(s.bind, m) for s in description.services for m in s.members if m.health != "unknown"}
    assert noted == {(s.bind, m) for s in wanted for m in s.members if m.health != "unknown"}
    assert description.is_whole


@given(services(), st.data())
@settings(max_examples=50)
def test_a_change_is_planned_as_if_from_scratch(
    before: tuple[Service, ...], data: st.DataObject
) -> None:
    """Whatever a planner was asked before, however few services are new to it and whoever of the
    backends is on the host: it plans what one does that knows nothing; and that is what
    `plan_rulesets` says, with a seal."""
    planner = Planner(randomize_start=False)
    planner.plan(before)
    after = tuple(s for s in before if data.draw(st.booleans())) + data.draw(services())
    after = tuple({s.name: s for s in after}.values())
    local = {a for a in sorted(backend_addresses(after), key=str) if data.draw(st.booleans())}
    planned = planner.plan(after, local)
    assert planned == plan_states(after, local=local)
    assert decode_states(planned).is_whole is bool(after)
    for ruleset in plan_rulesets(after, local=local):
        for table in ruleset.tables:
            rules = planned[ruleset.family].table(table.name).chains
            reason = {c.name: [render_rule(rule) for rule in c.rules] for c in table.chains}
            assert reason == {
                c: [without_checksum(r.text) for r in found] for c, found in rules.items()
            }


@given(services())
@settings(max_examples=25)
def test_any_missing_rule_breaks_the_seal(wanted: tuple[Service, ...]) -> None:
    """Rules of which one was taken away, from whatever chain, are not whole."""
    states = plan_states(wanted)
    for family, state in states.items():
        for name, table in state.tables.items():
            for chain, rules in table.chains.items():
                if not rules:
                    continue
                fewer = replace(table, chains={**table.chains, chain: rules[1:]})
                damaged = replace(state, tables={**state.tables, name: fewer})
                assert not decode_states({**states, family: damaged}).is_whole
