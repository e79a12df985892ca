"""What clients connect to: its forms, its families, and which are refused in which words."""

from ipaddress import ip_address

import pytest

from paraglider.config.address import Refused
from paraglider.config.bind import MAX_BINDS, parse_bind
from paraglider.config.draft import BindDraft
from paraglider.config.model import INTERFACE_RULE, Bind, Family, Ports, Protocol
from paraglider.config.parse import parse_config
from paraglider.config.ports import MAX_RANGES
from tests.unit.config_files import problems_of

V4, V6 = Family.IPV4, Family.IPV6
ONE, SIX = ip_address("192.0.2.10"), ip_address("fd00::10")
EIGHTY = (Ports(80, 80),)

BOTH = '[10.0.0.2:80, "[fd00::2]:80"]'
PORT = "a port is a number from 1 to 65535"
NOT_AN_INTERFACE = f"is neither an address nor the name of an interface, which is {INTERFACE_RULE}"
NO_PORT = "has no port; write ADDRESS:PORT or INTERFACE:PORT, such as eth0:80"
LOOPBACK = (
    "is this host alone: no client of the network comes in there; use an address or another"
    " interface of this host"
)


def text_of(
    bind: str, more: str = "", *, privateip: str = "auto", backends: str = "[10.0.0.2:80]"
) -> str:
    """Return a file of one frontend, with the bind on line 2 from column 9 on."""
    lines = [f"bind: {bind}", f"privateip: {privateip}", f"backends: {backends}", more]
    return "frontend:\n" + "".join(f"  {line}\n" for line in lines)


def binds_of(
    bind: str, more: str = "", *, privateip: str = "auto", backends: str = "[10.0.0.2:80]"
) -> list[list[str]]:
    """Return the binds of each frontend that the file comes to, as text."""
    text = text_of(bind, more, privateip=privateip, backends=backends)
    config = parse_config(text.encode(), source="f")
    return [[str(bind) for bind in frontend.binds] for frontend in config.frontends]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.10:80", BindDraft(ONE, "", V4, EIGHTY)),
        ("[fd00::10]:80", BindDraft(SIX, "", V6, EIGHTY)),
        ("0.0.0.0:80", BindDraft(None, "", V4, EIGHTY)),
        ("[::]:80", BindDraft(None, "", V6, EIGHTY)),
        ("*:80", BindDraft(None, "", None, EIGHTY)),
        ("eth0:80", BindDraft(None, "eth0", None, EIGHTY)),
        ("br-1a2b_c.100:80", BindDraft(None, "br-1a2b_c.100", None, EIGHTY)),
        ("fd00:80", BindDraft(None, "fd00", None, EIGHTY)),
        ("abcdefghijklmno:80", BindDraft(None, "abcdefghijklmno", None, EIGHTY)),
        ("192.0.2.10:1-65535", BindDraft(ONE, "", V4, (Ports(1, 65535),))),
        (
            "*:8000-8010,443, 80",
            BindDraft(None, "", None, (Ports(8000, 8010), Ports(443, 443), Ports(80, 80))),
        ),
    ],
)
def test_a_bind_is_an_address_an_interface_or_neither_with_ports(
    text: str, expected: BindDraft
) -> None:
    assert expected == parse_bind(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.10", "'192.0.2.10' has no port; write 192.0.2.10:PORT, such as 192.0.2.10:80"),
        ("eth0", f"'eth0' {NO_PORT}"),
        ("*", '\'*\' has no port; write "*:PORT", such as "*:80"'),
        ("", "the address is missing; write an address such as 192.0.2.10; a port is missing too"),
        ("80", "'80' is a bare number; write ADDRESS:PORT, such as 192.0.2.10:80, and several"),
        ("80-90", "'80-90' is a range of ports alone; write ADDRESS:PORT, such as 192.0.2.10:80"),
        ("eth0:", f"'eth0:' has no port after the ':'; {PORT}"),
        ("*:http", f"'http' is not a port; {PORT}"),
        ("*:0", f"port '0' is out of range; {PORT}"),
        ("*:80-65536", f"port '65536' is out of range; {PORT}"),
        ("*:080", "port '080' has a leading zero, which YAML reads as octal; write it without"),
        ("*: 80", f"' 80' is not a port; {PORT}"),
        ("*:80,", "'*:80,' has a ',' with no port beside it; remove it, or write one"),
        ("*:80,,90", "'*:80,,90' has a ',' with no port beside it; remove it, or write one"),
        ("*:80-", "'80-' is not a range of ports; write FIRST-LAST, such as 8000-8010"),
        ("*:90-80", "90-80 ends before it begins; write 80-90"),
        ("*:80-80", "80-80 is one port; write 80"),
        ("*:443,80-90,85", "'443,80-90,85' names port 85 twice, in 80-90 and in 85; write every"),
        (f"*:{'80,' * MAX_RANGES}80", f"more than {MAX_RANGES} ports and ranges of ports; write"),
        (
            "10.0.0.1:80,10.0.0.2:80",
            "'10.0.0.1:80,10.0.0.2:80' is more than one bind; write a list",
        ),
        ("[::]:80, [fd00::1]:80", "'[::]:80, [fd00::1]:80' is more than one bind; write a list of"),
        ("lo:80", f"'lo' {LOOPBACK}"),
        ("localhost:80", f"'localhost' {LOOPBACK}"),
        ("abcdefghijklmnop:80", f"'abcdefghijklmnop' {NOT_AN_INTERFACE}"),
        ("eth+:80", f"'eth+' {NOT_AN_INTERFACE}"),
        (".eth:80", f"'.eth' {NOT_AN_INTERFACE}"),
        ("größer:80", rf"'gr\xf6\xdfer' {NOT_AN_INTERFACE}"),
        ("eth 0:80", "'eth 0' holds a space or a line break; write an address such as"),
        ("eth0/1:80", "'eth0/1' holds a '/': networks and URLs are not supported here; write"),
        ("eth0:1:80", "'eth0:1:80' has several ':'; write ADDRESS:PORT, such as 192.0.2.10:80"),
        ("[eth0]:80", "'[eth0]:80' has brackets, which belong only around an IPv6 address; write"),
        ("[::]80", "'[::]80' has no ':' between ']' and the port; write ADDRESS:PORT, such as"),
        ("**:80", "'**' is not an IP address; write an address such as 192.0.2.10"),
        ("22:22", "'22' is not an IPv4 address, which has four numbers; write an address such as"),
        ("10.0.0.256:80", "'10.0.0.256' has a number above 255; write an address such as"),
        ("127.0.0.1:80", "127.0.0.1 is a loopback address: serving it would need route_localnet"),
        ("224.0.0.1:80", "224.0.0.1 is a multicast address; name the address of one host"),
        ("0.0.0.1:80", "0.0.0.1 is in 0.0.0.0/8, which no host may use"),
        ("[1:2:3]:80", "'1:2:3' is not a valid IPv6 address"),
        ("tcp://10.0.0.1:80", "'tcp://10.0.0.1:80' is a URL; write ADDRESS:PORT, such as"),
    ],
)
def test_what_is_no_bind_is_refused_with_the_reason(text: str, expected: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_bind(text)
    assert expected == str(caught.value)[: len(expected)]


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        (Bind(V4, Ports(80, 80), address=ONE), "192.0.2.10:80"),
        (Bind(V6, Ports(80, 80), address=SIX), "[fd00::10]:80"),
        (Bind(V4, Ports(80, 80)), "0.0.0.0:80"),
        (Bind(V6, Ports(80, 80)), "[::]:80"),
        (Bind(V6, Ports(80, 80), interface="eth0"), "eth0:80"),
        (Bind(V4, Ports(8000, 8010), address=ONE), "192.0.2.10:8000-8010"),
        (Bind(V4, Ports(53, 53), Protocol.UDP, ONE), "192.0.2.10:53/udp"),
    ],
)
def test_a_bind_is_told_as_it_is_written(bind: Bind, expected: str) -> None:
    assert expected == str(bind)


def test_binds_are_in_the_order_of_the_file() -> None:
    expected = [["10.0.0.9:443", "10.0.0.9:80-90", "0.0.0.0:22", "eth0:1"]]
    assert expected == binds_of('["10.0.0.9:443,80-90", "*:22", eth0:1]')


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("tcp", ["10.0.0.9:53", "10.0.0.9:853"]),
        ("udp", ["10.0.0.9:53/udp", "10.0.0.9:853/udp"]),
        ("tcp+udp", ["10.0.0.9:53", "10.0.0.9:53/udp", "10.0.0.9:853", "10.0.0.9:853/udp"]),
    ],
)
def test_the_protocol_is_that_of_every_bind(protocol: str, expected: list[str]) -> None:
    """Also where it stands below them, as here."""
    assert [expected] == binds_of('"10.0.0.9:53,853"', f"protocol: {protocol}")


def test_a_protocol_that_is_not_known_is_told() -> None:
    expected = "f:5:13: frontend.protocol: 'sctp' is not known here; write tcp, udp or tcp+udp"
    assert [expected] == problems_of(text_of("10.0.0.9:53", "protocol: sctp"))


@pytest.mark.parametrize("bind", ['"*:80"', "eth0:80"])
@pytest.mark.parametrize(
    ("privateip", "backends", "expected"),
    [
        ("auto", "[10.0.0.2:80]", [4]),
        ("auto", '["[fd00::2]:80"]', [6]),
        ("auto", BOTH, [4, 6]),
        ("auto", "[10.0.0.2:80, web:80]", [4]),
        # Where there are names alone, whatever has a family says it.
        ("auto", "[web:80]", [4]),
        ("10.0.0.4", "[web:80]", [4]),
        ("fd00::4", "[web:80]", [6]),
        ("[10.0.0.4, fd00::4]", "[web:80]", [4, 6]),
    ],
)
def test_a_bind_without_an_address_is_of_the_families_of_the_backends(
    bind: str, privateip: str, backends: str, expected: list[int]
) -> None:
    text = text_of(bind, privateip=privateip, backends=backends)
    found = parse_config(text.encode(), source="f").frontends
    assert expected == [frontend.family for frontend in found]


def test_another_bind_may_say_which_families_there_are() -> None:
    expected = [["0.0.0.0:80"], ["[fd00::10]:443", "[::]:80"]]
    assert expected == binds_of('["[fd00::10]:443", "*:80"]', backends="[web:80]")


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("[]", ["f:2:9: frontend.bind: the list is empty; at least one item must be in it"]),
        (
            "[[10.0.0.1:80]]",
            [
                "f:2:10: frontend.bind[0]: must be the address and port that clients connect to,"
                " such as 192.0.2.10:80, or a list, not a list"
            ],
        ),
        (
            "[10.0.0.1:80,443]",  # YAML ends the first item at the comma
            [
                "f:2:22: frontend.bind[1]: '443' is a bare number; write ADDRESS:PORT, such as"
                ' 192.0.2.10:80, and several ports in quotes: "192.0.2.10:80,443" (without'
                " quotes, YAML 1.1 reads 443 as a number)"
            ],
        ),
        (
            "[10.0.0.1, eth0]",
            [
                "f:2:10: frontend.bind[0]: '10.0.0.1' has no port; write 10.0.0.1:PORT, such as"
                " 10.0.0.1:80",
                f"f:2:20: frontend.bind[1]: 'eth0' {NO_PORT}",
            ],
        ),
        (
            "[[fd00::1]:8000-8010]",
            [
                "f:2:10: an address in brackets needs quotes, or YAML takes it for a list: write"
                ' "[fd00::1]:8000-8010"'
            ],
        ),
    ],
)
def test_what_is_wrong_in_a_list_of_binds_is_told_with_its_place(
    bind: str, expected: list[str]
) -> None:
    assert expected == problems_of(text_of(bind))


def test_there_may_be_many_binds_and_not_more() -> None:
    binds = [f"10.0.0.1:{port}" for port in range(1, MAX_BINDS + 3)]
    [found] = binds_of(f"[{', '.join(binds[:MAX_BINDS])}]")
    assert len(found) == MAX_BINDS
    [problem] = problems_of(text_of(f"[{', '.join(binds)}]"))
    expected = (
        f"frontend.bind[{MAX_BINDS}]: more than {MAX_BINDS} are in the list; write fewer and wider"
        " ones"
    )
    assert expected == problem.split(": ", 1)[1]


def test_a_file_of_more_binds_than_anybody_has_is_left_there() -> None:
    """Each port of a list is one for each family and protocol: a small file holds millions."""
    ports = ",".join(str(port) for port in range(1, MAX_RANGES + 1))
    binds = ", ".join(f"'e{number}:{ports}'" for number in range(MAX_BINDS))
    rest = f"bind: [{binds}], protocol: tcp+udp, privateip: auto, backends: {BOTH}"
    text = f"frontends:\n  - {{name: a, {rest}}}\n  - {{name: b, {rest}}}\n"
    expected = (
        "f:3:22: frontends[1].bind[0]: more than 100000 binds, one for each port, family and"
        " protocol; write ranges of ports"
    )
    assert [expected] == problems_of(text)
