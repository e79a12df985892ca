"""What docs/configuration.md and the pages of policies show can be written as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from paraglider.config.environment import parse_environment
from paraglider.config.keys import BACKEND_KEYS, CHECK_KEYS, FRONTEND_KEYS, QUORUM_KEYS
from paraglider.config.parse import parse_config

_DOCS = Path(__file__).parents[2] / "docs"
PAGE = (_DOCS / "configuration.md").read_text(encoding="utf-8")
POLICIES = [(_DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("balancing",)]
SAMPLES = re.findall(r"```yaml\n(.*?)```", "\n".join([PAGE, *POLICIES]), re.DOTALL)
VARIABLES = [
    dict(line.split("=", 1) for line in shlex.split(sample))
    for sample in re.findall(r"```sh\n(PARAGLIDER_.*?)```", PAGE, re.DOTALL)
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_sample_is_a_configuration(sample: str) -> None:
    assert parse_config(sample.encode(), source="docs").frontends


@pytest.mark.parametrize("variables", VARIABLES)
def test_the_variables_are_a_configuration(variables: dict[str, str]) -> None:
    assert parse_environment(variables).frontends


def test_every_key_is_on_the_page() -> None:
    keys = {*FRONTEND_KEYS, *BACKEND_KEYS, *CHECK_KEYS, *QUORUM_KEYS}
    assert {key for key in keys if not re.search(rf"`{key}[`:]|{{{key}:|, {key}:", PAGE)} == set()


def test_samples_of_both_kinds_are_found() -> None:
    assert (len(SAMPLES), len(VARIABLES)) == (12, 2)
