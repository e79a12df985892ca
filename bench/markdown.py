"""Numbers as Markdown. Owns how a spread, a table row and a verdict look; measures nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import yaml


def describe_software() -> str:
    """Name what every number depends on: the interpreter, and whether YAML is read in C."""
    libyaml = "with" if hasattr(yaml, "CSafeLoader") else "WITHOUT"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"# Measured\n\n{python}, PyYAML {yaml.__version__} {libyaml} libyaml."


def row(*cells: object) -> str:
    """Return one row of a table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(*titles: str, texts: int) -> str:
    """Return the first two rows of a table: the first `texts` columns hold text, others numbers."""
    rules = ["---" if column < texts else "---:" for column in range(len(titles))]
    return f"{row(*titles)}\n{row(*rules)}"


class Spread(NamedTuple):
    """What came of several rounds."""

    least: float
    middle: float
    greatest: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return the least, the median and the greatest of `values`."""
    return Spread(min(values), median(values), max(values))


def spread(values: Sequence[float], *, digits: int = 1) -> tuple[str, str, str]:
    """Return the same as text."""
    least, middle, greatest = (f"{value:.{digits}f}" for value in spread_of(values))
    return least, middle, greatest


def verdict(needed: str, *, broken_by: Iterable[str]) -> str:
    """Return the line that says whether what was needed held, and where it did not."""
    found = ", ".join(broken_by)
    return f"\nNeeded: {needed}. **{f'NOT held: {found}' if found else 'Held'}.**"
