"""The text of a configuration in, a frozen `Config` out, or everything that is wrong with it.

Sample input, the form of the first day and the list that it grew into::

    frontend:                           frontends:
      bind: 166.1.101.2:4444              - name: web
      privateip: 172.19.0.4                 bind: 166.1.101.2:80
      backends:                             privateip: 172.19.0.4
        - 172.19.0.2:5555                   backends: [172.19.0.2:8080]

Reads no file and no environment; see load.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paraglider.config.agreement import check_agreement
from paraglider.config.document import Document, Kind
from paraglider.config.draft import Draft
from paraglider.config.frontend import read_frontend
from paraglider.config.keys import ROOT_KEYS, SMALLEST_FILE
from paraglider.config.mapping import read_keys
from paraglider.config.model import Config
from paraglider.config.problems import Enough, Place, Problems, Unreadable
from paraglider.config.value import read_items

MAX_BINDS = 100_000


def parse_config(text: bytes, *, source: str) -> Config:
    """Parse `text`; messages call it `source`.

    Raises ConfigError with every problem at once, in the order of the text; for a text that is
    not YAML within the limits of document.py and text.py, with that alone.
    """
    problems = Problems(source)
    try:
        document = Document(text)
        drafts = list(_within_limit(_read_root(document, problems)))
        document.close()
        check_agreement(drafts, problems)
    except Unreadable as unreadable:
        raise problems.unreadable(unreadable) from unreadable.__cause__
    except Enough as enough:
        raise problems.error(enough) from None
    problems.raise_if_any()
    return Config(source, tuple(found for draft in drafts for found in draft.frontends()))


def _within_limit(drafts: Iterable[Draft]) -> Iterator[Draft]:
    """Yield `drafts` until they come to more binds than anybody has: a port of six characters is
    a bind for each family and protocol."""
    count = 0
    for draft in drafts:
        count += len(draft.binds)
        if count > MAX_BINDS:
            what = f"more than {MAX_BINDS} binds, one for each port, family and protocol"
            raise Unreadable((draft.binds[0][1], f"{what}; write ranges of ports"))
        yield draft


def _read_root(document: Document, problems: Problems) -> Iterator[Draft]:
    place = document.place("")
    if document.kind in (Kind.NOTHING, Kind.END):
        problems.add(place, f"nothing is configured; the smallest file is: {SMALLEST_FILE}")
        if document.kind is Kind.NOTHING:
            document.skip()
        return
    if document.kind is not Kind.MAPPING:
        what = document.kind.value
        problems.add(place, f"must begin with 'frontend:' or 'frontends:', and not be {what}")
        document.skip()
        return
    first: Place | None = None
    for key, key_place in read_keys(document, problems, "", known=ROOT_KEYS):
        if first is not None:
            problems.add(key_place, f"the file has both this and {first}; keep one of them")
            document.skip()
            continue
        first = key_place
        at = document.place(key)
        if key == "frontend":
            yield from _read_single(document, problems, at)
        else:
            yield from _read_list(document, problems, at)
    if first is None and not problems.count:
        problems.add(place, f"nothing is configured; the smallest file is: {SMALLEST_FILE}")


def _read_single(document: Document, problems: Problems, place: Place) -> Iterator[Draft]:
    kind = document.kind
    if kind is Kind.MAPPING:
        yield read_frontend(document, problems, "frontend", is_name_required=False)
        return
    message = kind.is_not("the keys bind, privateip and backends, indented under it")
    if kind is Kind.LIST:
        message = "is one frontend, not a list; write a list under 'frontends:'"
    problems.add(place, message)
    document.skip()


def _read_list(document: Document, problems: Problems, place: Place) -> Iterator[Draft]:
    kind = document.kind
    if kind is not Kind.LIST:
        message = kind.is_not(ROOT_KEYS["frontends"])
        problems.add(place, f"{message}; begin each frontend with '- name: '")
        document.skip()
        return
    for item in read_items(document, problems, place, "frontend"):
        if document.kind is Kind.MAPPING:
            yield read_frontend(document, problems, item.key_path, is_name_required=True)
            continue
        message = document.kind.is_not("the keys name, bind, privateip and backends")
        problems.add(item, message)
        document.skip()
