"""Values of one word or one number, and how one is read with its problems told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from paraglider.config.address import Refused
from paraglider.config.document import Document, Kind, Text
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted

T = TypeVar("T")

FLAGS = {"true": True, "false": False}


def parse_word(text: str, words: Mapping[str, T]) -> T:
    """Return what the word stands for. Raises Refused, which names them all."""
    if text in words:
        return words[text]
    raise Refused(f"{quoted(text)} is not known here; write {any_of(list(words))}")


def parse_whole(text: str, least: int, most: int) -> int:
    """Return a whole number within bounds. Raises Refused."""
    if re.fullmatch(r"0|[1-9][0-9]{0,8}", text) and least <= int(text) <= most:
        return int(text)
    raise Refused(f"{quoted(text)} is not a whole number from {least} to {most}")


def read_text(document: Document, problems: Problems, place: Place, wanted: str) -> Text | None:
    """Take the scalar that is next, or skip what is no scalar and tell."""
    if document.kind is Kind.TEXT:
        return document.take_text()
    document.blame_bare_brackets()
    problems.add(place, document.kind.is_not(wanted))
    document.skip()
    return None


def read_value(
    document: Document,
    problems: Problems,
    place: Place,
    wanted: str,
    parse: Callable[[str], T],
) -> T | None:
    """Take the scalar that is next; return what `parse` makes of it, or None once its problem
    (`parse` raises Refused) is told."""
    text = read_text(document, problems, place, wanted)
    if text is None:
        return None
    try:
        return parse(text.value)
    except Refused as refused:
        problems.add(place, str(refused))
        return None


def any_of(words: list[str]) -> str:
    """Return the words as a choice: ``tcp, http or none``."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
