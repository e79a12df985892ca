"""Which clients may connect and how often: the keys, their bounds and what is refused."""

from ipaddress import ip_network

import pytest

from paraglider.config.access import MAX_NETWORKS, parse_network, parse_rate
from paraglider.config.address import Refused
from paraglider.config.clients import EVERYBODY, Access, Rate, Refuse
from tests.unit.config_files import frontend_of, problems_of, text_of

NEITHER = "is neither an address nor a network; write one such as 192.0.2.7 or 10.0.0.0/8"
NOT_A_RATE = "is not a rate; write a number and /s, /min, /h or /day, such as 100/s"
COUNT = "is not a whole number from 1 to 1000000"


def test_a_frontend_that_says_nothing_lets_everybody_in() -> None:
    assert frontend_of().access == Access() == EVERYBODY


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("max_connections: 1", Access(max_connections=1)),
        ("max_connections: 1000000", Access(max_connections=1_000_000)),
        ("rate: 100/s", Access(rate=Rate(100, 1))),
        ("rate: 1/min", Access(rate=Rate(1, 60))),
        ("rate: 7/h", Access(rate=Rate(7, 3600))),
        ("rate: 1000000/day", Access(rate=Rate(1_000_000, 86400))),
        ("refuse: drop", Access(refuse=Refuse.DROP)),
        ("refuse: reset", Access()),
        (
            "allow: [10.0.0.0/8, 192.0.2.7]\ndeny: 10.1.0.0/16",
            Access(
                (ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32")),
                (ip_network("10.1.0.0/16"),),
            ),
        ),
        ("allow: [0.0.0.0/0]", Access((ip_network("0.0.0.0/0"),))),
    ],
)
def test_a_key_is_in_the_access_of_the_frontend(more: str, expected: Access) -> None:
    assert expected == frontend_of(more).access


def test_what_is_of_the_other_family_is_left_to_that() -> None:
    """One list may serve frontends of both."""
    found = frontend_of('allow: ["fd00::/8", 10.0.0.0/8]\ndeny: ["::1"]').access
    assert found == Access((ip_network("10.0.0.0/8"),))


@pytest.mark.parametrize("text", ["10.0.0.0/8", "fd00::/8", "::/0", "192.0.2.7/32", "fd00::1/128"])
def test_a_network_is_told_as_it_is_written(text: str) -> None:
    assert text == str(parse_network(text))


@pytest.mark.parametrize("text", ["100/s", "1/min", "1000000/h", "5/day"])
def test_a_rate_is_told_as_it_is_written(text: str) -> None:
    assert text == str(parse_rate(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1/8", "10.0.0.1/8 is an address in 10.0.0.0/8; write that, or 10.0.0.1 for it"),
        ("fd00::1/8", "fd00::1/8 is an address in fd00::/8; write that, or fd00::1 for it alone"),
        (
            "10.0.0.0/33",
            "'10.0.0.0/33' is not a network: behind the '/' stands a number from 0 to 32",
        ),
        ("10.0.0.0/", "'10.0.0.0/' is not a network: behind the '/' stands a number from 0 to 32"),
        (
            "10.0.0.0/08",
            "'10.0.0.0/08' is not a network: behind the '/' stands a number from 0 to 32",
        ),
        ("10.0.0.0/255.0.0.0", "'10.0.0.0/255.0.0.0' is not a network: behind the '/' stands a"),
        (
            "fd00::/129",
            "'fd00::/129' is not a network: behind the '/' stands a number from 0 to 128",
        ),
        ("fd00::1::2/8", "'fd00::1::2' is not a valid IPv6 address"),
        ("10.0.0", f"'10.0.0' {NEITHER}"),
        ("10.0.0.1:80", f"'10.0.0.1:80' {NEITHER}"),
        ("[fd00::1]", f"'[fd00::1]' {NEITHER}"),
        ("fe80::1%eth0", f"'fe80::1%eth0' {NEITHER}"),
        ("office", f"'office' {NEITHER}"),
        ("", f"'' {NEITHER}"),
        ("10.0.0.1\n", rf"'10.0.0.1\n' {NEITHER}"),
        ("0.0.0.0", "0.0.0.0 is not a client; write 0.0.0.0/0 for all of them"),
        ("::", ":: is not a client; write ::/0 for all of them"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is IPv4 written as IPv6; write it as IPv4, such as"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(text: str, expected: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_network(text)
    assert expected == str(caught.value)[: len(expected)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max_connections: 0", f"20: frontend.max_connections: '0' {COUNT}"),
        ("max_connections: 1000001", f"20: frontend.max_connections: '1000001' {COUNT}"),
        ("max_connections: many", f"20: frontend.max_connections: 'many' {COUNT}"),
        ("rate: 100", "9: frontend.rate: '100' has no unit; write 100/s (or /min, /h, /day)"),
        (
            "rate: 100/m",
            f"9: frontend.rate: '100/m' {NOT_A_RATE}",
        ),
        (
            "rate: 0/s",
            f"9: frontend.rate: '0/s' {NOT_A_RATE}",
        ),
        (
            "rate: 1000001/s",
            "9: frontend.rate: 1000001/s is out of range; allowed is 1 to 1000000 of them",
        ),
        ("refuse: reject", "11: frontend.refuse: 'reject' is not known here; write reset or drop"),
        ("allow: []", "10: frontend.allow: the list is empty; at least one item must be in it"),
        (
            "allow: {}",
            "10: frontend.allow: must be the clients that may connect, and no others: a list such"
            " as [10.0.0.0/8], not a mapping (key: value)",
        ),
        (
            "deny: [10.0.0.1, 10.0.0.1/32]",
            "20: frontend.deny[1]: 10.0.0.1/32 is listed already: frontend.deny[0] (line 5); list"
            " every one once",
        ),
        (
            "allow: ['fd00::/8']",
            "10: frontend.allow: no network is IPv4, and frontend.bind (line 2) is: no"
            " client could connect to it; add one, such as 0.0.0.0/0 for all clients",
        ),
        # Of what is refused nobody knows whom it would have let in.
        ("allow: [10.0.0.1/8, '::/0']", "11: frontend.allow[0]: 10.0.0.1/8 is an address in"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(line: str, expected: str) -> None:
    [problem] = problems_of(text_of(line))
    beginning = f"f:5:{expected}"
    assert beginning == problem[: len(beginning)]


def test_thousands_of_networks_are_read_and_not_more() -> None:
    networks = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(MAX_NETWORKS + 1)]
    found = frontend_of(f"deny: [{', '.join(networks[:-1])}]").access.deny
    assert [str(network) for network in found] == networks[:-1]
    [problem] = problems_of(text_of(f"deny: [{', '.join(networks)}]"))
    expected = (
        f"frontend.deny[{MAX_NETWORKS}]: more than {MAX_NETWORKS} are in the list; write fewer and"
        " wider ones"
    )
    assert expected == problem.split(": ", 1)[1]


def test_a_backend_may_have_a_limit_of_its_own() -> None:
    backends = "[{address: 10.0.0.2:80, max_connections: 100}, 10.0.0.3:80]"
    found = frontend_of("max_connections: 5", backends=backends)
    assert (found.access.max_connections, [b.max_connections for b in found.backends]) == (
        5,
        [100, 0],
    )


def test_a_limit_of_a_backend_has_the_same_bounds() -> None:
    expected = f"f:4:54: frontend.backends[0].max_connections: '0' {COUNT}"
    backends = "[{address: 10.0.0.2:80, max_connections: 0}]"
    assert [expected] == problems_of(text_of(backends=backends))
