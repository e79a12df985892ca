"""One YAML document, read event by event within limits that no file can talk its way around.

Owns the only use of YAML in the product. No object is ever built from the file: PyYAML's loaders
take 716 MiB for a merge-key file of 431 bytes, and fifty thousand brackets crash libyaml's
composer. Here every limit is checked while events arrive, so a file that explodes is left at the
fuse. Scalars stay the text that was written: ``22:22``, ``no`` and ``010`` are five, two and three
characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import yaml
from yaml.events import (
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from paraglider.config.problems import Enough, Place, Unreadable
from paraglider.config.syntax import blame_brackets, find_bare_brackets, mark_place, translate
from paraglider.config.text import clean_text

MAX_DEPTH = 12
MAX_EVENTS = 800_000
# How much may stand where nothing is expected before the rest is not read: an unknown key with a
# hundred thousand values below it is one mistake.
MAX_SKIPPED_EVENTS = 10_000

_NULLS = ("", "~", "null", "Null", "NULL")


class Kind(Enum):
    """What stands next in the document; the value names it in messages."""

    MAPPING = "a mapping (key: value)"
    LIST = "a list"
    TEXT = "a single value"
    NOTHING = "nothing"
    END = "the end"

    def is_not(self, wanted: str) -> str:
        """Say that this is not what was wanted."""
        if self is Kind.NOTHING:
            return f"has no value; write {wanted}"
        return f"must be {wanted}, not {self.value}"


class Text(NamedTuple):
    """A value as it was written; `is_plain` says that it is YAML without quotes."""

    value: str
    is_plain: bool


class Document:
    """A cursor over a document. Each value must be taken, entered or skipped, in its order.

    Every method raises Unreadable where the text stops being YAML or passes a limit.
    """

    def __init__(self, text: bytes, *, loader: type | None = None) -> None:
        self._text = clean_text(text)
        self._events = _read_events(self._text, loader or _fastest_loader())
        self._skipped = 0
        self._bare_brackets: tuple[tuple[Place, str], ...] | None = None
        self._characters: str | None = None
        next(self._events)  # the start of the stream
        self._next = next(self._events)
        if not isinstance(self._next, StreamEndEvent):  # else it is the start of a document
            self._advance()

    @property
    def kind(self) -> Kind:
        """What stands next."""
        event = self._next
        if isinstance(event, ScalarEvent):
            is_null = not event.style and event.value in _NULLS
            return Kind.NOTHING if is_null else Kind.TEXT
        if isinstance(event, MappingStartEvent):
            return Kind.MAPPING
        return Kind.LIST if isinstance(event, SequenceStartEvent) else Kind.END

    def place(self, key_path: str) -> Place:
        """Return where the next value stands."""
        return mark_place(self._next.start_mark, key_path)

    def take_text(self) -> Text:
        """Take the scalar that is next (kind TEXT or NOTHING)."""
        event = self._advance()
        if not isinstance(event, ScalarEvent):
            raise TypeError(f"{event} is not a scalar")
        return Text(event.value, is_plain=not event.style)

    def written(self) -> str:
        """Return the next value as it stands in the file: a scalar with its quotes."""
        if self._characters is None:
            self._characters = self._text.decode()
        start, end = self._next.start_mark, self._next.end_mark
        return "" if start is None or end is None else self._characters[start.index : end.index]

    def each_entry(self) -> Iterator[None]:
        """Enter the mapping or list that is next; stop before each key or item in it.

        The caller must take or skip exactly one item, or one key and its value, a turn.
        """
        self._advance()
        while not isinstance(self._next, CollectionEndEvent):
            yield
        self._advance()

    def skip(self) -> None:
        """Pass over the next value, whatever it is and holds.

        Raises Enough when more was skipped than anybody writes by mistake.
        """
        depth = 0
        while True:
            event = self._advance()
            self._skipped += 1
            if self._skipped > MAX_SKIPPED_EVENTS:
                raise Enough("the rest of the file was not read")
            if isinstance(event, CollectionStartEvent):
                depth += 1
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
            if depth == 0:
                return

    def blame_bare_brackets(self) -> None:
        """Raise Unreadable if the line of the next value has an IPv6 address without quotes."""
        if self._bare_brackets is None:
            self._bare_brackets = tuple(find_bare_brackets(self._text))
        if blamed := blame_brackets(self._bare_brackets, self.place("")):
            raise blamed

    def close(self) -> None:
        """Read to the end of the text, where no second document may stand."""
        if isinstance(self._next, DocumentEndEvent):
            self._advance()
        if not isinstance(self._next, StreamEndEvent):
            raise Unreadable(
                (
                    self.place(""),
                    "a second document begins here; write all of it as one, without '---'",
                )
            )

    def _advance(self) -> Event:
        event = self._next
        self._next = next(self._events)
        return event


def _fastest_loader() -> type:
    """Return libyaml's loader, or the Python one (30 times slower) where PyYAML has no libyaml."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read_events(text: bytes, loader: type) -> Iterator[Event]:
    """Yield the events of `text` until one passes a limit."""
    depth = 0
    for count, event in enumerate(_translated(text, loader), 1):
        if isinstance(event, NodeEvent):
            _check_node(event)
            if isinstance(event, CollectionStartEvent):
                depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            what = f"lists and mappings are nested deeper than {MAX_DEPTH} here; write them flat"
            raise Unreadable((mark_place(event.start_mark), what))
        if count > MAX_EVENTS:
            what = f"more than {MAX_EVENTS} keys, values and lists; this is not a configuration"
            raise Unreadable((mark_place(event.start_mark), what))
        yield event


def _translated(text: bytes, loader: type) -> Iterator[Event]:
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.YAMLError as error:
        raise translate(error, text) from error
    except (ValueError, OverflowError) as error:
        # The scanner in Python turns an escape such as "\UFFFFFFFF" into a character unchecked.
        message = "is not YAML: an escape in double quotes names no character"
        raise Unreadable((Place(None, None, ""), message)) from error


def _check_node(event: NodeEvent) -> None:
    """Refuse what lets a small file stand for a large one, or name a type of Python's."""
    if event.anchor is not None:
        what, mend = "an alias or anchor (* or &)", "write the value out"
    elif isinstance(event, ScalarEvent) and event.value == "<<" and not event.style:
        what, mend = "a merge key (<<)", "write the keys out"
    elif getattr(event, "tag", None) is not None:
        what, mend = "a tag (!)", "remove it"
    else:
        return
    raise Unreadable((mark_place(event.start_mark), f"{what} is not supported here; {mend}"))
