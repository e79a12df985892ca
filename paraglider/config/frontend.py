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

from paraglider.config.address import Role, parse_address
from paraglider.config.backend import read_backends
from paraglider.config.document import Document
from paraglider.config.draft import Draft, parse_name
from paraglider.config.endpoint import parse_endpoint
from paraglider.config.keys import FRONTEND_KEYS, REQUIRED_KEYS
from paraglider.config.mapping import read_keys
from paraglider.config.model import DEFAULT_NAME, Address, Endpoint
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
        elif key in REQUIRED_KEYS:
            _read_address_or_name(document, problems, draft, key, place)
        else:
            _read_option(document, problems, draft, key, place)
    return draft


def _read_address_or_name(
    document: Document, problems: Problems, draft: Draft, key: str, place: Place
) -> None:
    text = read_text(document, problems, place, FRONTEND_KEYS[key])
    if text is None:
        return  # its problem is told
    if key == "name":
        draft.name = draft_value(text, parse_name, place, problems)
    elif key == "bind":
        draft.bind = draft_value(text, parse_bind, place, problems)
    else:
        draft.privateip = draft_value(text, parse_privateip, place, problems)


def _read_option(
    document: Document, problems: Problems, draft: Draft, key: str, place: Place
) -> None:
    """Read what a frontend need not have; a file without it does not pay for the imports."""
    from paraglider.config.check import read_check
    from paraglider.config.policy import read_policy, read_quorum

    if key == "check":
        draft.check = read_check(document, problems, place, FRONTEND_KEYS[key])
    elif key == "quorum":
        draft.quorum = read_quorum(document, problems, place)
    else:
        draft.policy |= read_policy(document, problems, key, place)


def parse_bind(text: str) -> Endpoint:
    """Parse what clients connect to. Raises Refused."""
    return parse_endpoint(text, Role.BIND)


def parse_privateip(text: str) -> Address:
    """Parse the address that backends see. Raises Refused."""
    return parse_address(text, Role.PRIVATEIP)
