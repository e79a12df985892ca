"""What a chain of others certainly does to a balanced packet, and what is left open."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from paraglider.config.model import Family, Protocol
from paraglider.kernel import iptables_rules, nft_rules
from paraglider.kernel.flow import Flow, Hook
from paraglider.kernel.foreign_rules import Fate, follow

FLOW = Flow(
    "web",
    Family.IPV4,
    Protocol.TCP,
    ip_address("192.0.2.1"),
    80,
    ip_address("10.0.0.2"),
    8080,
    is_local=False,
    clients_at="eth0",
    backend_at="eth1",
)
_ACCEPT: dict[str, object] = {"accept": None}
_DROP: dict[str, object] = {"drop": None}


def _match(left: object, right: object, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": left, "right": right}}


def _nft(*rules: list[dict[str, object]], is_reply: bool = False, policy: str = "accept") -> Fate:
    base = {"family": "inet", "table": "fw", "name": "f", "hook": "forward", "prio": 0}
    where = {"family": "inet", "table": "fw", "chain": "f"}
    items: list[object] = [{"chain": {**base, "type": "filter", "policy": policy}}]
    items += [{"rule": {**where, "expr": rule}} for rule in rules]
    (chain,) = nft_rules.read_base_chains(json.dumps({"nftables": items}))
    return follow(chain, FLOW.packet(Hook.FORWARD, 0, is_reply=is_reply))


_PORT = {"payload": {"protocol": "tcp", "field": "dport"}}
_CLIENT = {"payload": {"protocol": "ip", "field": "saddr"}}
_STATE = {"ct": {"key": "state"}}


@pytest.mark.parametrize(
    ("rules", "is_dropped"),
    [
        ([[_DROP]], True),
        ([[{"limit": {"rate": 1}}, _DROP]], False),
        ([[_match(_CLIENT, "203.0.113.1"), _ACCEPT], [_DROP]], False),
        ([[_match(_CLIENT, "@friends"), _ACCEPT], [_DROP]], False),
        ([[_match({"meta": {"key": "mark"}}, 1), _ACCEPT], [_DROP]], False),
        ([[{"xt": None}], [_DROP]], False),
        ([[_match(_PORT, {"set": [22, {"range": [8000, 8100]}]}), _DROP]], True),
        ([[_match(_PORT, 8080, "!="), _DROP]], False),
        ([[_match(_STATE, ["established", "related"], "in"), _ACCEPT], [_DROP]], True),
        ([[_match({"ct": {"key": "status"}}, "dnat", "in"), _ACCEPT], [_DROP]], False),
        ([[_match({"ct": {"key": "status"}}, "dnat", "!="), _ACCEPT], [_DROP]], False),
        ([[_match({"meta": {"key": "oifname"}}, "eth1"), _DROP]], True),
        ([[_match({"payload": {"protocol": "ip6", "field": "daddr"}}, "::1"), _DROP]], False),
        ([[{"queue": {"num": 0}}], [_DROP]], False),
        ([[{"jump": {"target": "f"}}]], False),  # a loop, which the kernel refuses
    ],
)
def test_a_chain_of_nftables(rules: list[list[dict[str, object]]], is_dropped: bool) -> None:
    """Nothing that may have been accepted before is called dropped."""
    assert _nft(*rules).is_dropped is is_dropped


def test_answers_to_a_port_that_the_client_cannot_have_chosen_are_dropped() -> None:
    """A client has any of tens of thousands of ports; a range may have it."""
    single = [_match(_PORT, 8080), _ACCEPT]
    several = [_match(_PORT, {"range": [1024, 65535]}), _ACCEPT]
    assert _nft(single, [_DROP], is_reply=True).is_dropped
    assert not _nft(several, [_DROP], is_reply=True).is_dropped


@pytest.mark.parametrize(
    ("elements", "is_dropped"),
    [
        ([["eth1", {"drop": None}]], True),
        ([["eth0", {"drop": None}]], False),
        ([["eth0", {"drop": None}], {"elem": {"val": "eth1"}}], False),
        (None, False),  # not read
    ],
)
def test_a_verdict_map_of_interfaces(elements: object, is_dropped: bool) -> None:
    """As Docker has it with nftables; another named map, or form of an element, may accept."""
    where = {"family": "ip", "table": "docker-bridges"}
    base = {**where, "name": "f", "hook": "forward", "type": "filter", "prio": 0}
    jump = {"vmap": {"key": {"meta": {"key": "oifname"}}, "data": "@in"}}
    probe_results = {**where, "name": "in", "type": "ifname", "map": "verdict"}
    rest = [_match({"ct": {"key": "state"}}, "established"), _ACCEPT]
    rules = [{"rule": {**where, "chain": "f", "expr": rule}} for rule in ([jump], rest)]
    text = json.dumps({"nftables": [{"map": probe_results}, {"chain": base}, *rules]})
    assert nft_rules.find_interface_maps(text) == ["in"]
    maps = [json.dumps({"nftables": [{"map": {**probe_results, "elem": elements}}]})]
    (chain,) = nft_rules.read_base_chains(text, maps if elements is not None else [])
    packet = FLOW.packet(Hook.FORWARD, 0, is_reply=False)
    assert follow(chain, packet).is_dropped is is_dropped


def test_what_is_not_json_of_nft_has_no_chains() -> None:
    """An nft that was built without it, or that was ended."""
    for text in ("", "table inet fw {", "[]", '{"nftables": 1}', '{"nftables": [{"chain": 1}]}'):
        assert nft_rules.read_base_chains(text) == []


@pytest.mark.parametrize(
    ("rules", "is_dropped"),
    [
        ("", True),  # the policy
        ("-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT", False),
        ("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", True),
        ("-A FORWARD -s 203.0.113.0/24 -j ACCEPT", False),
        ("-A FORWARD -d 10.0.0.0/8 -p tcp -m multiport --dports 1,8080 -j ACCEPT", False),
        ("-A FORWARD ! -o eth1 -j ACCEPT", True),
        ("-A FORWARD -m set --match-set friends src -j ACCEPT", False),
        ('-A FORWARD -m comment --comment "a -j ACCEPT" -j LOG --log-prefix "x y"', True),
        ("-A FORWARD -p tcp -g fw\n-A fw -j RETURN", True),
        ("-A FORWARD -j NFQUEUE --queue-num 0", False),
    ],
)
def test_a_table_of_iptables(rules: str, is_dropped: bool) -> None:
    """The same, as iptables-save prints it."""
    text = f"*filter\n:FORWARD DROP [0:0]\n:fw - [0:0]\n{rules}\nCOMMIT\n"
    (chain,) = iptables_rules.read_base_chains(text, "iptables-nft")
    packet = FLOW.packet(Hook.FORWARD, 0, is_reply=False)
    assert follow(chain, packet).is_dropped is is_dropped
    assert chain.mend.startswith("iptables-nft -t filter -I FORWARD ")
