"""One frontend of the file, as far as it can be read.

Sample input, behind ``frontend:`` or as an item of ``frontends:``::

    name: web
    bind: 192.0.2.10:80
    privateip: 172.19.0.4
    backends:
      - 172.19.0.2:5555
"""

from __future__ import annotations

from collections.abc import Iterator

from paraglider.config.address import Role
from paraglider.config.document import Document, Kind
from paraglider.config.draft import (
    Draft,
    Text,
    draft_address,
    draft_backend,
    draft_endpoint,
    draft_name,
)
from paraglider.config.keys import FRONTEND_KEYS, PURPOSES
from paraglider.config.mapping import read_keys
from paraglider.config.model import DEFAULT_NAME, Address, Endpoint
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted


def read_frontend(
    document: Document, problems: Problems, path: str, *, is_name_required: bool
) -> Draft:
    """Read the mapping that is next in `document`; what is wrong with it goes to `problems`."""
    name: tuple[str, Place] | None = None
    if not is_name_required:
        name = DEFAULT_NAME, document.place(path)
    bind: tuple[Endpoint, Place] | None = None
    privateip: tuple[Address, Place] | None = None
    backends: tuple[tuple[Endpoint, Place], ...] = ()
    required = FRONTEND_KEYS if is_name_required else FRONTEND_KEYS[1:]
    for key, _ in read_keys(document, problems, path, known=FRONTEND_KEYS, required=required):
        place = document.place(f"{path}.{key}")
        if key == "backends":
            backends = tuple(_read_backends(document, problems, place))
        elif (text := _read_text(document, problems, place, PURPOSES[key])) is None:
            pass  # its problem is told
        elif key == "name":
            name = draft_name(text, place, problems)
        elif key == "bind":
            bind = draft_endpoint(text, Role.BIND, place, problems)
        else:
            privateip = draft_address(text, Role.PRIVATEIP, place, problems)
    return Draft(name, bind, privateip, backends)


def _read_backends(
    document: Document, problems: Problems, place: Place
) -> Iterator[tuple[Endpoint, Place]]:
    if document.kind is not Kind.LIST:
        problems.add(place, _not_a_list(document))
        return
    seen: dict[Endpoint, Place] = {}
    count = 0
    for _ in document.each_entry():
        item = document.place(f"{place.key_path}[{count}]")
        count += 1
        text = _read_text(document, problems, item, "an address and port such as 172.19.0.2:5555")
        if text and (backend := draft_backend(text, seen, item, problems)):
            yield backend
    if not count:
        problems.add(place, "the list is empty; at least one backend must be in it")


def _not_a_list(document: Document) -> str:
    """Take the value that stands where the backends should, and say what it is."""
    kind = document.kind
    if kind is not Kind.TEXT:
        document.skip()
        return kind.is_not(PURPOSES["backends"])
    shown = quoted(document.take_text().value)
    return f"must be a list, each item on a line '- ADDRESS:PORT'; {shown} is a single value"


def _read_text(document: Document, problems: Problems, place: Place, wanted: str) -> Text | None:
    """Take the scalar that is next, or skip what is no scalar and tell."""
    if document.kind is Kind.TEXT:
        return document.take_text()
    document.blame_bare_brackets()
    problems.add(place, document.kind.is_not(wanted))
    document.skip()
    return None
