"""Whatever is given, the answer is a Config of values alone or a readable ConfigError."""

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from paraglider.config.address import Refused, Role
from paraglider.config.endpoint import parse_endpoint
from paraglider.config.environment import VARIABLES, parse_environment
from paraglider.config.model import NAME_PATTERN, Config, Endpoint, Frontend
from paraglider.config.parse import parse_config
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
FRONTENDS = st.fixed_dictionaries(
    {
        "name": st.one_of(st.from_regex(NAME_PATTERN, fullmatch=True), st.text(max_size=20)),
        "bind": ENDPOINTS,
        "privateip": st.one_of(st.ip_addresses().map(str), st.text(max_size=20)),
        "backends": st.lists(ENDPOINTS, max_size=4),
    }
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


def is_frontend(value: object) -> bool:
    return (
        type(value) is Frontend
        and re.fullmatch(NAME_PATTERN, value.name) is not None
        and is_endpoint(value.bind)
        and is_address(value.privateip)
        and type(value.backends) is tuple
        and len(value.backends) > 0
        and all(map(is_endpoint, value.backends))
        and {value.family} == {backend.family for backend in value.backends}
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
@given(st.dictionaries(st.sampled_from(VARIABLES), st.one_of(ENDPOINTS, st.text())))
def test_any_variables_are_answered(environment: dict[str, str]) -> None:
    assert is_answered(lambda: parse_environment(environment))


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
