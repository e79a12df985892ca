"""Links of the pages lead to files and headings, and their commands are read by the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from paraglider.cli.parser import parse_line

_ROOT = Path(__file__).parents[2]
_PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "compose/**/*.md", "tests/*.md", "bench/*.md")
    for page in _ROOT.glob(pattern)
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TARGETS = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))


def _links(page: Path) -> list[str]:
    return _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its own, and those of headings, as GitHub makes them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {*re.findall(r'<a id="(.*?)">', text), *(name.replace(" ", "-") for name in plain)}


def _commands(page: Path) -> list[list[str]]:
    """Return the words of each command line in the page's blocks, without what is not ours: `sudo`,
    the container it runs in, and what reads its output."""
    text = page.read_text(encoding="utf-8")
    blocks = [code for kind, code in _BLOCK.findall(text) if kind == "sh"]
    indented = re.findall(r"^ {4}(\S.*)$", _BLOCK.sub("", text), re.MULTILINE)
    lines = "\n".join([*blocks, *indented]).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := _own_words(line))]


def _own_words(line: str) -> list[str]:
    words = re.split(r" [|>] | && |;", line)[0]
    start = re.match(
        r"(?:sudo |docker (?:compose )?exec \S+ |docker run (?!-d ).* )?(paraglider .*|make .*)",
        words,
    )
    return shlex.split(start[1], comments=True) if start else []


_ALL_LINKS = [(page, link) for page in _PAGES for link in _links(page)]
_ALL_COMMANDS = [(page, words) for page in _PAGES for words in _commands(page)]


def _name(value: object) -> str:
    if isinstance(value, Path):
        return str(value.relative_to(_ROOT))
    return " ".join(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("page", "link"), _ALL_LINKS, ids=_name)
def test_a_link_leads_to_a_file_and_an_anchor(page: Path, link: str) -> None:
    if re.match(r"https?://|mailto:", link):
        return
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    assert target.exists()
    if anchor:
        assert anchor in _anchors(target)


@pytest.mark.parametrize("words", [words for _, words in _ALL_COMMANDS], ids=_name)
def test_a_command_is_one_that_there_is(words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        assert set(rest) <= _TARGETS
    else:
        assert parse_line(rest).command


def test_links_and_commands_are_found() -> None:
    """So that the tests above are about something."""
    assert len(_ALL_LINKS) > 50
    assert {words[0] for _, words in _ALL_COMMANDS} == {"make", "paraglider"}
    assert {"status", "drain", "check"} <= {word for _, words in _ALL_COMMANDS for word in words}
