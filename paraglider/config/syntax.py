"""YAML's own errors in our words: what stands there, and what to write in its place.

Owns the translation of yaml.YAMLError, once, at the border. libyaml and PyYAML's Python scanner
word the same error differently, so each row of the table names what the two have in common.

One mistake is so natural that it is looked for by itself: an IPv6 address in brackets without
quotes. YAML takes the bracket for a list::

    bind: [fd00::1]:80          # a syntax error, in words that help nobody
    bind: "[fd00::1]:80"        # what was meant
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from yaml.error import Mark, MarkedYAMLError, YAMLError

from paraglider.config.problems import MAX_PROBLEMS, Place, Unreadable
from paraglider.config.quote import quoted
from paraglider.config.text import count_line_ends, line_start

if TYPE_CHECKING:  # not at run time: PyYAML without libyaml has no such module
    from yaml._yaml import Mark as CMark

# Not after a quote: what is quoted is right.
_BARE_BRACKET = (
    rb"(?<![\"'])\[[0-9A-Fa-f.]{0,4}:[0-9A-Fa-f:.]{1,40}(?:%[0-9A-Za-z]{1,15})?\]:[0-9]{1,5}"
    rb"(?:[-,][0-9]{1,5}(?![0-9.:])){0,99}"  # not the beginning of the next address of a list
)

_BAD_INDENT = (
    "this line does not fit the lines above: indent the keys of one frontend alike,"
    " and begin list items with '- '"
)

# Part of the error's problem or context, and what it means; the first row that fits wins.
_MEANINGS = (
    ("tab character", "a tab stands here, where YAML takes only spaces"),
    ("scanning an anchor", "anchors (&) are not supported; put the value in quotes if it is text"),
    (
        "scanning an alias",
        "YAML takes '*' for an alias, which is not supported; as a bind for any address it needs"
        ' quotes, such as "*:80"',
    ),
    ("tag", "tags (!) are not supported; put the value in quotes if it is text"),
    (
        "cannot start any token",
        "a value may not begin with this character; put the value in quotes if it belongs there",
    ),
    (
        "mapping values are not allowed",
        "a ':' stands where no key can be: either the line above or its indentation is wrong,"
        " or a value holds ': ' and needs quotes",
    ),
    ("mapping keys are not allowed", "a '?' cannot begin a key here; remove it"),
    ("found unexpected ':'", "a ':' cannot stand here; put the value in quotes"),
    ("could not find expected ':'", "this line is neither 'key: value' nor '- item'"),
    ("sequence entries are not allowed", "a list item ('- ') cannot begin here: use a new line"),
    ("quoted scalar", "this quote is never closed, or an escape (\\) in it is unknown"),
    ("flow sequence", "the list that begins with '[' here is not closed by ']' or lacks a ','"),
    ("flow mapping", "what begins with '{' here is not closed by '}' or lacks a ','"),
    ("node content", "a value was expected here"),
    ("block mapping", _BAD_INDENT),
    ("block collection", _BAD_INDENT),
    ("document start", "the document ends above, and this stands after it; remove it"),
    ("block scalar", "the text that begins with '|' or '>' is not well-formed; use plain text"),
)

# Rows whose place is where the thing began, not where the reader gave up.
_OPENED_BY = (
    "scanning an a",
    "could not find expected ':'",
    "quoted scalar",
    "flow sequence",
    "flow mapping",
)


def translate(error: YAMLError, text: bytes) -> Unreadable:
    """Return the error of YAML's scanner or parser over `text` in our words."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Unreadable((Place(None, None, ""), f"is not YAML: {quoted(str(error))}"))
    place = mark_place(error.problem_mark)
    if blamed := blame_brackets(tuple(find_bare_brackets(text)), place):
        return blamed
    said = f"{error.context} {error.problem}"
    if "cannot start any token" in said and _character_at(text, error.problem_mark) == "\t":
        said = "tab character"
    for part, meaning in _MEANINGS:
        if part in said:
            if part.startswith(_OPENED_BY) and error.context_mark is not None:
                place = mark_place(error.context_mark)
            return Unreadable((place, f"not YAML: {meaning}"))
    return Unreadable((place, f"not YAML: {quoted(str(error.problem))}"))


def mark_place(mark: Mark | CMark | None, key_path: str = "") -> Place:
    """Return the place of a mark, which counts from 0."""
    if mark is None:
        return Place(None, None, key_path)
    return Place(mark.line + 1, mark.column + 1, key_path)


def blame_brackets(found: Sequence[tuple[Place, str]], place: Place) -> Unreadable | None:
    """Blame all of `found`, if one of them stands on the line of `place`."""
    return Unreadable(*found) if any(spot.line == place.line for spot, _ in found) else None


def find_bare_brackets(text: bytes) -> Iterator[tuple[Place, str]]:
    """Yield the first bracketed addresses with a port that have no quotes, and what to write."""
    if b"]:" not in text:
        return
    line = 1
    counted = 0
    # Few, and lines counted once, so that a megabyte of them costs no more than the first.
    for match in islice(re.finditer(_BARE_BRACKET, text), MAX_PROBLEMS):
        line += count_line_ends(text, counted, match.start())
        counted = match.start()
        before = text[line_start(text, counted) : counted].decode()
        if "#" in before or before.count('"') % 2 or before.count("'") % 2:
            continue
        yield (
            Place(line, len(before) + 1, ""),
            "an address in brackets needs quotes, or YAML takes it for a list:"
            f' write "{match[0].decode()}"',
        )


def _character_at(text: bytes, mark: Mark | CMark) -> str:
    return text.decode()[mark.index : mark.index + 1]
