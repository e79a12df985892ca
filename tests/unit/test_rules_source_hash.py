"""Source hash: clients stay where they are, and move as little as can be."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from random import Random

import pytest

from paraglider.config.model import Balance, Endpoint, Family, HashKey
from paraglider.health.service import Member, Share
from paraglider.rules.decode import decode_states
from paraglider.rules.owners import count_slots, plan_owners
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.ruleset import Hmark
from paraglider.rules.wanted import plan_states
from tests.services import service_of
from tests.walker import Packet, Walker, hash_of

_BIND = Endpoint(ip_address("192.0.2.10"), 80)


def _shares(size: int, *, weight: int = 1) -> list[Share]:
    addresses = (ip_address(f"10.0.{n // 200}.{n % 200 + 1}") for n in range(size))
    return [Share(Endpoint(address, 80), weight) for address in addresses]


def _moved(before: list[Endpoint], after: list[Endpoint]) -> float:
    """Return the part of all slots whose owner is another."""
    return sum(a != b for a, b in zip(before, after, strict=True)) / len(before)


@pytest.mark.parametrize("size", [2, 3, 5, 10, 11, 16, 30, 50, 77, 101, 150])
def test_one_more_or_less_moves_a_share_and_three_percent(size: int) -> None:
    """Whichever it is."""
    home = _shares(size + 1)
    whole = plan_owners(home, home)
    for gone in (0, size // 2, size):
        fewer = [share for n, share in enumerate(home) if n != gone]
        assert _moved(whole, plan_owners(fewer, fewer)) <= 1 / (size + 1) + 0.03


@pytest.mark.parametrize("size", [2, 10, 100, 256])
def test_slots_are_shared_out_to_five_percent(size: int) -> None:
    """Equal backends have as many, but for the rest of a division."""
    home = _shares(size)
    counts = Counter(plan_owners(home, home))
    even = count_slots(size) / size
    assert all(abs(counts[share.backend] / even - 1) <= 0.05 for share in home)


def test_weights_are_respected() -> None:
    """Whoever weighs three times as much has three times as many."""
    home = [Share(share.backend, 3 if n % 2 else 1) for n, share in enumerate(_shares(40))]
    counts = Counter(plan_owners(home, home))
    for share in home:
        assert abs(counts[share.backend] / (count_slots(40) * share.weight / 80) - 1) <= 0.05


@pytest.mark.parametrize("size", [3, 20, 100])
def test_who_goes_down_moves_its_own_clients_and_no_others(size: int) -> None:
    """Also while another is down already; and all are back when it is."""
    home = _shares(size)
    whole = plan_owners(home, home)
    one_down = plan_owners(home, home[1:])
    assert all(a == b for a, b in zip(whole, one_down, strict=True) if a != home[0].backend)
    two_down = plan_owners(home, home[2:])
    moved = {a for a, b in zip(one_down, two_down, strict=True) if a != b}
    assert moved == {home[1].backend}
    assert plan_owners(home, home) == whole


def test_the_order_of_the_file_does_not_matter() -> None:
    """Two appliances agree."""
    home = _shares(12)
    shuffled = Random(5).sample(home, len(home))
    assert plan_owners(home, home[3:]) == plan_owners(shuffled, home[:2:-1])


@pytest.mark.parametrize("key", HashKey)
@pytest.mark.parametrize("version", [4, 6])
def test_the_rules_send_each_client_to_the_owner_of_its_slot(key: HashKey, version: int) -> None:
    """Of 2,000 clients; and each packet has the mark that it came with."""
    base = "10.0.0.{}" if version == 4 else "fd00::{}"
    home = tuple(Share(Endpoint(ip_address(base.format(n)), 80)) for n in range(1, 8))
    bind = _BIND if version == 4 else Endpoint(ip_address("2001:db8::10"), 80)
    members = tuple(Member(share.backend) for share in home)
    privateip = home[0].backend.address
    service = service_of(
        "web",
        bind,
        privateip,
        members,
        home[1:],
        balance=Balance.SOURCE_HASH,
        hash_key=key,
        home=home,
    )
    owners = plan_owners(home, home[1:])
    (ruleset,) = plan_rulesets([service])
    walker, random = Walker(ruleset, local=[]), Random(1)
    for _ in range(2000):
        number = int(bind.address) - 1 - random.randrange(2**20)
        client = Endpoint(ip_address(number), random.randrange(1024, 65536))
        mark = random.choice([0, 0, 1, 0x800, 0x1234, 0xFFFFFFFF])
        found = walker.send(Packet(client, bind, mark=mark)).packet
        slot = hash_of(Hmark(Family(version), key, len(owners)), client)
        assert (found.destination, found.mark) == (owners[slot], mark)
    described = decode_states(plan_states([service]))
    assert described.is_whole
    assert {share.backend for share in described.services[0].serving} == set(owners)
