"""Names of chains: room for all of them, also where the frontend's name is as long as it can be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, ip_address

import pytest

from paraglider.config.clients import Access
from paraglider.config.model import Balance, Endpoint, Protocol
from paraglider.health.service import Member, Service, Share
from paraglider.rules.names import short_name
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.ruleset import TableName
from tests.services import bind_at, service_of

_BIND = Endpoint(ip_address("192.0.2.10"), 80)
_PRIVATEIP = ip_address("10.0.0.4")


def _service(name: str, **more: object) -> Service:
    backends = [Endpoint(_PRIVATEIP + n, 8080) for n in range(1, 1301)]
    shares = tuple(map(Share, backends))
    service = service_of(name, _BIND, _PRIVATEIP, tuple(map(Member, backends)), shares, home=shares)
    return replace(service, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("balance", Balance)
@pytest.mark.parametrize("name", ["a", "x" * 14, "x" * 15])
def test_each_of_many_chains_has_a_name(name: str, balance: Balance) -> None:
    """Of 1,300 backends that clients come back to, by both protocols, and 1,000 networks."""
    allow = tuple(IPv4Network((n << 12, 24)) for n in range(1, 1001))
    binds = (bind_at(_BIND), bind_at(_BIND, Protocol.UDP))
    more = {"balance": balance, "affinity_s": 60.0, "access": Access(allow), "binds": binds}
    (ruleset,) = plan_rulesets([_service(name, **more)])
    names = [chain.name for chain in ruleset.table(TableName.NAT).chains]
    assert len(names) > 2600
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 28


def test_short_names_differ_where_names_begin_alike() -> None:
    """Of ten thousand; and one that is short is itself."""
    names = [f"frontend-{number:06}" for number in range(10_000)]
    short = {short_name(name) for name in names}
    assert len(short) == len(names)
    assert {len(name) for name in short} == {10}
    assert short_name("abcdefghij") == "abcdefghij"
