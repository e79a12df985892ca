"""What a configuration says that nothing comes of is told, and nothing else is."""

from __future__ import annotations

import pytest

from paraglider.config.effect import agent_findings, effect_findings
from paraglider.config.model import Config
from paraglider.config.parse import parse_config
from tests.unit.config_files import frontend_of

SERVERS = "[10.0.0.2:80, 10.0.0.3:80]"


@pytest.mark.parametrize(
    ("more", "backends", "reason"),
    [
        ("balance: random\nhash_key: source,port", SERVERS, "hash_key is for balance: source-hash"),
        ("balance: source-hash\nhash_key: source,port", SERVERS, ""),
        ("refuse: drop", SERVERS, ""),  # it says what becomes of clients while nobody can serve
        ("deny: [0.0.0.0/0]", SERVERS, "deny has every address"),
        ("deny: [0.0.0.0/1, 128.0.0.0/1]", SERVERS, "deny has every address"),
        ('deny: ["::/0"]', SERVERS, ""),
        ("", "[{address: 10.0.0.2:80, weight: 0}]", "every backend has weight 0"),
        ("", "[{address: 10.0.0.2:80, weight: 0}, 10.0.0.3:80]", ""),
        ("", SERVERS, ""),
    ],
)
def test_what_has_no_effect_is_told(more: str, backends: str, reason: str) -> None:
    frontend = frontend_of(more, backends=backends)
    findings = effect_findings(Config("f", (frontend,)))
    assert [reason in finding for finding in findings] == ([True] if reason else [])
    assert all(finding.startswith(f"{frontend.name}: ") for finding in findings)


@pytest.mark.parametrize(
    ("deny", "reason"),
    [
        ('"0.0.0.0/0", "::/0"', ["every address: no client"]),
        ('"0.0.0.0/0"', ["every IPv4 address: no IPv4 client"]),
        ('"::/0"', ["every IPv6 address: no IPv6 client"]),
        ('"2001:db8::/32"', []),
    ],
)
def test_of_both_families_it_is_told_of_which(deny: str, reason: list[str]) -> None:
    """The other half serves on."""
    text = (
        'frontend:\n  bind: ["10.0.0.1:80", "[fd00::1]:80"]\n  privateip: auto\n'
        f"  hash_key: source,port\n  deny: [{deny}]\n"
        '  backends: ["10.0.0.2:80", "[fd00::2]:80"]\n'
    )
    hashed, *denied = effect_findings(parse_config(text.encode(), source="f"))
    assert "hash_key" in hashed
    assert [t in finding for t, finding in zip(reason, denied, strict=True)] == [True] * len(reason)


@pytest.mark.parametrize(
    ("more", "backends", "reason"),
    [
        ("balance: least-connections", SERVERS, "balance: least-connections is random"),
        ("affinity: 3h", SERVERS, "affinity leads a client back"),
        ("", "[{address: 10.0.0.2:80, max_connections: 9}]", "max_connections of a backend"),
        ("max_connections: 9", SERVERS, ""),
        ("balance: random", SERVERS, ""),
    ],
)
def test_what_takes_an_agent_is_told(more: str, backends: str, reason: str) -> None:
    findings = agent_findings(Config("f", (frontend_of(more, backends=backends),)))
    assert [reason in finding for finding in findings] == ([True] if reason else [])
