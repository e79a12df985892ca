"""Dispatch: every place is found, nothing else is, and few rules are met on the way."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.model import Endpoint, Family, Ports, Protocol
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.ruleset import (
    Chain,
    Dnat,
    Hook,
    Jump,
    Rule,
    Ruleset,
    Table,
    TableName,
    Target,
    Verdict,
    own_chain,
)
from paraglider.rules.spread import WIDTH
from tests.walker import Packet, Walker

_CLIENT = Endpoint(ip_address("203.0.113.9"), 51000)
_addresses = st.integers(1, 2**32 - 2).map(ip_address) | st.integers(1, 20).map(
    lambda n: ip_address(int(ip_address("192.0.2.0")) + n)
)
_endpoints = st.builds(Endpoint, _addresses, st.integers(1, 65535) | st.integers(8000, 8040))


def _to(area: Area, target: Target) -> Rule:
    return Rule(
        destination=area.network,
        protocol=area.protocol,
        destination_ports=area.ports,
        target=target,
    )


def _walker(places: list[Place]) -> Walker:
    dispatch, name = Dispatch("DNAT"), own_chain("DNAT")
    chains = [Chain(name, tuple(dispatch.rules(places, _to))), *dispatch.chains]
    assert all(len(chain.rules) <= WIDTH for chain in chains)
    nat = Table(TableName.NAT, (Hook("PREROUTING", name),), tuple(chains))
    return Walker(Ruleset(Family.IPV4, (nat,)), local=[], forward_policy="ACCEPT")


def _place(endpoint: Endpoint, target: Target) -> Place:
    return Place(Protocol.TCP, endpoint.address, Ports(endpoint.port, endpoint.port), target)


@given(st.lists(_endpoints, min_size=1, max_size=150, unique=True), st.lists(_endpoints))
@settings(max_examples=60, deadline=None)
def test_every_place_is_found_and_nothing_else(
    binds: list[Endpoint], others: list[Endpoint]
) -> None:
    """Whatever addresses and ports there are: a packet to a place meets that place's rule, one to
    another port or address comes back from the tree."""
    walker = _walker([_place(b, Dnat(Endpoint(b.address, b.port % 65535 + 1))) for b in binds])
    for bind in binds:
        found = walker.send(Packet(_CLIENT, bind)).packet
        assert found.destination == Endpoint(bind.address, bind.port % 65535 + 1)
    for other in set(others) - set(binds):
        assert walker.send(Packet(_CLIENT, other)).packet.destination == other


def test_a_packet_meets_few_rules_of_a_thousand() -> None:
    """By port on one address: three chains of ten; by address on one port: four."""
    first = int(ip_address("10.1.0.0"))
    by_port = [Endpoint(ip_address(first), 8000 + 2 * n) for n in range(1000)]
    by_address = [Endpoint(ip_address(first + 3 * n), 80) for n in range(1000)]
    for binds, most in ((by_port, 3 * WIDTH), (by_address, 4 * WIDTH)):
        walker = _walker([_place(b, Dnat(Endpoint(b.address, 9))) for b in binds])
        for bind in binds:
            before = walker.met
            walker.send(Packet(_CLIENT, bind))
            assert walker.met - before <= most


def test_no_choice_of_addresses_makes_a_tree_deeper_than_the_kernel_follows() -> None:
    """Nor loses a place."""
    binds = [
        Endpoint(ip_address((0xFD << 120) + (1 << n)), port)
        for n in range(115)
        for port in (80, 81)
    ]
    places = [_place(b, Dnat(Endpoint(b.address, 9))) for b in binds]
    dispatch, name = Dispatch("DNAT"), own_chain("DNAT")
    first = Chain(name, tuple(dispatch.rules(places, _to)))
    below = {chain.name: chain for chain in dispatch.chains}

    def depth(chain: Chain) -> int:
        targets = [rule.target.chain for rule in chain.rules if isinstance(rule.target, Jump)]
        return 1 + max((depth(below[target]) for target in targets), default=0)

    assert depth(first) <= 9
    walker = _walker(places)
    for bind in binds:
        assert walker.send(Packet(_CLIENT, bind)).packet.destination.port == 9


def test_ports_that_join_are_one_rule() -> None:
    """Where the same becomes of them, and none is to stay apart."""
    binds = [Endpoint(ip_address("192.0.2.10"), port) for port in (80, 81, 82, 84)]
    dispatch = Dispatch("INPUT")
    rules = dispatch.rules([_place(bind, Verdict.DROP) for bind in binds], _to)
    assert [rule.destination_ports for rule in rules] == [Ports(80, 82), Ports(84, 84)]
    apart = [_place(binds[0], Verdict.DROP), _place(binds[2], Verdict.DROP)]
    apart.append(Place(Protocol.TCP, binds[1].address, Ports(81, 81), Verdict.DROP, is_apart=True))
    assert len(dispatch.rules(apart, _to)) == 3
