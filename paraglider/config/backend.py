"""The backends of one frontend, as far as they can be read.

Sample input, behind ``backends:``; the last item is the long form::

    - 172.19.0.2:5555
    - web:5555
    - 172.19.0.4
    - address: 172.19.0.3:5555
      weight: 3
      backup: true
      check: {port: 9000}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from paraglider.config.document import Document, Kind, Text
from paraglider.config.keys import BACKEND_KEYS, FRONTEND_KEYS
from paraglider.config.mapping import read_keys
from paraglider.config.model import Address, Backend
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.server import parse_server
from paraglider.config.value import (
    draft_value,
    parse_count,
    parse_flag,
    parse_whole,
    read_items,
    read_text,
    read_value,
)

if TYPE_CHECKING:
    from paraglider.config.check import CheckDraft

# The host and ports of each backend so far, and where it stands.
Seen = dict[tuple[Address | str, int, int], Place]


class BackendDraft(NamedTuple):
    """What is known of a backend. `backend` has no check yet, and is None where it was refused."""

    backend: Backend | None
    place: Place
    check: CheckDraft | None = None


def draft_backend(text: Text, seen: Seen, place: Place, problems: Problems) -> BackendDraft:
    """Return the backend and add it to `seen`; what is wrong with it goes to `problems`.

    Doubled ones are told here, while reading, so that a list of nothing else ends soon.
    """
    found = draft_value(text, parse_server, place, problems)
    if found is None:
        return BackendDraft(None, place)
    backend, _ = found
    key = backend.host, backend.port, backend.last_port
    if (first := seen.setdefault(key, place)) is not place:
        problems.add(place, f"{backend} is listed already: {first}; list every backend once")
        return BackendDraft(None, place)
    return BackendDraft(backend, place)


def read_backends(document: Document, problems: Problems, place: Place) -> Iterator[BackendDraft]:
    """Read the list that is next; what is wrong with it goes to `problems`."""
    if document.kind is not Kind.LIST:
        problems.add(place, _not_a_list(document))
        return
    seen: Seen = {}
    for item in read_items(document, problems, place, "backend"):
        yield _read_backend(document, problems, seen, item)


def _read_backend(document: Document, problems: Problems, seen: Seen, place: Place) -> BackendDraft:
    if document.kind is Kind.MAPPING:
        return _read_mapping(document, problems, seen, place)
    wanted = 'an address and port such as 172.19.0.2:5555 or "[fd00::2]:5555"'
    text = read_text(document, problems, place, wanted)
    return draft_backend(text, seen, place, problems) if text else BackendDraft(None, place)


def _read_mapping(document: Document, problems: Problems, seen: Seen, place: Place) -> BackendDraft:
    draft = BackendDraft(None, place)
    check: CheckDraft | None = None
    is_backup, weight, most = False, 1, 0
    path = place.key_path
    keys = read_keys(document, problems, path, known=BACKEND_KEYS, required=("address",))
    for key, _ in keys:
        at = document.place(f"{path}.{key}")
        wanted = BACKEND_KEYS[key]
        if key == "check":
            from paraglider.config.check import read_check

            check = read_check(document, problems, at, wanted)
        elif key == "backup":
            is_backup = read_value(document, problems, at, wanted, parse_flag) is True
        elif key == "weight":
            found = read_value(document, problems, at, wanted, _parse_weight)
            weight = 1 if found is None else found
        elif key == "max_connections":
            most = read_value(document, problems, at, wanted, parse_count) or 0
        elif text := read_text(document, problems, at, wanted):
            draft = draft_backend(text, seen, at, problems)
    backend = draft.backend and replace(
        draft.backend, is_backup=is_backup, weight=weight, max_connections=most
    )
    return BackendDraft(backend, draft.place, check)


def _parse_weight(text: str) -> int:
    from paraglider.config.policy import MAX_WEIGHT

    return parse_whole(text, 0, MAX_WEIGHT)


def _not_a_list(document: Document) -> str:
    """Take the value that stands where the backends should, and say what it is."""
    kind = document.kind
    if kind is not Kind.TEXT:
        document.skip()
        return kind.is_not(FRONTEND_KEYS["backends"])
    shown = quoted(document.take_text().value)
    return f"must be a list, each item on a line '- ADDRESS:PORT'; {shown} is a single value"
