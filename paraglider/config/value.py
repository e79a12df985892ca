"""Values of one word or one number, and how a value or a list is read with its problems told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from paraglider.config.address import Refused
from paraglider.config.document import Document, Kind, Text
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.yaml11 import with_reading

T = TypeVar("T")

WHOLE_PATTERN = r"0|[1-9][0-9]{0,8}"
# Bounds of a number of connections, and of new ones in a time.
CONNECTIONS = (1, 1_000_000)
_FLAGS = {"true": True, "false": False}


def parse_word(text: str, words: Mapping[str, T]) -> T:
    """Return what the word stands for. Raises Refused, which names them all."""
    if text in words:
        return words[text]
    raise Refused(f"{quoted(text)} is not known here; write {any_of(list(words))}")


def parse_flag(text: str) -> bool:
    """Return whether it is true. Raises Refused."""
    return parse_word(text, _FLAGS)


def parse_whole(text: str, least: int, most: int) -> int:
    """Return a whole number within bounds. Raises Refused."""
    if re.fullmatch(WHOLE_PATTERN, text) and least <= int(text) <= most:
        return int(text)
    raise Refused(f"{quoted(text)} is not a whole number from {least} to {most}")


def parse_count(text: str) -> int:
    """Return a number of connections. Raises Refused."""
    return parse_whole(text, *CONNECTIONS)


def read_text(document: Document, problems: Problems, place: Place, wanted: str) -> Text | None:
    """Take the scalar that is next, or skip what is no scalar and tell."""
    if document.kind is Kind.TEXT:
        return document.take_text()
    document.blame_bare_brackets()
    problems.add(place, document.kind.is_not(wanted))
    document.skip()
    return None


def draft_value(
    text: Text, parse: Callable[[str], T], place: Place, problems: Problems
) -> tuple[T, Place] | None:
    """Return what `parse` makes of `text`, or None once the problem (it raises Refused) is told."""
    try:
        return parse(text.value), place
    except Refused as refused:
        problems.add(place, with_reading(str(refused), text.value, is_plain=text.is_plain))
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


def read_items(document: Document, problems: Problems, place: Place, one: str) -> Iterator[Place]:
    """Enter the list that is next; yield the place of each item, which the caller must take or
    skip. A list without `one` is told."""
    count = 0
    for _ in document.each_entry():
        yield document.place(f"{place.key_path}[{count}]")
        count += 1
    if not count:
        problems.add(place, f"the list is empty; at least one {one} must be in it")


def read_texts(
    document: Document, problems: Problems, place: Place, wanted: str, most: int
) -> Iterator[tuple[Text, Place]]:
    """Yield the scalar that is next, or each of the list that is, up to `most`. What is
    none, and what is beyond, is told and skipped."""
    if document.kind is not Kind.LIST:
        if text := read_text(document, problems, place, wanted):
            yield text, place
        return
    document.blame_bare_brackets()
    count = 0
    for item in read_items(document, problems, place, "item"):
        count += 1
        if count <= most:
            if text := read_text(document, problems, item, wanted):
                yield text, item
            continue
        if count == most + 1:
            problems.add(item, f"more than {most} are in the list; write fewer and wider ones")
        document.skip()


def any_of(words: list[str]) -> str:
    """Return the words as a choice: ``tcp, http or none``."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
