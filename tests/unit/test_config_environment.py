"""The variables that stand in for a file."""

from ipaddress import ip_address

import pytest

from paraglider.config.environment import is_configured, parse_environment
from paraglider.config.keys import FRONTEND_KEYS
from paraglider.config.model import Backend, Config, Endpoint
from paraglider.config.parse import parse_config
from paraglider.config.problems import MAX_PROBLEMS
from paraglider.errors import ConfigError
from tests.unit.config_files import SEED_SAMPLE, backend, frontend_at

YAML = "PARAGLIDER_CONFIG_YAML"
BIND = "PARAGLIDER_BIND"
PRIVATEIP = "PARAGLIDER_PRIVATEIP"
BACKENDS = "PARAGLIDER_BACKENDS"
GOOD = {
    BIND: "166.1.101.2:4444",
    PRIVATEIP: "172.19.0.4",
    BACKENDS: "172.19.0.2:5555,172.19.0.3:5555",
}


def problems_of(environment: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_environment(environment)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "environment",
    [GOOD, {key: f" {value.replace(',', ' , ')} " for key, value in GOOD.items()}],
)
def test_three_variables_are_a_configuration(environment: dict[str, str]) -> None:
    """Spaces around values and commas do not count."""
    frontend = frontend_at(
        "default",
        Endpoint(ip_address("166.1.101.2"), 4444),
        ip_address("172.19.0.4"),
        (backend("172.19.0.2", 5555), backend("172.19.0.3", 5555)),
    )
    assert Config("environment", (frontend,)) == parse_environment(environment)


def test_a_variable_may_name_hosts() -> None:
    [frontend] = parse_environment(GOOD | {BACKENDS: "Web:5555, db.lan:1"}).frontends
    assert frontend.backends == (Backend("web", 5555), Backend("db.lan", 1))


def test_ipv6_needs_no_quotes_in_variables() -> None:
    environment = {BIND: "[fd00::1]:80", PRIVATEIP: "fd00::1", BACKENDS: "[fd00::2]:80"}
    [frontend] = parse_environment(environment).frontends
    assert Endpoint(ip_address("fd00::1"), 80) == frontend.bind.endpoint


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("eth0:80", ["eth0:80"]),
        ("*:80, 443", ["0.0.0.0:80", "0.0.0.0:443"]),
        (" 10.0.0.1:80,443  eth0:81\n10.0.0.1:82 ", ["10.0.0.1:80", "10.0.0.1:443", "eth0:81",
                                                     "10.0.0.1:82"]),
    ],
)  # fmt: skip
def test_a_variable_may_hold_several_binds_with_spaces_between(
    bind: str, expected: list[str]
) -> None:
    """Their ports may have commas."""
    [frontend] = parse_environment(GOOD | {BIND: bind}).frontends
    assert expected == [str(found) for found in frontend.binds]


@pytest.mark.parametrize(
    ("privateip", "expected"),
    [
        ("auto", "auto"),
        ("keep", "keep"),
        ("172.19.0.4-172.19.0.9", "172.19.0.4-172.19.0.9"),
        ("172.19.0.9,172.19.0.4", "172.19.0.4, 172.19.0.9"),
        ("172.19.0.4-172.19.0.6, 172.19.0.7 172.19.1.1", "172.19.0.4-172.19.0.7, 172.19.1.1"),
    ],
)
def test_a_variable_may_say_all_that_privateip_may(privateip: str, expected: str) -> None:
    """With commas or spaces between."""
    [frontend] = parse_environment(GOOD | {PRIVATEIP: privateip}).frontends
    assert expected == str(frontend.source)


def test_binds_of_both_families_are_two_frontends() -> None:
    environment = {BIND: "*:80", PRIVATEIP: "auto", BACKENDS: "172.19.0.2,[fd00::2]:81,web"}
    found = parse_environment(environment).frontends
    assert [[str(backend) for backend in frontend.backends] for frontend in found] == [
        ["172.19.0.2", "web"],
        ["[fd00::2]:81", "web"],
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"PARAGLIDER_BACKEND": "x"}, False),
        ({BIND: "", PRIVATEIP: " ", BACKENDS: ""}, False),
        ({BIND: "x"}, True),
        ({PRIVATEIP: "x"}, True),
        ({BACKENDS: "x"}, True),
        ({YAML: "\n"}, False),
        ({YAML: "x"}, True),
    ],
)
def test_one_variable_that_says_something_is_enough_to_be_asked(
    environment: dict[str, str], expected: bool
) -> None:
    """Compose files set a variable to nothing where the user left it out."""
    assert expected == is_configured(environment)


def test_what_is_missing_is_told_by_the_name_of_the_variable() -> None:
    expected = [
        f"environment: PARAGLIDER_BIND: is not set; it holds {FRONTEND_KEYS['bind']}",
        f"environment: PARAGLIDER_PRIVATEIP: is not set; it holds {FRONTEND_KEYS['privateip']}",
        "environment: PARAGLIDER_BACKENDS: is not set; it holds the servers, as ADDRESS:PORT with"
        " commas between, such as 172.19.0.2:5555",
    ]
    assert expected == problems_of({})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {BIND: "22:22"},
            "PARAGLIDER_BIND: '22' is not an IPv4 address, which has four numbers;"
            " write an address such as 192.0.2.10",
        ),
        (
            {PRIVATEIP: "fd00::1"},
            "PARAGLIDER_PRIVATEIP: fd00::1 is IPv6, but PARAGLIDER_BIND is IPv4;"
            " write one of that family, or add a bind of this one",
        ),
        (
            {BIND: "10.0.0.1:80, 10.0.0.2:80"},
            "PARAGLIDER_BIND: '10.0.0.1:80, 10.0.0.2:80' is more than one bind; write a list of"
            " them, or in a variable spaces between",
        ),
        (
            {BIND: "10.0.0.1:80 10.0.0.1:80"},
            "PARAGLIDER_BIND[1]: 10.0.0.1:80 is a bind already: PARAGLIDER_BIND[0]; each needs an"
            " address and port of its own",
        ),
        (
            {PRIVATEIP: " , "},
            f"PARAGLIDER_PRIVATEIP: holds commas alone; it holds {FRONTEND_KEYS['privateip']}",
        ),
        (
            {PRIVATEIP: "172.19.0.4, auto"},
            "PARAGLIDER_PRIVATEIP[1]: 'auto' stands alone, not in a list: privateip: auto",
        ),
        (
            {BACKENDS: "172.19.0.2:5555,"},
            "PARAGLIDER_BACKENDS[1]: nothing stands between two commas; remove one",
        ),
        (
            {BACKENDS: "172.19.0.2:1,172.19.0.2:1"},
            "PARAGLIDER_BACKENDS[1]: 172.19.0.2:1 is listed already: PARAGLIDER_BACKENDS[0];"
            " list every backend once",
        ),
        (
            {BACKENDS: "166.1.101.2:4444"},
            "PARAGLIDER_BACKENDS[0]: 166.1.101.2:4444 is a bind of this configuration:"
            " PARAGLIDER_BIND; connections would come back here for ever, name a server",
        ),
        (
            {BACKENDS: "172.19.0.2:5555\n*filter"},
            r"PARAGLIDER_BACKENDS[0]: '5555\n*filter' is not a port;"
            " a port is a number from 1 to 65535",
        ),
        (
            {BIND: "\udcff"},
            r"PARAGLIDER_BIND: '\udcff' has no port; write ADDRESS:PORT or INTERFACE:PORT, such as"
            " eth0:80",
        ),
    ],
)
def test_a_wrong_variable_is_refused_as_in_a_file(changed: dict[str, str], expected: str) -> None:
    assert [f"environment: {expected}"] == problems_of(GOOD | changed)


def test_a_variable_full_of_commas_is_told_in_few_words() -> None:
    assert len(problems_of(GOOD | {BACKENDS: "," * 100_000})) == MAX_PROBLEMS + 1


def test_one_variable_may_hold_all_of_a_file() -> None:
    """Empty ones beside it do not count."""
    expected = parse_config(SEED_SAMPLE, source=YAML)
    assert expected == parse_environment({YAML: SEED_SAMPLE.decode(), BIND: " "})


def test_the_text_in_a_variable_is_taken_as_it_is() -> None:
    """Its first line may be empty, and all of it indented."""
    text = "\n  frontend:\n    bind: 10.0.0.1:80\n    backends: [10.0.0.256]\n"
    expected = [
        f"{YAML}:3:5: frontend.privateip: is missing: {FRONTEND_KEYS['privateip']}",
        f"{YAML}:4:16: frontend.backends[0]: '10.0.0.256' has a number above 255; write an address"
        " such as 172.19.0.2",
    ]
    assert expected == problems_of({YAML: text})


def test_a_variable_that_is_not_utf8_is_told() -> None:
    """As the process is given it: Python keeps such a byte as half a surrogate."""
    expected = f"{YAML}:1:4: the byte 0xff is not UTF-8: save the file as UTF-8"
    assert [expected] == problems_of({YAML: "a: \udcff"})


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({BIND: "x"}, f"is {BIND}"),
        (GOOD, f"are {BIND} and {PRIVATEIP} and {BACKENDS}"),
    ],
)
def test_a_file_in_a_variable_and_addresses_in_others_exclude_each_other(
    others: dict[str, str], named: str
) -> None:
    expected = (
        f"environment: {YAML}: is set, and so {named}; the configuration comes from this alone or"
        " from the others, unset one or the other"
    )
    assert [expected] == problems_of({YAML: SEED_SAMPLE.decode()} | others)
