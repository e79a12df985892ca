"""One table of exit codes: errors.py has it, help and documents repeat it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from paraglider.cli.parser import build_parser
from paraglider.errors import EXIT_CODES, ParagliderError

_ROOT = Path(__file__).parents[2]


def _table(page: str) -> dict[int, str]:
    """Return the rows below the header `| exit code | meaning |` of a page."""
    text = (_ROOT / page).read_text(encoding="utf-8")
    rows = re.search(r"\| exit code \| meaning \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text)
    assert rows, f"{page} has no table of exit codes"
    cells = (row.strip("|").split("|") for row in rows[1].splitlines())
    return {int(code): meaning.strip() for code, meaning in cells}


def _exit_codes(error: type[ParagliderError]) -> Iterator[int]:
    yield error.exit_code
    for kind in error.__subclasses__():
        yield from _exit_codes(kind)


def test_every_error_has_an_exit_code_of_the_table() -> None:
    """Also those of subclasses."""
    assert set(_exit_codes(ParagliderError)) <= set(EXIT_CODES)


def test_the_readme_has_the_table() -> None:
    """Word for word."""
    assert _table("README.md") == EXIT_CODES


def test_the_long_table_has_the_same_codes() -> None:
    """In its own words."""
    assert list(_table("docs/troubleshooting.md")) == list(EXIT_CODES)


def test_help_has_the_table() -> None:
    """One code a line."""
    said = build_parser().format_help()
    rows = re.findall(r"^ +(\d+)  (.+)$", said.split("Exit codes:\n")[1], re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
