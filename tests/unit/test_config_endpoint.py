"""Addresses and ports: what is taken, what is refused and in which words."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from paraglider.config.address import NEVER_IPV4_PATTERN, Refused, Role, parse_address
from paraglider.config.endpoint import parse_endpoint
from paraglider.config.model import Endpoint


def refusal(text: str, role: Role) -> str:
    with pytest.raises(Refused) as caught:
        parse_endpoint(text, role)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("166.1.101.2:4444", Endpoint(IPv4Address("166.1.101.2"), 4444)),
        ("169.254.169.253:1", Endpoint(IPv4Address("169.254.169.253"), 1)),
        ("10.0.0.1:65535", Endpoint(IPv4Address("10.0.0.1"), 65535)),
        ("[fd00::1]:80", Endpoint(IPv6Address("fd00::1"), 80)),
        ("[FD00:0:0:0:0:0:0:1]:80", Endpoint(IPv6Address("fd00::1"), 80)),
        ("[64:ff9b::10.0.0.1]:80", Endpoint(IPv6Address("64:ff9b::a00:1"), 80)),
    ],
)
def test_an_address_with_a_port_becomes_an_endpoint(text: str, expected: Endpoint) -> None:
    assert expected == parse_endpoint(text, Role.BACKEND)


PORT = "a port is a number from 1 to 65535"
WRITE = "write an address such as 192.0.2.10"
WRITE_PORT = "write ADDRESS:PORT, such as 192.0.2.10:80"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"the address is missing; {WRITE}; a port is missing too"),
        ("10.0.0.1", "'10.0.0.1' has no port; write 10.0.0.1:PORT, such as 10.0.0.1:80"),
        ("[fd00::1]", "'[fd00::1]' has no port; write [fd00::1]:PORT, such as [fd00::1]:80"),
        ("10.0.0.1:", f"'10.0.0.1:' has no port after the ':'; {PORT}"),
        ("10.0.0.1:0", f"port '0' is out of range; {PORT}"),
        ("10.0.0.1:65536", f"port '65536' is out of range; {PORT}"),
        ("10.0.0.1:-1", f"'-1' is not a port; {PORT}"),
        ("10.0.0.1:http", f"'http' is not a port; {PORT}"),
        ("10.0.0.1:80-90", f"'80-90' is not a port; {PORT}"),
        ("10.0.0.1: 80", f"' 80' is not a port; {PORT}"),
        ("10.0.0.1:80\n", rf"'80\n' is not a port; {PORT}"),
        ("10.0.0.1:\uff18\uff10", rf"'\uff18\uff10' is not a port; {PORT}"),
        ("10.0.0.1:080", "port '080' has a leading zero, which YAML reads as octal; write it"),
        ("80", f"'80' is a bare number; {WRITE_PORT}"),
        (":80", f"':80': the address is missing; {WRITE}"),
        ("tcp://10.0.0.1:80", f"'tcp://10.0.0.1:80' is a URL; {WRITE_PORT}"),
        ("10.0.0.1:80:90", f"'10.0.0.1:80:90' has several ':'; {WRITE_PORT}"),
        ("web:80:tcp", f"'web:80:tcp' has several ':'; {WRITE_PORT}"),
        ("fd00::1:80", "'fd00::1:80' has several ':' and no brackets, and IPv6 with a port is"),
        ("[fd00::1", f"'[fd00::1' opens a bracket that is not closed; {WRITE_PORT}"),
        ("[10.0.0.1]:80", "'[10.0.0.1]:80' has brackets, which belong only around an IPv6"),
        ("[fd00::1]80", f"'[fd00::1]80' has no ':' between ']' and the port; {WRITE_PORT}"),
        ("1" * 65, f"'{'1' * 40}'... (65 characters) is too long; {WRITE_PORT}"),
        ("web:80", f"'web' is a name, and only backends may be names; {WRITE}"),
        ("web-1.lan:80", f"'web-1.lan' is a name, and only backends may be names; {WRITE}"),
        ("localhost", f"'localhost' is a name, and only backends may be names; {WRITE}; a port"),
        ("22:22", f"'22' is not an IPv4 address, which has four numbers; {WRITE}"),
        ("10.0.0:80", f"'10.0.0' is not an IPv4 address, which has four numbers; {WRITE}"),
        ("10.0.0.256:80", f"'10.0.0.256' has a number above 255; {WRITE}"),
        ("010.0.0.1:80", "'010.0.0.1' has a number with a leading zero, which some programs read"),
        ("10.0.0.1/24:80", "'10.0.0.1/24' holds a '/': networks and URLs are not supported here"),
        ("10.0.0.1 :80", f"'10.0.0.1 ' holds a space or a line break; {WRITE}"),
        ("\uff11.1.1.1:80", rf"'\uff11.1.1.1' is a name, and only backends may be names; {WRITE}"),
        ("-:80", f"'-' is not an IP address; {WRITE}"),
        ("[1:2:3]:80", "'1:2:3' is not a valid IPv6 address"),
        ("[fe80::1%eth0]:80", "'fe80::1%eth0' names an interface after '%', which rules cannot"),
        ("[fd00::1%1]:80", "'fd00::1%1' names an interface after '%', which rules cannot hold"),
    ],
)
def test_what_is_not_an_endpoint_is_refused_with_the_reason(text: str, expected: str) -> None:
    """The message begins with what is wrong; some go on about what to write."""
    assert expected == refusal(text, Role.BIND)[: len(expected)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "is a loopback address: serving it would need route_localnet"),
        ("127.255.255.255", "is a loopback address: serving it would need route_localnet"),
        ("[::1]", "is a loopback address: the kernel forwards nothing from it"),
    ],
)
def test_a_bind_that_cannot_be_is_refused_with_the_reason(address: str, expected: str) -> None:
    said = refusal(f"{address}:80", Role.BIND)
    assert expected == said.split(" ", 1)[1][: len(expected)]


def test_the_refusal_of_a_loopback_bind_names_what_it_would_open() -> None:
    assert "CVE-2020-8558" in refusal("127.0.0.1:80", Role.BIND)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0.0.0.1", "is in 0.0.0.0/8"),
        ("169.254.169.254", "is the metadata service"),
        ("224.0.0.1", "is a multicast address"),
        ("239.255.255.255", "is a multicast address"),
        ("240.0.0.0", "is in the reserved range"),
        ("255.255.255.254", "is in the reserved range"),
        ("255.255.255.255", "is the broadcast address"),
        ("127.0.0.1", "is a loopback address"),
        ("::1", "is a loopback address"),
        ("::ffff:10.0.0.1", "is an IPv4 address written as IPv6"),
        ("fd00:ec2::254", "is the metadata service"),
        ("fe80::1", "is link-local"),
        ("febf::1", "is link-local"),
        ("ff02::1", "is a multicast address"),
    ],
)
def test_an_address_that_can_never_be_right_is_refused_in_every_role(
    address: str, expected: str, role: Role
) -> None:
    with pytest.raises(Refused) as caught:
        parse_address(address, role)
    beginning = f"{ip_address(address)} {expected}"
    assert beginning == str(caught.value)[: len(beginning)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("172.19.0.4:80", "'172.19.0.4:80' has a port, which does not belong here"),
        ("[fd00::4]:80", "'[fd00::4]:80' has a port, which does not belong here"),
        ("[fd00::4]", "'[fd00::4]' has brackets, which belong only around an address with a port"),
        ("172.19.0.0/16", "'172.19.0.0/16' holds a '/': networks and URLs are not supported here"),
        ("0.0.0.0", "0.0.0.0 is not an address of a host"),
    ],
)
def test_a_privateip_is_an_address_alone(text: str, expected: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_address(text, Role.PRIVATEIP)
    assert expected == str(caught.value)[: len(expected)]


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.0",
        "126.1.1.1",
        "128.0.0.0",
        "169.254.169.25",
        "169.254.1.1",
        "223.255.255.255",
        "fec0::1",
        "fdff::1",
        "::2",
    ],
)
def test_the_neighbours_of_refused_ranges_are_taken(address: str) -> None:
    assert ip_address(address) == parse_address(address, Role.BACKEND)


def test_the_pattern_of_refused_addresses_agrees_with_the_numbers() -> None:
    """The JSON Schema knows the refused IPv4 addresses as text, the parser as numbers."""
    samples = [
        f"{first}.{rest}" for first in range(256) for rest in ("0.0.0", "1.1.1", "255.255.255")
    ]
    samples += ["169.254.169.253", "169.254.169.254", "169.254.169.25", "169.254.168.254"]

    def is_refused(text: str) -> bool:
        try:
            parse_address(text, Role.PRIVATEIP)
        except Refused:
            return True
        return False

    by_pattern = {text for text in samples if re.match(NEVER_IPV4_PATTERN, text)}
    assert {text for text in samples if is_refused(text)} == by_pattern
