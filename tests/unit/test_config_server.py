"""Backends by name: what is taken for a host name, and what is refused in which words."""

from ipaddress import ip_address

import pytest

from paraglider.config.address import Refused
from paraglider.config.model import HOST_RULE, Backend
from paraglider.config.server import parse_server
from tests.unit.config_files import backend, frontend_of, problems_of, text_of

LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
NOT_A_NAME = f"is neither an address nor a host name, which is {HOST_RULE}"
ITSELF = (
    "is this host itself, and the kernel forwards nothing to its loopback; name the server, or the"
    " address at which the network reaches it"
)
PORT = "a port is a number from 1 to 65535"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.2:80", backend("10.0.0.2", 80)),
        ("[fd00::2]:80", backend("fd00::2", 80)),
        ("web:5555", Backend("web", 5555)),
        ("Web.LAN:5555", Backend("web.lan", 5555)),
        ("_web_1-a:1", Backend("_web_1-a", 1)),
        ("10.0.0.x:65535", Backend("10.0.0.x", 65535)),
        ("3com.example:80", Backend("3com.example", 80)),
        ("localhost.example:80", Backend("localhost.example", 80)),
        (f"{LONGEST}:80", Backend(LONGEST, 80)),
        ("10.0.0.2", backend("10.0.0.2", 0)),
        ("[fd00::2]", backend("fd00::2", 0)),
        ("Web", Backend("web", 0)),
        (LONGEST, Backend(LONGEST, 0)),
        ("10.0.0.2:9000-9010", Backend(ip_address("10.0.0.2"), 9000, last_port=9010)),
        ("[fd00::2]:1-65535", Backend(ip_address("fd00::2"), 1, last_port=65535)),
        ("web:9000-9010", Backend("web", 9000, last_port=9010)),
    ],
)
def test_a_backend_is_an_address_or_a_name_in_lower_case(text: str, expected: Backend) -> None:
    assert expected == parse_server(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", "'80' is a bare number; write ADDRESS:PORT, such as 172.19.0.2:80"),
        ("", "the address is missing; write an address such as 172.19.0.2"),
        ("-web", f"'-web' {NOT_A_NAME}"),
        ("localhost", f"'localhost' {ITSELF}"),
        ("127.0.0.1", "127.0.0.1 is a loopback address: the kernel forwards nothing to it; use"),
        ("10.0.0.256", "'10.0.0.256' has a number above 255; write an address such as 172.19.0.2"),
        ("fd00::2", "'fd00::2' has several ':' and no brackets, and IPv6 with a port is written"),
        ("[fe80::2]", "fe80::2 is link-local: it means nothing without an interface"),
        (LONGEST + "d", f"'{LONGEST[:40]}'... (254 characters) {NOT_A_NAME}"),
        ("web:9010-9000", "9010-9000 ends before it begins; write 9000-9010"),
        ("web:9000-9000", "9000-9000 is one port; write 9000"),
        ("web:9000-", "'9000-' is not a range of ports; write FIRST-LAST, such as 8000-8010"),
        ("web:1-2-3", "'2-3' is not a range of ports; write FIRST-LAST, such as 8000-8010"),
        ("web:80-http", f"'http' is not a port; {PORT}"),
        ("web:0-9", f"port '0' is out of range; {PORT}"),
        ("web:80,81", f"'80,81' is not a port; {PORT}"),
        ("web:", f"'web:' has no port after the ':'; {PORT}"),
        ("web:0", f"port '0' is out of range; {PORT}"),
        ("web:65536", f"port '65536' is out of range; {PORT}"),
        ("web:http", f"'http' is not a port; {PORT}"),
        ("web: 80", f"' 80' is not a port; {PORT}"),
        ("-web:80", f"'-web' {NOT_A_NAME}"),
        ("web-:80", f"'web-' {NOT_A_NAME}"),
        ("web.:80", f"'web.' {NOT_A_NAME}"),
        ("web..lan:80", f"'web..lan' {NOT_A_NAME}"),
        ("größer:80", rf"'gr\xf6\xdfer' {NOT_A_NAME}"),
        ("\uff11.1.1.1:80", rf"'\uff11.1.1.1' {NOT_A_NAME}"),
        (f"{'a' * 64}:80", f"'{'a' * 40}'... (64 characters) {NOT_A_NAME}"),
        (f"{LONGEST}d:80", f"'{LONGEST[:40]}'... (254 characters) {NOT_A_NAME}"),
        ("localhost:80", f"'localhost' {ITSELF}"),
        ("LocalHost:80", f"'localhost' {ITSELF}"),
        ("web.localhost:80", f"'web.localhost' {ITSELF}"),
        # Not meant as names: these are told as they were before there were any.
        ("22:22", "'22' is not an IPv4 address, which has four numbers; write an address such as"),
        ("10.0.0.256:80", "'10.0.0.256' has a number above 255; write an address such as"),
        ("http://web:80", "'http://web:80' is a URL; write ADDRESS:PORT, such as 172.19.0.2:80"),
        ("web:80:tcp", "'web:80:tcp' has several ':'; write ADDRESS:PORT, such as 172.19.0.2:80"),
        ("we b:80", "'we b' holds a space or a line break; write an address such as 172.19.0.2"),
        ("127.0.0.1:80", "127.0.0.1 is a loopback address: the kernel forwards nothing to it; use"),
        ("[fd00::2:80", "'[fd00::2:80' opens a bracket that is not closed; write ADDRESS:PORT"),
    ],
)
def test_what_is_no_backend_is_refused_with_the_reason(text: str, expected: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_server(text)
    assert expected == str(caught.value)[: len(expected)]


def test_names_and_addresses_stand_side_by_side_in_a_file() -> None:
    found = frontend_of(backends="[10.0.0.2:80, web:80, web:81]").backends
    assert found == (backend("10.0.0.2", 80), Backend("web", 80), Backend("web", 81))


def test_two_spellings_of_one_name_are_doubled() -> None:
    expected = (
        "f:4:22: frontend.backends[1]: web:80 is listed already: frontend.backends[0] (line 4);"
        " list every backend once"
    )
    assert [expected] == problems_of(text_of(backends="[web:80, Web:80]"))


def test_only_backends_may_be_names() -> None:
    """What is no address in a bind is an interface."""
    [problem] = problems_of(text_of().replace("privateip: 10.0.0.1", "privateip: web"))
    assert "frontend.privateip: 'web' is a name, and only backends may be names; write" in problem


def test_a_name_is_of_the_family_of_its_frontend() -> None:
    """Which addresses it has nobody knows yet."""
    text = 'bind: "[fd00::1]:80", privateip: fd00::1, backends: [web:80]'
    assert len(problems_of(f"frontend: {{{text}, check: {{address: 10.0.0.9}}}}")) == 1


def test_the_long_form_says_more_of_a_backend() -> None:
    text = (
        "[{address: 10.0.0.2:80}, {address: web:80, backup: true},"
        " {backup: false, address: b:1, weight: 0}]"
    )
    found = frontend_of(backends=text).backends
    web, b = Backend("web", 80, is_backup=True), Backend("b", 1, weight=0)
    expected = (backend("10.0.0.2", 80), web, b)
    assert expected == found


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            "{}",
            "14: frontend.backends[0].address: is missing: the server, as ADDRESS:PORT or"
            " NAME:PORT, such as 172.19.0.2:5555",
        ),
        (
            "{address: [a]}",
            "24: frontend.backends[0].address: must be the server, as ADDRESS:PORT or NAME:PORT,"
            " such as 172.19.0.2:5555, not a list",
        ),
        (
            "{address: -web}",
            f"24: frontend.backends[0].address: '-web' {NOT_A_NAME}",
        ),
        (
            "{address: a:1, backup: yes}",
            "37: frontend.backends[0].backup: 'yes' is not known here; write true or false",
        ),
        (
            "{address: a:1, backup: ~}",
            "37: frontend.backends[0].backup: has no value; write whether it gets connections only"
            " while no other backend can: true or false",
        ),
        (
            "{address: a:1, wait: 3}",
            "29: frontend.backends[0]: unknown key 'wait'; did you mean 'weight'? allowed here:"
            " address, weight, backup, check, max_connections",
        ),
        (
            "{address: a:1, weight: 1001}",
            "37: frontend.backends[0].weight: '1001' is not a whole number from 0 to 1000",
        ),
        (
            "{address: a:1, interval: 2s}",
            "29: frontend.backends[0]: the key 'interval' belongs under 'check:'; indent it there",
        ),
        (
            "{address: 10.0.0.1:80}",
            "24: frontend.backends[0].address: 10.0.0.1:80 is a bind of this configuration:"
            " frontend.bind (line 2); connections would come back here for ever, name a server",
        ),
        (
            "{address: '[fd00::2]:80'}",
            "24: frontend.backends[0].address: fd00::2 is IPv6, but frontend.bind (line 2) is"
            " IPv4; write one of that family, or add a bind of this one",
        ),
        (
            "{address: a:1}, {address: a:1}",
            "40: frontend.backends[1].address: a:1 is listed already: frontend.backends[0].address"
            " (line 4); list every backend once",
        ),
    ],
)
def test_what_is_wrong_in_the_long_form_is_told_with_its_place(item: str, expected: str) -> None:
    assert [f"f:4:{expected}"] == problems_of(text_of(backends=f"[{item}]"))
