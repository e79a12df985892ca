"""The keys of one mapping: each known, each once, none missing.

Owns the messages about keys. The caller checks the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from paraglider.config.document import Document, Kind
from paraglider.config.keys import home_of, nearest_key
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted


def read_keys(
    document: Document,
    problems: Problems,
    path: str,
    *,
    known: Mapping[str, str],
    required: Sequence[str] = (),
) -> Iterator[tuple[str, Place]]:
    """Yield each known key of the mapping that is next, once, and where it stands.

    `known` says what each key is for. The caller takes or skips the value. Unknown and doubled
    keys, and at the end missing ones, go to `problems`; their values are skipped here.
    """
    start = document.place("")
    seen: dict[str, Place] = {}
    meant: set[str | None] = set()
    for _ in document.each_entry():
        place = document.place(path)
        key = read_key(document, problems, place)
        if key is not None and key in seen:
            problems.add(place, doubled(key, seen[key]))
        elif key is not None and key in known:
            seen[key] = place
            yield key, Place(place.line, place.column, f"{path}.{key}" if path else key)
            continue
        elif key is not None:
            nearest = nearest_key(key, known)
            meant.add(nearest)
            problems.add(place, _unknown(key, nearest, known))
        document.skip()
    for key in required:
        # A mistyped key is told already; that the right one is missing would say it twice.
        if key not in seen and key not in meant:
            missing = Place(start.line, start.column, f"{path}.{key}")
            problems.add(missing, f"is missing: {known[key]}")


def read_key(document: Document, problems: Problems, place: Place) -> str | None:
    """Take the key that is next, or skip what is no key and tell."""
    if document.kind is Kind.TEXT:
        return document.take_text().value
    document.blame_bare_brackets()
    problems.add(place, f"a key must be a word, not {document.kind.value}")
    document.skip()
    return None


def doubled(key: str, first: Place) -> str:
    """Say that a key stands twice."""
    mend = "keep one"
    if key == "frontend":
        mend = "for several, write a list 'frontends:'"
    return f"the key '{key}' stands here again, first on line {first.line}; {mend}"


def _unknown(key: str, meant: str | None, known: Mapping[str, str]) -> str:
    if home := home_of(key, known):
        return f"the key '{key}' belongs under '{home}:'; indent it there"
    guess = f"did you mean '{meant}'? " if meant is not None else ""
    return f"unknown key {quoted(key)}; {guess}allowed here: {', '.join(known)}"
