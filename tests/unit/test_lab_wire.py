"""Endpoints and greetings of the lab's traffic."""

from __future__ import annotations

import pytest

from paraglider.lab.results import Answer
from paraglider.lab.wire import describe, parse_endpoint, parse_greeting, render_greeting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("166.1.101.2:4444", ("166.1.101.2", 4444)),
        ("[::1]:80", ("::1", 80)),
        ("[fd17:19:0::2]:65535", ("fd17:19::2", 65535)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
    ],
)
def test_endpoint_is_an_address_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4444",
        "166.1.101.2",
        "166.1.101.2:",
        "166.1.101.2:http",
        "166.1.101.2:65536",
        "166.1.101.2:-1",
        "166.1.101.2:٤",
        "localhost:80",
        "::1:80",
        "[::1]",
        "[127.0.0.1]:80",
        "[::1:80",
    ],
)
def test_anything_else_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_endpoint(text)


def test_greeting_is_read_back_as_it_was() -> None:
    line = render_greeting("b1", "172.19.0.4", 40000).rstrip(b"\n")
    assert parse_greeting(line) == Answer("b1", "172.19.0.4")


def test_a_peer_of_ipv4_is_told_as_such() -> None:
    """Whatever socket it came in by."""
    assert render_greeting("b1", "::ffff:172.19.0.4", 40000) == b"b1 172.19.0.4 40000\n"


def test_other_servers_are_told_apart() -> None:
    with pytest.raises(ValueError, match="not a greeting"):
        parse_greeting(b"SSH-2.0-OpenSSH_9.2")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError("timed out"), "timed out"),
        (TimeoutError(110, "Connection timed out"), "timed out"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (ConnectionResetError("closed before the greeting"), "closed before the greeting"),
    ],
)
def test_same_failure_has_the_same_words(error: OSError, reason: str) -> None:
    assert describe(error) == reason
