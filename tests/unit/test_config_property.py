"""Whatever is given, the answer is a Config of values alone or a readable ConfigError."""

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.address import Refused, Role
from paraglider.config.duration import parse_duration
from paraglider.config.endpoint import parse_endpoint
from paraglider.config.environment import VARIABLES, YAML, parse_environment
from paraglider.config.model import (
    HOST_PATTERN,
    NAME_PATTERN,
    Backend,
    Check,
    CheckKind,
    Config,
    Endpoint,
    Family,
    Frontend,
)
from paraglider.config.parse import parse_config
from paraglider.config.server import parse_server
from paraglider.errors import ConfigError

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
        "slow_start: 1s", "on_down: keep", "\n      ",
        "\r", "\x00", "\u2028", "\ufeff", "\U0001f600", "%", "@", "\\", "x" * 50,
    ]
)  # fmt: skip
ENDPOINTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["10.0.0.1:80", "10.0.0.2:80", "[fd00::2]:80", "a:1", "0.0.0.0:80"]),
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
            "send": st.text(max_size=5),
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
        "bind": ENDPOINTS,
        "privateip": st.one_of(st.ip_addresses().map(str), st.text(max_size=20)),
        "backends": st.lists(
            st.one_of(
                ENDPOINTS,
                st.fixed_dictionaries(
                    {"address": ENDPOINTS}, optional={"backup": FLAGS, "check": CHECKS}
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
    },
)


def is_address(value: object) -> bool:
    return type(value) in (IPv4Address, IPv6Address)


def is_endpoint(value: object) -> bool:
    return (
        type(value) is Endpoint
        and is_address(value.address)
        and type(value.port) is int
        and 1 <= value.port <= 65535
    )


def is_check(check: object) -> bool:
    """Say whether a check could be made as it is: within bounds, and of one line of HTTP."""
    return (
        type(check) is Check
        and 0.01 <= check.timeout_s <= check.interval_s <= 3600
        and all(1 <= count <= 100 for count in (check.rise, check.fall))
        and (check.address is None or is_address(check.address))
        and (check.port is None or 1 <= check.port <= 65535)
        and all(len(text) <= 1024 for text in (check.send, check.expect, check.http.body))
        and re.fullmatch(r"GET|HEAD|OPTIONS", check.http.method) is not None
        and re.fullmatch(r"/[!-~]*", check.http.path) is not None
        and re.fullmatch(r"[!-~]*", check.http.host) is not None
        and all(100 <= first <= last <= 599 for first, last in check.http.statuses)
        and check.http.statuses != ()
        and (check.kind is not CheckKind.NONE or check == Check(kind=CheckKind.NONE))
    )


def is_backend(value: object, family: Family) -> bool:
    return (
        type(value) is Backend
        and (
            re.fullmatch(HOST_PATTERN, value.host) is not None
            if isinstance(value.host, str)
            else is_address(value.host) and value.host.version == family
        )
        and type(value.port) is int
        and 1 <= value.port <= 65535
        and type(value.is_backup) is bool
        and is_check(value.check)
        and (value.check.address is None or value.check.address.version == family)
    )


def is_frontend(value: object) -> bool:
    return (
        type(value) is Frontend
        and re.fullmatch(NAME_PATTERN, value.name) is not None
        and is_endpoint(value.bind)
        and is_address(value.privateip)
        and type(value.backends) is tuple
        and len(value.backends) > 0
        and all(is_backend(backend, value.family) for backend in value.backends)
        and value.privateip.version == value.family
        and value.quorum.live > value.quorum.hysteresis >= 0
        and 0 <= value.slow_start_s <= 3600
        and 1 <= value.resolve_s <= 3600
    )


def is_told(error: ConfigError) -> bool:
    """Say whether every problem is one line of ASCII of bounded length."""
    lines = [str(problem) for problem in error.problems]
    return bool(lines) and all(
        line.isascii() and line.isprintable() and len(line) < 600 for line in lines
    )


def is_answered(parse: Callable[[], Config]) -> bool:
    try:
        config = parse()
    except ConfigError as error:
        return is_told(error)
    return len(config.frontends) > 0 and all(map(is_frontend, config.frontends))


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


@settings(NO_CLOCK, max_examples=200)
@given(st.dictionaries(st.sampled_from((*VARIABLES, YAML)), st.one_of(ENDPOINTS, st.text())))
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
@given(st.one_of(st.text(max_size=30), st.from_regex(HOST_PATTERN, fullmatch=True)))
def test_any_text_is_a_backend_that_prints_as_it_was_written_or_refused(text: str) -> None:
    written = f"{text}:80"
    try:
        backend = parse_server(written)
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
