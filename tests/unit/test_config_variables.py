"""The environment variables: one list, which code and documents keep to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paraglider.config.variables import VARIABLES, read_drain, unknown_variables
from paraglider.errors import ConfigError

_ROOT = Path(__file__).parents[2]
_FILES = [
    *(_ROOT / "paraglider").rglob("*.py"),
    *(_ROOT / "image").glob("*.*"),
    *(_ROOT / "docs").glob("*.md"),
    *(_ROOT / "compose").rglob("*.yaml"),
    _ROOT / "README.md",
    _ROOT / "Dockerfile",
]


def test_every_variable_that_is_spoken_of_is_in_the_list() -> None:
    """In code, image, documents and demos."""
    found = {
        name
        for path in _FILES
        for name in re.findall(r"PARAGLIDER_[A-Z_]*[A-Z]\b", path.read_text())
    }
    kubernetes = {"PARAGLIDER_SERVICE_", "PARAGLIDER_PORT", "PARAGLIDER_NAME"}
    assert {name for name in found if not name.startswith(tuple(kubernetes))} <= set(VARIABLES)


def test_every_variable_is_documented() -> None:
    """In the reference."""
    text = (_ROOT / "docs/configuration.md").read_text()
    assert [name for name in VARIABLES if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("PARAGLIDER_BACKEND", "did you mean PARAGLIDER_BACKENDS?"),
        ("PARAGLIDER_DRIAN", "did you mean PARAGLIDER_DRAIN?"),
        ("PARAGLIDER_COLOUR", "known are PARAGLIDER_BIND"),
        ("PARAGLIDER_\x1b[2J", "unknown environment variable PARAGLIDER_\\x1b[2J"),
    ],
)
def test_an_unknown_variable_is_told(name: str, reason: str) -> None:
    """With the nearest, or all."""
    (warning,) = unknown_variables({name: "x"})
    assert reason in warning


def test_known_variables_and_those_of_others_are_not_told() -> None:
    """Kubernetes and Docker make some for a service and a container of this name."""
    others = [
        *("PARAGLIDER_SERVICE_HOST", "PARAGLIDER_SERVICE_PORT_HTTP", "PARAGLIDER_PORT"),
        *("PARAGLIDER_PORT_80_TCP_ADDR", "PARAGLIDER_NAME", "PARAGLIDER_ENV_X", "PATH"),
    ]
    assert unknown_variables(dict.fromkeys([*VARIABLES, *others], "x")) == []


@pytest.mark.parametrize(
    ("text", "drain_s"), [("", 0.0), (" ", 0.0), ("500ms", 0.5), ("1d", 86400)]
)
def test_the_drain_is_a_time(text: str, drain_s: float) -> None:
    """Set to nothing is not set."""
    assert read_drain({"PARAGLIDER_DRAIN": text}) == drain_s


@pytest.mark.parametrize("text", ["30", "soon", "2d", "-1s"])
def test_a_drain_that_is_no_time_is_refused(text: str) -> None:
    """By the name of its variable."""
    with pytest.raises(ConfigError, match="environment: PARAGLIDER_DRAIN: "):
        read_drain({"PARAGLIDER_DRAIN": text})
