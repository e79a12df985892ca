"""One frontend of the file, as far as it can be read.

Sample input, behind ``frontend:`` or as an item of ``frontends:``::

    name: web
    bind: 192.0.2.10:80
    privateip: 172.19.0.4
    backends:
      - 172.19.0.2:5555
    check: http
    on_down: keep
"""

from __future__ import annotations

import re

from paraglider.config.address import ADDRESS_PATTERN, Role, parse_address
from paraglider.config.backend import read_backends
from paraglider.config.clients import SourceKind
from paraglider.config.document import Document, Kind, Text
from paraglider.config.draft import BindDraft, Draft, SourceDraft, parse_name
from paraglider.config.endpoint import match_endpoint
from paraglider.config.keys import ACCESS_KEYS, FRONTEND_KEYS, REQUIRED_KEYS
from paraglider.config.mapping import read_keys
from paraglider.config.model import DEFAULT_NAME, Address, Family, Ports
from paraglider.config.problems import Place, Problems
from paraglider.config.value import draft_value, read_text


def read_frontend(
    document: Document, problems: Problems, path: str, *, is_name_required: bool
) -> Draft:
    """Read the mapping that is next in `document`; what is wrong with it goes to `problems`."""
    draft = Draft()
    if not is_name_required:
        draft.name = DEFAULT_NAME, document.place(path)
    required = REQUIRED_KEYS if is_name_required else REQUIRED_KEYS[1:]
    for key, _ in read_keys(document, problems, path, known=FRONTEND_KEYS, required=required):
        place = document.place(f"{path}.{key}")
        if key == "backends":
            draft.backends = tuple(read_backends(document, problems, place))
        elif key == "bind":
            draft.written_binds = _read_binds(document, problems, place)
        elif key == "privateip":
            draft.source = _read_source(document, problems, place)
        elif key == "name":
            if text := read_text(document, problems, place, FRONTEND_KEYS[key]):
                draft.name = draft_value(text, parse_name, place, problems)
        else:
            _read_option(document, problems, draft, key, place)
    draft.settle_binds()
    return draft


def draft_bind(text: Text, place: Place, problems: Problems) -> tuple[tuple[BindDraft, Place], ...]:
    """Return the bind that `text` is, or none once it is refused."""
    found = draft_value(text, _parse_bind, place, problems)
    return () if found is None else (found,)


def draft_address(text: Text, place: Place, problems: Problems) -> SourceDraft | None:
    """Return the address, range or word that `text` is, or None once it is refused."""
    if re.fullmatch(ADDRESS_PATTERN, text.value) is None:
        from paraglider.config.source import draft_source

        return draft_source(text, place, problems)
    if (found := draft_value(text, _parse_address, place, problems)) is None:
        return None
    return SourceDraft(SourceKind.ADDRESS, (((found[0], found[0]), place),), place)


def _parse_bind(text: str) -> BindDraft:
    endpoint = match_endpoint(text, Role.BIND)
    if endpoint is None:
        from paraglider.config.bind import parse_bind

        return parse_bind(text)
    address, port = endpoint.address, endpoint.port
    family = Family(address.version)
    return BindDraft(address if int(address) else None, "", family, (Ports(port, port),))


def _parse_address(text: str) -> Address:
    return parse_address(text, Role.PRIVATEIP)


def _read_binds(
    document: Document, problems: Problems, place: Place
) -> tuple[tuple[BindDraft, Place], ...]:
    if document.kind is Kind.LIST:
        from paraglider.config.bind import read_binds

        return tuple(read_binds(document, problems, place))
    text = read_text(document, problems, place, FRONTEND_KEYS["bind"])
    return draft_bind(text, place, problems) if text else ()


def _read_source(document: Document, problems: Problems, place: Place) -> SourceDraft | None:
    if document.kind is Kind.LIST:
        from paraglider.config.source import read_source

        return read_source(document, problems, place)
    text = read_text(document, problems, place, FRONTEND_KEYS["privateip"])
    return draft_address(text, place, problems) if text else None


def _read_option(
    document: Document, problems: Problems, draft: Draft, key: str, place: Place
) -> None:
    """Read what a frontend need not have; a file without it does not pay for the imports."""
    if key == "check":
        from paraglider.config.check import read_check

        draft.check = read_check(document, problems, place, FRONTEND_KEYS[key])
    elif key in ("allow", "deny"):
        from paraglider.config.access import read_networks

        setattr(draft, key, read_networks(document, problems, key, place))
    elif key in ACCESS_KEYS:
        from paraglider.config.access import read_access

        draft.access |= read_access(document, problems, key, place)
    elif key == "protocol":
        from paraglider.config.bind import read_protocols

        draft.protocols = read_protocols(document, problems, place) or draft.protocols
    elif key == "quorum":
        from paraglider.config.policy import read_quorum

        draft.quorum = read_quorum(document, problems, place)
    else:
        from paraglider.config.policy import read_policy

        draft.policy |= read_policy(document, problems, key, place)
