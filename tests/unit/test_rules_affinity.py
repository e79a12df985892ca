"""Affinity: whom a client comes back to, by packets that walk the planned rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from paraglider.config.model import Balance, Endpoint, Family, Protocol
from paraglider.health.service import Health, Member, Service, Share
from paraglider.rules.affinity import ClientSet, client_sets, render_set
from paraglider.rules.decode import decode_states
from paraglider.rules.parse import RuleSyntaxError, parse_rule
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.restore import differing
from paraglider.rules.ruleset import TableName
from paraglider.rules.state import Counters, State
from paraglider.rules.wanted import plan_states
from tests.services import bind_at, service_of
from tests.walker import Packet, Walker

_BIND = Endpoint(ip_address("192.0.2.10"), 80)
_PRIVATEIP = ip_address("10.0.0.4")


def _backends(count: int) -> list[Endpoint]:
    return [Endpoint(_PRIVATEIP + 7 + n, 8080) for n in range(count)]


def _service(backends: list[Endpoint], out: tuple[Endpoint, ...] = (), **more: object) -> Service:
    members = [Member(b, Health.DOWN if b in out else Health.UP) for b in backends]
    shares = [Share(b) for b in backends if b not in out]
    return service_of("web", _BIND, _PRIVATEIP, members, shares, **{"affinity_s": 10800.0, **more})


class _World:
    """Clients, and a host whose rules change while the kernel's sets stay."""

    def __init__(self) -> None:
        self._clients: dict[str, set[object]] = {}
        self.met = 0

    def connect(self, service: Service, clients: range) -> list[Endpoint]:
        """Return the backend of a new connection of each client."""
        names = {found.name for found in client_sets(service)}
        self._clients = {name: known for name, known in self._clients.items() if name in names}
        (ruleset,) = plan_rulesets([service], randomize_start=True)
        walker = Walker(ruleset, local=[], clients=self._clients)  # type: ignore[arg-type]
        self._clients = walker.clients  # type: ignore[assignment]
        first = ip_address("203.0.113.0")
        found = []
        for number in clients:
            packet = Packet(Endpoint(first + number, 51000), _BIND)
            before = walker.met
            found.append(walker.send(packet).packet.destination)
            self.met = max(self.met, walker.met - before)
        return found


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11, 40, 101])
@pytest.mark.parametrize("balance", Balance)
def test_clients_come_back_to_the_backend_that_they_had(size: int, balance: Balance) -> None:
    """Whoever else comes meanwhile, in whichever order, and however many backends."""
    backends, dependencies = _backends(size), _World()
    home = tuple(Share(backend) for backend in backends)
    service = _service(backends, balance=balance, home=home)
    first = dependencies.connect(service, range(200))
    dependencies.connect(service, range(200, 233))
    assert dependencies.connect(service, range(199, -1, -1)) == first[::-1]
    if balance is Balance.ROUND_ROBIN:
        counts = Counter(first).values()
        assert max(counts) - min(counts) <= 1  # new clients are spread as ever


@pytest.mark.parametrize("size", [3, 30])
def test_who_is_down_gets_none_and_keeps_those_who_did_not_come(size: int) -> None:
    """Its clients go elsewhere; those who came stay there when it is back, the others return."""
    backends, dependencies = _backends(size), _World()
    gone = backends[1]
    before = dependencies.connect(_service(backends), range(120))
    his = [n for n in range(120) if before[n] == gone]
    moved = dependencies.connect(_service(backends, out=(gone,)), range(60))
    assert gone not in moved
    assert {n for n in range(60) if moved[n] != before[n]} == {n for n in his if n < 60}
    assert dependencies.connect(_service(backends), range(120)) == moved + before[60:]


@pytest.mark.parametrize(("before", "after"), [(3, 4), (4, 3), (20, 21), (21, 20)])
def test_another_file_moves_nobody_whose_backend_stays(before: int, after: int) -> None:
    """In another order, with one more or one less."""
    dependencies = _World()
    first = dependencies.connect(_service(_backends(before)), range(100))
    other = _backends(after)[::-1]
    found = dependencies.connect(_service(other), range(100))
    assert {n for n in range(100) if found[n] != first[n]} == {
        n for n in range(100) if first[n] not in other
    }


def test_crossing_to_eleven_backends_spreads_all_once_more_and_leaves_nobody_in_two_sets() -> None:
    """And back: each backend has as many as ever, and whoever was spread stays."""
    dependencies = _World()
    for size in (10, 11, 10, 11):
        service = _service(_backends(size))
        found = dependencies.connect(service, range(330))
        counts = Counter(found).values()
        assert max(counts) - min(counts) <= 1
        assert dependencies.connect(service, range(330)) == found


@pytest.mark.parametrize("size", [10, 100])
def test_one_that_goes_down_changes_few_chains(size: int) -> None:
    """Not those of all backends behind it in the file: what is left as it was is not written."""
    backends = _backends(size)

    def changed(affinity_s: float) -> int:
        whole, less = (
            plan_states([_service(backends, out, affinity_s=affinity_s)])[Family.IPV4].table(
                TableName.NAT
            )
            for out in ((), (backends[0],))
        )
        return len(differing(whole, less)[0])

    assert changed(60.0) <= changed(0.0) + 1


def test_a_known_client_meets_few_rules_of_many() -> None:
    """Of a hundred backends and more: not one rule for each."""
    dependencies, service = _World(), _service(_backends(160))
    dependencies.connect(service, range(320))
    dependencies.met = 0
    dependencies.connect(service, range(320))
    assert dependencies.met <= 50


def test_both_protocols_lead_a_client_to_the_same_backend() -> None:
    """One set has the clients of both."""
    backends = _backends(3)
    binds = (bind_at(_BIND), bind_at(_BIND, Protocol.UDP))
    service = replace(_service(backends), binds=binds)
    (ruleset,) = plan_rulesets([service])
    walker = Walker(ruleset, local=[])
    for number in range(12):
        client = Endpoint(ip_address("203.0.113.9") + number, 51000)
        over_tcp = walker.send(Packet(client, _BIND)).packet.destination
        over_udp = walker.send(Packet(client, _BIND, protocol=Protocol.UDP)).packet.destination
        assert over_tcp == over_udp


@pytest.mark.parametrize("name", ["a", "x" * 15])
@pytest.mark.parametrize("size", [10, 1000])
def test_sets_have_names_that_the_kernel_has_room_for(name: str, size: int) -> None:
    """31 characters; each rule that speaks of one reads back, and speaks of none but these."""
    service = replace(_service(_backends(size)), name=name)
    (ruleset,) = plan_rulesets([service])
    rules = [rule for chain in ruleset.table(TableName.NAT).chains for rule in chain.rules]
    spoken = {rule.client_set for rule in rules if rule.client_set}
    spoken |= {getattr(rule.target, "client_set", "") for rule in rules} - {""}
    assert spoken == {found.name for found in client_sets(service)}
    assert client_sets(service) == plan_states([service])[Family.IPV4].client_sets
    assert max(map(len, spoken)) <= 31
    chains = [chain.name for chain in ruleset.table(TableName.NAT).chains]
    assert len(set(chains)) == len(chains)


def test_sets_stay_while_nobody_serves_and_go_with_the_frontend() -> None:
    """An outage of all forgets nobody."""
    backends = _backends(3)
    whole = client_sets(_service(backends))
    assert len(whole) == 3
    assert client_sets(_service(backends, out=tuple(backends))) == whole
    assert client_sets(_service(backends, is_leaving=True)) == frozenset()
    assert client_sets(_service(backends, affinity_s=0.0)) == frozenset()


def test_a_backend_that_left_the_file_has_no_set() -> None:
    """It may have connections; new ones it will not have."""
    service = _service(_backends(3))
    left = Member(_backends(4)[3], Health.DRAINING, is_leaving=True)
    leaving = replace(service, members=(*service.members, left))
    assert client_sets(leaving) == client_sets(service)


@pytest.mark.parametrize("affinity_s", [0.0, 60.0])
@pytest.mark.parametrize("balance", [Balance.ROUND_ROBIN, Balance.SOURCE_HASH])
@pytest.mark.parametrize("size", [3, 30])
def test_live_rules_tell_who_serves_and_count_each_connection_once(
    size: int, balance: Balance, affinity_s: float
) -> None:
    """Though several rules lead to the chain that has the counter."""
    home = tuple(map(Share, _backends(size)))
    service = _service(_backends(size), balance=balance, home=home, affinity_s=affinity_s)
    states = {family: _counted(state) for family, state in plan_states([service]).items()}
    described = decode_states(states)
    assert described.is_whole
    assert {s.backend for s in described.services[0].serving} == set(_backends(size))
    if balance is Balance.ROUND_ROBIN:
        assert set(described.services[0].serving) == set(service.serving)
    assert described.connections == {(service.bind, b): 7 for b in _backends(size)}


def _counted(state: State) -> State:
    """Return a state whose rules have each met seven packets."""
    counters = Counters(7, 420)
    tables = {
        name: replace(
            table,
            chains={
                chain: tuple(replace(rule, counters=counters) for rule in rules)
                for chain, rules in table.chains.items()
            },
        )
        for name, table in state.tables.items()
    }
    return replace(state, tables=tables)


def test_a_set_of_ipv6_is_one() -> None:
    """The line that ipset is given."""
    line = render_set(ClientSet("X", 4096, 7), Family.IPV6)
    assert line == "create X hash:ip family inet6 hashsize 4096 maxelem 7 timeout 600 forceadd"


@pytest.mark.parametrize(
    "text",
    [
        "-m set --match-set PARAGLIDER-web src -j ACCEPT",
        "-m set --match-set other src -j ACCEPT",
        "-m set --match-set PARAGLIDER-webKq3Zx dst -j ACCEPT",
        "-j SET --add-set PARAGLIDER-webKq3Zx src",
        "-j SET --add-set PARAGLIDER-webKq3Zx dst --exist --timeout 5",
        "-j SET --del-set other src",
        "-j SET --map-set PARAGLIDER-webKq3Zx src",
    ],
)
def test_a_rule_with_a_set_that_is_not_as_ours_is_a_strangers(text: str) -> None:
    """It is outside of the grammar."""
    with pytest.raises(RuleSyntaxError):
        parse_rule(text)
