"""Each configuration of cases/ gives the rules beside it, and a packet ends where it should."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from random import Random

import pytest

from paraglider.config.model import Balance, Endpoint, Family
from paraglider.health.service import FULL, Service, Share
from paraglider.rules.describe import describe_states
from paraglider.rules.notes import NOTE_CHAINS, PIN_CHAIN
from paraglider.rules.ruleset import Jump
from paraglider.rules.state import State, parse_save
from paraglider.rules.turns import plan_cycle
from tests.golden.case_files import GoldenCase, golden_cases
from tests.walker import Packet, Walker

CASES = golden_cases()

_CLIENT = {
    Family.IPV4: Endpoint(ip_address("203.0.113.9"), 51000),
    Family.IPV6: Endpoint(ip_address("2001:db8:ffff::9"), 51000),
}


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
            assert led_to == names - {PIN_CHAIN, *NOTE_CHAINS.values()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_rendered_reads_back_as_the_same_state(case: GoldenCase) -> None:
    """The restore input, written as iptables-save would print it, parses to what was planned."""
    for state in case.states().values():
        assert parse_save("\n".join(_as_saved(state))) == state


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_connections_go_to_the_backends_in_turn_as_the_privateip(case: GoldenCase) -> None:
    """Of 60 rounds of connections each backend gets its turns of a round, equals in the order of
    the file, and sees privateip; at random, it gets some; where none serves, each connection is
    refused. (Slow ones never have the luck.)"""
    for service in case.services():
        serving = [s for s in service.serving if s.percent == FULL]
        turns = [serving[n].backend for n in plan_cycle([s.weight for s in serving])]
        walker = _walker(case, service)
        if service.balance is Balance.RANDOM:
            walker.random = Random(7).random
        outcomes = [
            walker.send(Packet(_client(service, n), service.bind))
            for n in range(60 * max(1, len(turns)))
        ]
        if not serving:
            assert {outcome.verdict for outcome in outcomes} == {"RESET"}
            continue
        found = [outcome.packet.destination for outcome in outcomes]
        if service.balance is Balance.ROUND_ROBIN:
            assert found == turns * 60
        assert set(found) == set(turns)
        assert {outcome.packet.source.address for outcome in outcomes} == {service.privateip}
        assert {outcome.verdict for outcome in outcomes} == {"ACCEPT"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_later_packets_of_a_connection_pass_both_ways(case: GoldenCase) -> None:
    """With a FORWARD policy of DROP, what conntrack has translated is let through."""
    for service in case.services():
        client, backend = _CLIENT[service.family], service.members[0].backend
        there = Packet(client, backend, is_syn=False, is_translated=True, original=service.bind)
        back = Packet(backend, client, is_syn=False, is_translated=True, original=service.bind)
        walker = _walker(case, service)
        assert [walker.send(there).verdict, walker.send(back).verdict] == ["ACCEPT", "ACCEPT"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_routers_say_of_a_connection_passes_both_ways(case: GoldenCase) -> None:
    """An ICMP error about a balanced connection passes where FORWARD drops, from either side."""
    for service in case.services():
        client, backend = _CLIENT[service.family], service.members[0].backend
        walker = _walker(case, service)
        for source, destination in [(client, backend), (backend, client)]:
            packet = Packet(
                source,
                destination,
                is_syn=False,
                is_error=True,
                is_translated=True,
                original=service.bind,
            )
            assert walker.send(packet).verdict == "ACCEPT"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_untranslated_packets_are_dropped_and_not_answered(case: GoldenCase) -> None:
    """Neither a client's packet that conntrack lost, nor a backend's INVALID one, reaches the
    host's own stack, which would reset the connection."""
    for service in case.services():
        client, own = _CLIENT[service.family], Endpoint(service.privateip, 40000)
        lost = Packet(client, service.bind, is_syn=False)
        strays = [Packet(m.backend, own, is_syn=False, is_invalid=True) for m in service.members]
        walker = _walker(case, service)
        assert {walker.send(packet).verdict for packet in [lost, *strays]} == {"DROP"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_traffic_that_is_not_balanced_is_left_alone(case: GoldenCase) -> None:
    """A packet for another port of the bind, one of the host's own connections to a backend, and a
    client's straight to a backend: none is translated or judged by our rules."""
    for service in case.services():
        client, backend = _CLIENT[service.family], service.members[0].backend
        own = Endpoint(service.privateip, 40000)
        walker = _walker(case, service)
        other_port = walker.send(Packet(client, Endpoint(service.bind.address, 9)))
        assert other_port.packet.destination == Endpoint(service.bind.address, 9)
        assert other_port.verdict == "ACCEPT"
        answer = walker.send(Packet(backend, own, is_syn=False, original=backend))
        assert answer.verdict == "ACCEPT"
        straight = walker.send(Packet(client, backend))
        assert straight.verdict == "DROP"  # the host's policy, untouched
        assert straight.packet.source == client


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_live_rules_tell_who_gets_connections_and_why_the_others_do_not(case: GoldenCase) -> None:
    """What `status` reads from the kernel, and an agent adopts, is what was planned."""
    description = describe_states(case.states())
    assert description.is_whole
    told = {s.name: s for s in description.services}
    for wanted in case.services():
        found = told.pop(wanted.name)
        assert {m for m in found.members if m.until_s} == {m for m in wanted.members if m.until_s}
        if wanted.home:  # clients of those that are down are not spread evenly
            assert {s.backend for s in found.serving} == {s.backend for s in wanted.serving}
        else:
            assert set(found.serving) == set(_in_percent(wanted.serving))
    assert told == {}


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


def _walker(case: GoldenCase, service: Service) -> Walker:
    ruleset = next(r for r in case.rulesets() if r.family is service.family)
    return Walker(ruleset, local=[str(service.bind.address), str(service.privateip)])


def _client(service: Service, number: int) -> Endpoint:
    """Return one of many clients; the first is that of the other tests."""
    first = _CLIENT[service.family]
    return Endpoint(ip_address(int(first.address) + number), first.port)


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
