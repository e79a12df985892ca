"""Properties that hold for every configuration, whatever is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.model import Config, Endpoint, Frontend
from paraglider.rules.describe import describe_states
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.restore import lint_restore, plan_restore
from paraglider.rules.ruleset import (
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


@st.composite
def rules(draw: Callable[[st.SearchStrategy[object]], object]) -> Rule:
    """A rule of our grammar; a SYN stands beside a port, as `plan` makes it."""
    rule = draw(
        st.builds(
            Rule,
            source=st.none() | _addresses,
            destination=st.none() | _addresses,
            is_tcp=st.booleans(),
            source_port=st.none() | _ports,
            destination_port=_ports,
            is_syn=st.booleans(),
            ct_state=st.none() | st.sampled_from(CtState),
            ct_is_tcp=st.booleans(),
            ct_original=st.none() | _endpoints(4) | _endpoints(6),
            nth=st.none() | st.builds(Nth, st.integers(1, 1000), st.integers(0, 999)),
            target=_targets,
        )
    )
    assert isinstance(rule, Rule)
    return rule


@st.composite
def configs(draw: Callable[[st.SearchStrategy[object]], object]) -> Config:
    """A valid configuration of one to six frontends."""
    names = draw(st.lists(_names, min_size=1, max_size=6, unique=True))
    assert isinstance(names, list)
    frontends = []
    for index, name in enumerate(names):
        version = draw(st.sampled_from([4, 6]))
        assert isinstance(version, int)
        backends = draw(st.lists(_endpoints(version), min_size=1, max_size=12, unique=True))
        privateip = draw(_ADDRESSES[version])
        assert isinstance(backends, list)
        assert not isinstance(privateip, (str, int))
        bind = Endpoint(ip_address("192.0.2.1" if version == 4 else "2001:db8::1"), 1000 + index)
        frontends.append(Frontend(name, bind, privateip, tuple(backends)))  # type: ignore[arg-type]
    return Config("test", tuple(frontends))


@given(rules())
def test_a_rule_reads_back_as_it_was_written(rule: Rule) -> None:
    """parse(render(x)) == x."""
    assert parse_rule(render_rule(rule)) == rule


@given(configs())
@settings(max_examples=25)
def test_every_configuration_plans_rules_of_our_grammar(config: Config) -> None:
    """What would be given to iptables-restore passes the last door, going up and going down."""
    for ruleset in plan_rulesets(config):
        state = state_of_ruleset(ruleset)
        lint_restore(plan_restore(NOTHING, state))
        lint_restore(plan_restore(state, NOTHING))


@given(configs(), configs())
@settings(max_examples=25)
def test_the_way_between_two_configurations_passes_the_last_door(a: Config, b: Config) -> None:
    """A reload says nothing but our grammar, and a second one has nothing to say."""
    after = {r.family: state_of_ruleset(r) for r in plan_rulesets(b)}
    for before in plan_rulesets(a):
        wanted = after.get(before.family, NOTHING)
        lint_restore(plan_restore(state_of_ruleset(before), wanted))
        assert plan_restore(wanted, wanted) == ""


@given(configs())
@settings(max_examples=25)
def test_shares_add_up_and_are_equal(config: Config) -> None:
    """Of five rounds of connections every backend of a frontend gets five."""
    for ruleset in plan_rulesets(config):
        walker = Walker(ruleset, local=[])
        for frontend in config.frontends:
            if frontend.family is not ruleset.family:
                continue
            client = Endpoint(frontend.privateip, 50000)
            count = 5 * len(frontend.backends)
            outcomes = [walker.send(Packet(client, frontend.bind)) for _ in range(count)]
            found = Counter(outcome.packet.destination for outcome in outcomes)
            assert found == dict.fromkeys(frontend.backends, 5)


@given(configs())
@settings(max_examples=25)
def test_live_rules_tell_the_configuration_that_they_came_from(config: Config) -> None:
    """What `status` reads from the kernel is what the user asked for, and is found whole."""
    states = {r.family: state_of_ruleset(r) for r in plan_rulesets(config)}
    description = describe_states(states)
    assert set(description.frontends) == set(config.frontends)
    assert description.is_whole


def test_the_longest_chain_name_is_the_longest_that_iptables_holds() -> None:
    """28 characters with the prefix are the longest."""
    assert len(own_chain("a" * 17)) == 28


@pytest.mark.parametrize("suffix", ["a" * 18, "", "a b", "a\n", "-a", "ä"])
def test_a_chain_is_never_named_so(suffix: str) -> None:
    """A name with anything else in it does not come out of `own_chain`."""
    with pytest.raises(ValueError, match="not a name for a chain"):
        own_chain(suffix)
