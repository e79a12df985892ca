"""Whatever is given, the answer is a Config of values alone or a readable ConfigError."""

import json
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.address import Refused, Role
from paraglider.config.duration import parse_duration
from paraglider.config.endpoint import parse_endpoint
from paraglider.config.environment import ADDRESS_VARIABLES, parse_environment
from paraglider.config.model import HOST_PATTERN, NAME_PATTERN, Endpoint
from paraglider.config.parse import parse_config
from paraglider.config.server import parse_server
from paraglider.config.variables import CONFIG_YAML
from tests.unit.config_values import is_answered

# A slow machine is no failure.
NO_CLOCK = settings(deadline=None)
# Pieces of configurations, put together in any order, reach further than random characters.
PIECES = st.sampled_from(
    [
        "frontend:", "frontends:", "name: ", "bind: ", "privateip: ", "backends:", "\n", "\n  ",
        "\n    ", "\n  - ", "- ", " ", "{", "}", "[", "]", ", ", ": ", "? ", "#", '"', "'", "|",
        ">", "&a ", "*a", "<<: ", "!!str ", "---\n", "...\n", "\t", "~", "no", "010", "22:22",
        "10.0.0.1:80", "10.0.0.2:80", "10.0.0.1", "[fd00::1]:80", "fd00::1", "web", "127.0.0.1:1",
        "web:80", "address: ", "backup: true", "check: ", "check: http", "type: https", "path: /x",
        "status: ", "interval: 2s", "timeout: 5s", "send: ", "quorum: ", "live: 2", "hysteresis: 1",
        "slow_start: 1s", "on_down: keep", "\n      ", "*:80,443", "eth0:80-90", "0.0.0.0:1",
        "protocol: udp", "auto", "keep", "10.0.0.4-10.0.0.9", "allow: ", "deny: ", "10.0.0.0/8",
        "::/0", "rate: 9/s", "max_connections: 9", "refuse: drop", "10.0.0.2",
        "\r", "\x00", "\u2028", "\ufeff", "\U0001f600", "%", "@", "\\", "x" * 50,
    ]
)  # fmt: skip
ENDPOINTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["10.0.0.1:80", "10.0.0.2:80", "[fd00::2]:80", "a:1", "0.0.0.0:80", "10.0.0.2", "[fd00::2]"]
    ),
    st.tuples(st.ip_addresses(), st.integers(-1, 70_000)).map(
        lambda pair: f"[{pair[0]}]:{pair[1]}" if pair[0].version == 6 else f"{pair[0]}:{pair[1]}"
    ),
)


def one_of(*good: str) -> st.SearchStrategy[str]:
    """Return mostly what is right, and sometimes any text."""
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.text(max_size=10))


FLAGS = one_of("true", "false")
NUMBERS = st.one_of(st.integers(-1, 5), st.text(max_size=5))
DURATIONS = st.one_of(
    one_of("2s", "1m", "500ms", "1.5s"),
    st.tuples(st.integers(0, 5000), st.sampled_from(["ms", "s", "m", "h"])).map(
        lambda pair: f"{pair[0]}{pair[1]}"
    ),
)
BINDS = st.builds(
    "{}:{}".format,
    st.sampled_from(["10.0.0.1", "10.0.0.9", "[fd00::1]", "0.0.0.0", "[::]", "*", "eth0", "lo"]),
    st.sampled_from(["80", "80-90", "80,443", "85", "70-79", "80,85", "1-65535", "0", "90-80"]),
)
SOURCES = one_of(
    "auto", "keep", "10.0.0.4", "fd00::4", "10.0.0.4-10.0.0.9", "10.0.0.10", "10.0.0.5"
)
NETWORKS = st.lists(
    st.one_of(
        st.ip_addresses(network="10.0.0.0/8").map(str),
        one_of("10.0.0.0/8", "fd00::/8", "::/0", "0.0.0.0/0", "fd00::1/8"),
    ),
    max_size=3,
)
CHECKS = st.one_of(
    one_of("tcp", "http", "https", "none"),
    st.fixed_dictionaries(
        {},
        optional={
            "type": one_of("tcp", "http", "https", "none"),
            "path": one_of("/", "/x"),
            "host": one_of("example.org", "10.0.0.1:80", "[fd00::1]"),
            "method": one_of("GET", "HEAD"),
            "status": st.one_of(one_of("200", "200-399"), st.lists(NUMBERS, max_size=3)),
            "body": st.text(max_size=5),
            "verify": FLAGS,
            "ca": one_of("/ca"),
            "sni": one_of("example.org", "a"),
            "headers": st.dictionaries(one_of("X-A", "x-a", "Host"), one_of("a", "a b")),
            "send": one_of(r"\x00\xff", r"\r\n"),
            "expect": st.text(max_size=5),
            "port": NUMBERS,
            "address": one_of("10.0.0.9", "fd00::9"),
            "interval": DURATIONS,
            "timeout": DURATIONS,
            "rise": NUMBERS,
            "fall": NUMBERS,
            "start": one_of("up", "down"),
        },
    ),
)
FRONTENDS = st.fixed_dictionaries(
    {
        "name": st.one_of(st.from_regex(NAME_PATTERN, fullmatch=True), st.text(max_size=20)),
        "bind": st.one_of(ENDPOINTS, BINDS, st.lists(BINDS, max_size=3)),
        "privateip": st.one_of(
            st.ip_addresses().map(str), SOURCES, st.lists(SOURCES, max_size=3), st.text(max_size=20)
        ),
        "backends": st.lists(
            st.one_of(
                ENDPOINTS,
                BINDS,
                st.fixed_dictionaries(
                    {"address": ENDPOINTS},
                    optional={"backup": FLAGS, "check": CHECKS, "max_connections": NUMBERS},
                ),
            ),
            max_size=4,
        ),
    },
    optional={
        "check": CHECKS,
        "on_down": one_of("cut", "keep"),
        "no_backend": one_of("reject", "serve-all"),
        "quorum": st.one_of(
            NUMBERS, st.fixed_dictionaries({"live": NUMBERS}, optional={"hysteresis": NUMBERS})
        ),
        "slow_start": DURATIONS,
        "resolve": DURATIONS,
        "hold": DURATIONS,
        "protocol": one_of("tcp", "udp", "tcp+udp"),
        "allow": NETWORKS,
        "deny": NETWORKS,
        "max_connections": NUMBERS,
        "rate": one_of("9/s", "1/day", "1000000/h"),
        "refuse": one_of("reset", "drop"),
    },
)

# Two of these make a file that is taken about once in eight times; of the others, once in 5,000.
LIKELY = st.fixed_dictionaries(
    {
        "bind": st.builds(
            "{}:{}".format,
            st.sampled_from(["10.0.0.1", "10.0.0.9", "0.0.0.0", "*", "eth0", "eth1"]),
            st.sampled_from(["80", "80-90", "80,443", "85", "70-79", "1-65535"]),
        ),
        "privateip": st.sampled_from(["auto", "keep", "10.0.0.4", ["10.0.0.4", "fd00::4"]]),
        "backends": st.one_of(
            st.lists(
                st.sampled_from(["10.0.0.2", "web", "10.0.0.9:85", "10.0.0.3:80", "a:100-110"]),
                min_size=1,
                max_size=3,
                unique=True,
            ),
            st.just(["[fd00::2]", "10.0.0.2:80"]),
        ),
    },
    optional={
        "protocol": st.sampled_from(["tcp", "udp", "tcp+udp"]),
        "allow": st.sampled_from(["10.0.0.0/8", ["10.0.0.0/8", "::/0"]]),
        "deny": st.sampled_from(["10.0.0.0/8", ["fd00::/8", "10.9.0.0/16"]]),
        "check": st.sampled_from(["tcp", "none", {"rise": 3}, {"port": 9}]),
    },
)


@settings(NO_CLOCK)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(text: bytes) -> None:
    assert is_answered(lambda: parse_config(text, source="f"))


@settings(NO_CLOCK)
@given(st.text(max_size=200))
def test_any_text_is_answered(text: str) -> None:
    assert is_answered(lambda: parse_config(text.encode(errors="surrogatepass"), source="f"))


@settings(NO_CLOCK, max_examples=400)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_pieces_of_a_configuration_are_answered(text: str) -> None:
    assert is_answered(lambda: parse_config(text.encode(), source="f"))


@settings(NO_CLOCK, max_examples=200)
@given(st.lists(FRONTENDS, max_size=3))
def test_any_values_in_a_well_formed_file_are_answered(
    frontends: list[dict[str, object]],
) -> None:
    text = json.dumps({"frontends": frontends}).encode()
    assert is_answered(lambda: parse_config(text, source="f"))


@settings(NO_CLOCK, max_examples=400)
@given(LIKELY, LIKELY)
def test_values_that_may_well_be_right_are_answered(
    first: dict[str, object], second: dict[str, object]
) -> None:
    frontends = [first | {"name": "a"}, second | {"name": "b"}]
    text = json.dumps({"frontends": frontends}).encode()
    assert is_answered(lambda: parse_config(text, source="f"))


@settings(NO_CLOCK, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from((*ADDRESS_VARIABLES, CONFIG_YAML)), st.one_of(ENDPOINTS, st.text())
    )
)
def test_any_variables_are_answered(environment: dict[str, str]) -> None:
    assert is_answered(lambda: parse_environment(environment))


@settings(NO_CLOCK, max_examples=400)
@given(CHECKS, st.lists(CHECKS, min_size=1, max_size=3))
def test_any_checks_of_a_frontend_and_its_backends_are_answered(
    check: object, checks: list[object]
) -> None:
    backends = [{"address": f"web{i}:80", "check": own} for i, own in enumerate(checks)]
    frontend = {"bind": "10.0.0.1:80", "privateip": "10.0.0.1", "backends": backends}
    text = json.dumps({"frontend": frontend | {"check": check}}).encode()
    assert is_answered(lambda: parse_config(text, source="f"))


@settings(NO_CLOCK)
@given(st.one_of(st.text(max_size=12), st.text("0123456789.smh", max_size=12)))
def test_any_text_is_a_duration_within_bounds_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text, 1, 60)
    except Refused:
        return
    assert 1 <= seconds <= 60


@settings(NO_CLOCK)
@given(
    st.builds(
        "{}{}".format,
        st.one_of(st.text(max_size=30), st.from_regex(HOST_PATTERN, fullmatch=True)),
        st.sampled_from([":80", "", ":80-90", ":1-65535"]),
    )
)
def test_any_text_is_a_backend_that_prints_as_it_was_written_or_refused(text: str) -> None:
    try:
        backend = parse_server(text)
    except Refused:
        return
    assert backend == parse_server(str(backend))


@settings(NO_CLOCK)
@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_accepted_backend_prints_as_it_was_written(
    address: IPv4Address | IPv6Address, port: int
) -> None:
    written = Endpoint(address, port)
    try:
        parsed = parse_endpoint(str(written), Role.BACKEND)
    except Refused:
        return
    assert written == parsed
