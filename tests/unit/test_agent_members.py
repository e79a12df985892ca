"""Which backends a command means."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from paraglider.agent.members import match_backend
from paraglider.config.model import Endpoint
from paraglider.errors import UsageError
from paraglider.health.service import Pair
from tests.services import bind_at

_WEB, _API = (bind_at(Endpoint(ip_address("192.0.2.10"), port)) for port in (80, 81))
_A, _B, _C = (Endpoint(ip_address(f"10.0.0.{number}"), 8080) for number in (11, 12, 13))
_MEMBERS = [
    ("web", "10.0.0.11", (_WEB, _A)),
    ("web", "shop", (_WEB, _B)),
    ("web", "shop", (_WEB, _C)),
    ("api", "10.0.0.11", (_API, _A)),
]


@pytest.mark.parametrize(
    ("text", "frontend", "wanted"),
    [
        ("10.0.0.11:8080", "", [(_WEB, _A), (_API, _A)]),
        ("10.0.0.11:8080", "api", [(_API, _A)]),
        ("10.0.0.12", "", [(_WEB, _B)]),
        ("shop", "", [(_WEB, _B), (_WEB, _C)]),
        ("shop:8080", "web", [(_WEB, _B), (_WEB, _C)]),
    ],
)
def test_a_backend_is_known_by_address_or_name(
    text: str, frontend: str, wanted: list[Pair]
) -> None:
    """In all frontends that have it, or in the one that is named."""
    assert match_backend(text, frontend, _MEMBERS) == wanted


@pytest.mark.parametrize(
    ("text", "frontend", "reason"),
    [
        ("10.0.0.14:80", "api", "no such backend: '10.0.0.14:80'; backends: 10.0.0.11:8080"),
        ("shop:80", "api", "no such backend: 'shop:80'; backends: 10.0.0.11:8080"),
        ("shop", "wep", "no such frontend: 'wep'; frontends: api, web"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(text: str, frontend: str, reason: str) -> None:
    """So that the command can be mended."""
    with pytest.raises(UsageError, match=re.escape(reason)):
        match_backend(text, frontend, _MEMBERS)
