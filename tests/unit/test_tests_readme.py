"""tests/README.md teaches with tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_SAMPLES = re.findall(
    r"\]\(([\w/]+\.py)\):\n\n```python\n(.*?)```", (_TESTS / "README.md").read_text(), re.DOTALL
)


def test_there_are_two_samples() -> None:
    """One with sockets, one on the wire."""
    assert [Path(name).name for name, _ in _SAMPLES] == ["test_sockets.py", "test_keepalive.py"]


@pytest.mark.parametrize(("name", "code"), _SAMPLES)
def test_a_sample_is_what_the_file_says(name: str, code: str) -> None:
    """Word for word, and short enough to be a lesson."""
    assert code in (_TESTS / name).read_text()
    assert len(code.splitlines()) <= 20
