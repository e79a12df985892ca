"""The headers that a check sends beside its own: a mapping of names and values.

    headers: {Authorization: Bearer 6f1d..., X-Probe: paraglider}

A value may be a secret, so no message holds one. Nothing but one header ever comes of one entry:
no line end gets into a name or a value.
"""

from __future__ import annotations

import re

from paraglider.config.address import Refused
from paraglider.config.document import Document, Kind
from paraglider.config.mapping import doubled, read_key
from paraglider.config.model import Headers
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.value import read_value

MAX_HEADERS = 16
# Names and values together: servers refuse a line of 8 KiB (nginx, Apache).
MAX_HEADERS_CHARACTERS = 7168
MAX_NAME_CHARACTERS = 64

# The probe sets these itself: they say where the request goes and where it ends.
OWN_HEADERS = ("host", "content-length", "transfer-encoding", "connection")
# RFC 9110, 5.6.2 (token) and 5.5 (field value, without the obsolete bytes above 7f).
HEADER_NAME_PATTERN = rf"[!#$%&'+*.^_`|~0-9A-Za-z-]{{1,{MAX_NAME_CHARACTERS}}}"
HEADER_VALUE_PATTERN = r"(?:[!-~](?:[ -~\t]*[!-~])?)?"


def read_headers(
    document: Document, problems: Problems, place: Place, wanted: str
) -> Headers | None:
    """Read the mapping that is next, in its order; None once what is wrong with it is told."""
    if document.kind is not Kind.MAPPING:
        problems.add(place, document.kind.is_not(wanted))
        document.skip()
        return None
    before = problems.count
    found: dict[str, tuple[Place, str, str]] = {}
    for count, _ in enumerate(document.each_entry(), 1):
        if count <= MAX_HEADERS:
            _read_header(document, problems, place.key_path, found)
            continue
        if count == MAX_HEADERS + 1:
            problems.add(
                document.place(place.key_path), f"more than {MAX_HEADERS} headers; remove some"
            )
        document.skip()
        document.skip()
    headers = tuple((name, value) for _, name, value in found.values())
    if sum(len(text) for header in headers for text in header) > MAX_HEADERS_CHARACTERS:
        problems.add(
            place, f"more than {MAX_HEADERS_CHARACTERS} characters in all headers; shorten them"
        )
    return headers if problems.count == before else None


def parse_header_name(text: str) -> str:
    """Return the name of a header. Raises Refused."""
    if re.fullmatch(HEADER_NAME_PATTERN, text) is None:
        raise Refused(
            f"{quoted(text)} is not the name of a header: 1 to {MAX_NAME_CHARACTERS} letters,"
            " digits and !#$%&'*+-.^_`|~"
        )
    if text.lower() in OWN_HEADERS:
        mend = "write it as 'host:'" if text.lower() == "host" else "remove it"
        raise Refused(f"the probe sets the header {text} itself; {mend}")
    return text


def parse_header_value(text: str) -> str:
    """Return the value of a header. Raises Refused, which does not hold the value."""
    if len(text) > MAX_HEADERS_CHARACTERS:
        raise Refused(f"the value is longer than {MAX_HEADERS_CHARACTERS} characters")
    if re.fullmatch(HEADER_VALUE_PATTERN, text) is None:
        raise Refused(
            "the value holds what a header cannot: printable ASCII is allowed, and spaces and tabs"
            " between"
        )
    return text


def _read_header(
    document: Document, problems: Problems, path: str, found: dict[str, tuple[Place, str, str]]
) -> None:
    """Read one entry into `found`, which is by lower-case name."""
    place = document.place(path)
    text = read_key(document, problems, place)
    try:
        name = None if text is None else parse_header_name(text)
    except Refused as refused:
        problems.add(place, str(refused))
        name = None
    if name is not None and name.lower() in found:
        problems.add(place, doubled(name, found[name.lower()][0]))
        name = None
    if name is None:
        document.skip()
        return
    wanted = f"the value of the header {name}"
    value = read_value(
        document, problems, document.place(f"{path}.{name}"), wanted, parse_header_value
    )
    if value is not None:
        found[name.lower()] = place, name, value
