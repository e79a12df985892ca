"""A host that is not made for Paraglider: its firewall, its forwarding, its links."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.compose.device.device import (
    BACKENDS,
    EVEN,
    NFT_ALONE,
    SERVED,
    Device,
    Host,
    Lane,
    is_blocked,
)
from tests.compose.engine import LAB, Container, Engine
from tests.compose.rules import read_rules

NARROW = 1300  # bytes, where every other link takes 1500


def test_docker_drops_what_crosses_its_bridges(device: Device, client: Host, lane: Lane) -> None:
    """Its policy and its isolation are there: what passes below passes in spite of them."""
    rules = device.execute(lane.iptables, "--list-rules")
    assert "-P FORWARD DROP" in rules
    # Releases of Docker differ in how they say it.
    assert re.search(r"^-A DOCKER\S* .*-o backends -j DROP$", rules, re.MULTILINE)
    assert is_blocked(client, lane.endpoint("red", SERVED))
    neighbour = device.hosts["neighbour"]
    assert neighbour.connect(lane.endpoint("red", SERVED), count=1).by_backend == {"red": 1}


def test_docker_has_switched_forwarding_on(device: Device) -> None:
    """It was off when the device came up, and the appliance may only read it."""
    assert device.execute("sysctl", "--values", "net.ipv4.ip_forward") == "1\n"


def test_where_forwarding_was_switched_off_the_appliance_says_so_and_ends(
    device: Device, inside: Engine, setting: Callable[[str, str], None]
) -> None:
    """Exit code 69, with the command that mends it, and no rule."""
    use_tables(device)
    before = read_rules(inside, "--network=host")
    setting("net.ipv4.ip_forward", "0")
    ended = inside.run(*device.appliance)
    assert ended.code == 69
    assert "sysctl -w net.ipv4.ip_forward=1" in ended.err
    assert read_rules(inside, "--network=host") == before


def test_stopping_leaves_docker_s_rules_as_they_were(device: Device, inside: Engine) -> None:
    """The text of iptables-save, in both families and variants, is the same as before."""
    use_tables(device)
    before = read_rules(inside, "--network=host")
    appliance = device.start_appliance(inside)
    assert read_rules(inside, "--network=host") != before
    assert appliance.stop() == 0
    assert read_rules(inside, "--network=host") == before


def use_tables(device: Device) -> None:
    """See to all tables that Paraglider takes: one of legacy's that was used once stays, empty,
    until the next boot."""
    for tool in ("iptables", "ip6tables"):
        device.execute(tool, "--table", "mangle", "--list-rules")


def test_the_variant_is_docker_s_own(device: Device, balanced: Container) -> None:
    """Also where somebody has rules in the other: on the device with legacy, nft holds one."""
    said = f"rules are in iptables ({device.variant}): Docker's chains are in it"
    assert said in balanced.logs()
    other = "nft" if device.variant == "legacy" else "legacy"
    assert "PARAGLIDER" not in device.execute(f"iptables-{other}-save")


@NFT_ALONE
@pytest.mark.usefixtures("balanced")
def test_a_firewall_that_drops_what_the_host_gets_does_not_see_balanced_connections(
    device: Device, lane: Lane
) -> None:
    """INPUT and OUTPUT drop all but what finds neighbours in IPv6: the connections are forwarded,
    and pass."""
    neighbours = ("--protocol", "ipv6-icmp" if lane.version == 6 else "icmp", "--jump", "ACCEPT")
    for chain in ("INPUT", "OUTPUT"):
        device.execute(lane.iptables, "--append", chain, *neighbours)
        device.execute(lane.iptables, "--policy", chain, "DROP")
    try:
        for name in ("client", "outsider"):
            assert device.hosts[name].connect(lane.bind).by_backend == EVEN
    finally:
        for chain in ("INPUT", "OUTPUT"):
            device.execute(lane.iptables, "--policy", chain, "ACCEPT")
            device.execute(lane.iptables, "--delete", chain, *neighbours)


@NFT_ALONE
@pytest.mark.usefixtures("balanced")
def test_much_passes_a_narrow_link_to_backends(device: Device, client: Host, lane: Lane) -> None:
    """The device itself tells the client that its packets are too big, and 3 MB come back whole."""
    for name in BACKENDS:
        route = (lane.at[name], "dev", "backends", "mtu", "lock", str(NARROW))
        device.execute("ip", "route", "add", *route)
    try:
        transfer(client, lane)
        assert client.path_mtu(lane.at["lan"]) == NARROW
    finally:
        for name in BACKENDS:
            device.execute("ip", "route", "delete", lane.at[name], "mtu", "lock", str(NARROW))


def transfer(host: Host, lane: Lane) -> None:
    """Send 3 MB to each backend, and have them back."""
    for _ in BACKENDS:
        arguments = ("--to", lane.bind, "--size", "3000000", "--timeout", "5")
        assert "received their echo" in host.execute(*LAB, "transfer", *arguments)
