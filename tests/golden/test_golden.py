"""Each configuration of cases/ gives the rules beside it, and a packet ends where it should."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest

from paraglider.config.clients import SourceKind
from paraglider.config.model import Balance, Endpoint
from paraglider.health.service import FULL, Member, Share
from paraglider.rules.decode import decode_states
from paraglider.rules.markers import MARKER_CHAINS, PIN_CHAIN
from paraglider.rules.ruleset import Jump
from paraglider.rules.state import State, parse_save
from paraglider.rules.weighted_round_robin import plan_cycle
from tests.golden.case_files import GoldenCase, golden_cases
from tests.golden.ways import Way, ways_of
from tests.walker import Packet

CASES = golden_cases()
WAYS = [way for case in CASES for way in ways_of(case)]
_LOCAL_WAYS = [
    way
    for way in WAYS
    if any(share.backend.address in way.case.local for share in way.service.serving)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_configuration_gives_the_rules_beside_it(case: GoldenCase) -> None:
    """What iptables-restore would be given is the golden file, byte for byte."""
    if os.environ.get("GOLDEN") == "write":
        case.rules_path.write_text(case.rendered())
    assert case.rendered() == case.rules_path.read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_jump_has_a_target(case: GoldenCase) -> None:
    """No rule leads to a chain that is not there, and no chain but the pin and the notes is led to
    by none."""
    for ruleset in case.rulesets():
        for table in ruleset.tables:
            names = {chain.name for chain in table.chains}
            rules = [rule for chain in table.chains for rule in chain.rules]
            jumps = {rule.target.chain for rule in rules if isinstance(rule.target, Jump)}
            led_to = jumps | {hook.chain for hook in table.hooks}
            assert led_to == names - {PIN_CHAIN, *MARKER_CHAINS.values()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_rendered_reads_back_as_the_same_state(case: GoldenCase) -> None:
    """The restore input, written as iptables-save would print it, parses to what was planned."""
    for state in case.states().values():
        assert parse_save("\n".join(_as_saved(state))) == state


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_connections_go_to_the_backends_in_turn_as_the_privateip(way: Way) -> None:
    """Of 60 rounds of connections each backend gets its turns of a round, equals in the order of
    the file, and sees whom it should; at random, it gets some; where none serves, each connection
    is refused. (Slow ones never have the luck.)"""
    service, walker = way.service, way.walker()
    serving = [s for s in service.serving if s.percent == FULL]
    turns = [way.lands_at(serving[n].backend) for n in plan_cycle([s.weight for s in serving])]
    if service.balance is Balance.RANDOM or len(way.sources) > 1:
        walker.random = Random(7).random
    clients = [way.client(n) for n in range(60 * max(1, len(turns)))]
    outcomes = [walker.send(way.packet(client, way.to)) for client in clients]
    if not serving:
        assert {outcome.verdict for outcome in outcomes} == {"RESET"}
        return
    found = [outcome.packet.destination for outcome in outcomes]
    if service.balance is Balance.ROUND_ROBIN:
        assert found == turns * 60
    assert set(found) == set(turns)
    seen = {outcome.packet.source.address for outcome in outcomes}
    is_kept = service.source.kind is SourceKind.KEEP
    assert seen == ({client.address for client in clients} if is_kept else set(way.sources))
    assert {outcome.verdict for outcome in outcomes} == {"ACCEPT"}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_later_packets_of_a_connection_pass_both_ways(way: Way) -> None:
    """With a FORWARD policy of DROP, what conntrack has translated is let through."""
    assert [way.walker().send(packet).verdict for packet in _later(way)] == ["ACCEPT", "ACCEPT"]


@pytest.mark.parametrize("way", _LOCAL_WAYS, ids=str)
def test_a_backend_on_this_host_is_reached_where_input_drops(way: Way) -> None:
    """By balanced connections, errors about them among these, and by nothing else."""
    walker = way.walker()
    walker.input_policy = "DROP"
    here = [s.backend for s in way.service.serving if s.backend.address in way.case.local]
    sent = [walker.send(way.packet(way.client(n), way.to)) for n in range(2 * len(here))]
    assert {outcome.verdict for outcome in sent} == {"ACCEPT"}
    assert {outcome.packet.destination for outcome in sent} >= set(map(way.lands_at, here))
    there, _ = _later(replace(way, service=replace(way.service, members=(Member(here[0]),))))
    assert walker.send(there).verdict == "ACCEPT"
    assert walker.send(replace(there, is_error=True)).verdict == "ACCEPT"
    assert walker.send(way.packet(way.client(), way.lands_at(here[0]))).verdict == "DROP"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_routers_say_of_a_connection_passes_both_ways(way: Way) -> None:
    """An ICMP error about a balanced connection passes where FORWARD drops, from either side."""
    errors = [replace(packet, is_error=True) for packet in _later(way)]
    assert [way.walker().send(packet).verdict for packet in errors] == ["ACCEPT", "ACCEPT"]


def _later(way: Way) -> list[Packet]:
    """Return a packet of the client's, and one of its backend's."""
    client, backend = way.client(), way.lands_at(way.service.members[0].backend)
    there = way.packet(client, backend, is_syn=False, is_translated=True, original=way.to)
    return [there, replace(there, source=backend, destination=client, interface="")]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_untranslated_packets_are_dropped_and_not_answered(way: Way) -> None:
    """Neither a client's packet that conntrack lost, nor a backend's INVALID one of TCP, reaches
    the host's own stack, which would reset the connection."""
    own = Endpoint(way.sources[0], 40000)
    backends = [way.lands_at(m.backend) for m in way.service.members]
    lost = way.packet(way.client(), way.to, is_syn=False)
    strays = [Packet(backend, own, is_syn=False, is_invalid=True) for backend in backends]
    assert {way.walker().send(packet).verdict for packet in [lost, *strays]} == {"DROP"}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_traffic_that_is_not_balanced_is_left_alone(way: Way) -> None:
    """A packet for another port of the bind, one of the host's own connections to a backend, and a
    client's straight to a backend: none is translated or judged by our rules."""
    client, backend = way.client(), way.lands_at(way.service.members[0].backend)
    walker, elsewhere = way.walker(), Endpoint(way.to.address, 9)
    other_port = walker.send(way.packet(client, elsewhere))
    assert (other_port.packet.destination, other_port.verdict) == (elsewhere, "ACCEPT")
    own = Endpoint(way.sources[0], 40000)
    answer = way.packet(backend, own, is_syn=False, original=backend)
    assert walker.send(answer).verdict == "ACCEPT"
    straight = walker.send(way.packet(client, backend))
    # The host's policy, untouched.
    assert straight.verdict == ("ACCEPT" if backend.address in way.case.local else "DROP")
    assert straight.packet.source == client


def test_who_may_not_connect_is_not_translated_and_refused() -> None:
    """One that is denied, one that is not allowed, and an eleventh connection within a minute."""
    (way,) = (way for way in WAYS if way.case.name == "access")
    walker = way.walker()
    for text in ("203.0.113.200", "198.51.100.1"):
        outcome = walker.send(way.packet(Endpoint(ip_address(text), 51000), way.to))
        assert (outcome.verdict, outcome.packet.destination) == ("DROP", way.to)
    verdicts = [walker.send(way.packet(way.client(), way.to)).verdict for _ in range(11)]
    assert verdicts == ["ACCEPT"] * 10 + ["DROP"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_live_rules_tell_who_gets_connections_and_why_the_others_do_not(case: GoldenCase) -> None:
    """What `status` reads from the kernel, and an agent adopts, is what was planned."""
    description = decode_states(case.states())
    assert description.is_whole
    reason = {s.name: s for s in description.services}
    for wanted in case.services():
        found = reason.pop(wanted.name)
        assert sorted(found.binds, key=str) == sorted(wanted.binds, key=str)
        assert found.source == wanted.source
        assert {m for m in found.members if m.until_s} == {m for m in wanted.members if m.until_s}
        if wanted.home:  # clients of those that are down are not spread evenly
            assert {s.backend for s in found.serving} == {s.backend for s in wanted.serving}
        else:
            assert set(found.serving) == set(_in_percent(wanted.serving))
    assert reason == {}


def _in_percent(shares: Sequence[Share]) -> list[Share]:
    """Return the same shares of the largest, as rules tell them: they have no weights."""
    largest = max((share.weight * share.percent for share in shares), default=1)
    return [
        Share(share.backend, 1, max(1, round(FULL * share.weight * share.percent / largest)))
        for share in shares
    ]


def test_rules_stay_as_few_as_the_original_programs() -> None:
    """The seed's sample costs three rules to spread, one to find it, one for the source."""
    seed = next(case for case in CASES if case.name == "seed")
    (ruleset,) = seed.rulesets()
    counts = {t.name.value: sum(len(c.rules) for c in t.chains) for t in ruleset.tables}
    assert counts == {"filter": 6, "mangle": 1, "nat": 5}


def _as_saved(state: State) -> list[str]:
    lines = []
    for name, table in state.tables.items():
        lines.append(f"*{name.value}")
        lines += [f":{chain} - [0:0]" for chain in table.chains]
        lines += [f"-A {hook.chain} {hook.text}" for hook in sorted(table.hooks)]
        for chain, rules in table.chains.items():
            lines += [f"[3:180] -A {chain} {rule.text}" for rule in rules]
        lines.append("COMMIT")
    return lines
