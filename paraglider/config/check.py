"""How a backend is checked: the keys of a `check:`, and the check that they come to.

Sample input, behind ``check:`` of a frontend, and of a backend where it differs::

    type: http                      port: 9000
    path: /healthz
    interval: 5s

A frontend's keys may stand after its backends, so both are kept as they were read until all of
it is known (`CheckDraft`); then a backend's go before the frontend's, key by key.

Imported where a file has the key: to make these classes takes as long as to read a small file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from paraglider.config.address import Role, parse_address
from paraglider.config.document import Document, Kind
from paraglider.config.duration import parse_duration, render_duration
from paraglider.config.endpoint import parse_port
from paraglider.config.headers import read_headers
from paraglider.config.keys import CHECK_KEYS
from paraglider.config.mapping import read_keys
from paraglider.config.model import Address, Check, CheckKind, HttpRequest
from paraglider.config.problems import Place, Problems
from paraglider.config.request import (
    MAX_STATUSES,
    METHODS,
    TOO_MANY_STATUSES,
    parse_body,
    parse_bytes,
    parse_ca,
    parse_host_header,
    parse_path,
    parse_sni,
    parse_statuses,
)
from paraglider.config.value import (
    any_of,
    parse_flag,
    parse_whole,
    parse_word,
    read_items,
    read_value,
)

# Bounds in seconds, and in probes.
INTERVAL_S = (0.1, 3600.0)
TIMEOUT_S = (0.01, 60.0)
COUNTS = (1, 100)

DEFAULT = Check()
KINDS = {kind.value: kind for kind in CheckKind}
STARTS = {"up": True, "down": False}

_HTTP = (CheckKind.HTTP, CheckKind.HTTPS)
_PROBING = (CheckKind.TCP, *_HTTP)


# Reads the value that is next, at a place; what it is for comes last. None: its problem is told.
_Read = Callable[[Document, Problems, Place, str], object]


def _one(parse: Callable[[str], object]) -> _Read:
    """Read one value with `parse`, which may raise Refused."""

    def read(document: Document, problems: Problems, place: Place, wanted: str) -> object:
        return read_value(document, problems, place, wanted, parse)

    return read


def _read_bytes(document: Document, problems: Problems, place: Place, wanted: str) -> bytes | None:
    parse = partial(parse_bytes, written=document.written())
    return read_value(document, problems, place, wanted, parse)


def _read_statuses(
    document: Document, problems: Problems, place: Place, wanted: str
) -> tuple[tuple[int, int], ...] | None:
    """Read one value, or a list, each item of which is what may also stand alone."""
    if document.kind is not Kind.LIST:
        return read_value(document, problems, place, wanted, parse_statuses)
    ranges: list[tuple[int, int]] = []
    for item in read_items(document, problems, place, "status"):
        if len(ranges) > MAX_STATUSES:
            document.skip()
        elif found := read_value(document, problems, item, wanted, parse_statuses):
            ranges += found
            if len(ranges) > MAX_STATUSES:
                problems.add(item, TOO_MANY_STATUSES)
    return tuple(ranges) or None


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of a check: its field in Check or HttpRequest, how it is read, and the kinds of check
    that it belongs to."""

    field: str
    read: _Read
    kinds: tuple[CheckKind, ...] = _PROBING
    is_of_request: bool = False


_KEYS: Mapping[str, _Key] = {
    "type": _Key("kind", _one(lambda text: parse_word(text, KINDS)), tuple(CheckKind)),
    "path": _Key("path", _one(parse_path), _HTTP, is_of_request=True),
    "host": _Key("host", _one(parse_host_header), _HTTP, is_of_request=True),
    "headers": _Key("headers", read_headers, _HTTP, is_of_request=True),
    "method": _Key(
        "method",
        _one(lambda text: parse_word(text, {m: m for m in METHODS})),
        _HTTP,
        is_of_request=True,
    ),
    "status": _Key("statuses", _read_statuses, _HTTP, is_of_request=True),
    "body": _Key("body", _one(parse_body), _HTTP, is_of_request=True),
    "verify": _Key("is_verified", _one(parse_flag), (CheckKind.HTTPS,), is_of_request=True),
    "ca": _Key("ca", _one(parse_ca), (CheckKind.HTTPS,), is_of_request=True),
    "sni": _Key("sni", _one(parse_sni), (CheckKind.HTTPS,), is_of_request=True),
    "send": _Key("send", _read_bytes, (CheckKind.TCP,)),
    "expect": _Key("expect", _read_bytes, (CheckKind.TCP,)),
    "port": _Key("port", _one(parse_port)),
    "address": _Key("address", _one(lambda text: parse_address(text, Role.CHECK))),
    "interval": _Key("interval_s", _one(lambda text: parse_duration(text, *INTERVAL_S))),
    "timeout": _Key("timeout_s", _one(lambda text: parse_duration(text, *TIMEOUT_S))),
    "rise": _Key("rise", _one(lambda text: parse_whole(text, *COUNTS))),
    "fall": _Key("fall", _one(lambda text: parse_whole(text, *COUNTS))),
    "start": _Key("starts_up", _one(lambda text: parse_word(text, STARTS))),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of a key, typed as its field is; None is a type that was refused."""

    value: Any
    place: Place


@dataclass(frozen=True, slots=True)
class CheckDraft:
    """The keys of one `check:` that could be read; `is_sound` says that these are all."""

    settings: Mapping[str, Setting]
    is_sound: bool = True

    @property
    def address(self) -> tuple[Address, Place] | None:
        """The address that is probed, if one is given."""
        setting = self.settings.get("address")
        return None if setting is None else (setting.value, setting.place)


_UNSAID = CheckDraft({})


def read_check(document: Document, problems: Problems, place: Place, wanted: str) -> CheckDraft:
    """Read the word or mapping that is next; what is wrong with it goes to `problems`."""
    before = problems.count
    if document.kind is Kind.MAPPING:
        settings = _read_settings(document, problems, place.key_path)
    else:
        kind = _KEYS["type"].read(document, problems, place, wanted)
        settings = {"type": Setting(kind, place)}
    return CheckDraft(settings, is_sound=problems.count == before)


def build_check(frontend: CheckDraft | None, backend: CheckDraft | None) -> Check:
    """Return the check that the backend's keys say and, where they are silent, the frontend's."""
    settings = {**(frontend or _UNSAID).settings, **(backend or _UNSAID).settings}
    kind = _kind_of(settings)
    fields: dict[str, Any] = {}
    request: dict[str, Any] = {}
    for name, setting in settings.items():
        key = _KEYS[name]
        if kind in key.kinds:
            (request if key.is_of_request else fields)[key.field] = setting.value
    if "timeout_s" not in fields and "interval_s" in fields:
        fields["timeout_s"] = min(DEFAULT.timeout_s, fields["interval_s"])
    return Check(**fields, http=HttpRequest(**request))


def check_settings(base: CheckDraft | None, own: CheckDraft, problems: Problems) -> None:
    """Tell `problems` which keys of `own` do not fit together, or not to those of `base`."""
    base = base or _UNSAID
    settings = {**base.settings, **own.settings}
    kind = _kind_of(settings)
    if kind is None:
        return
    for name, setting in own.settings.items():
        if kind not in _KEYS[name].kinds:
            problems.add(setting.place, _misplaced(name, kind, settings.get("type")))
    if not (base.is_sound and own.is_sound):
        return
    check = build_check(base, own)
    if check.timeout_s > check.interval_s and (place := _first_of(own, "timeout", "interval")):
        problems.add(
            place,
            f"the timeout, {render_duration(check.timeout_s)}, is longer than the interval,"
            f" {render_duration(check.interval_s)}: a backend is never probed twice at a time;"
            " write a shorter timeout or a longer interval",
        )
    is_bodiless = check.http.method == "HEAD" and check.http.body
    if is_bodiless and (place := _first_of(own, "body", "method")):
        problems.add(
            place, "the answer to HEAD has no body to look into; write method: GET, or no body"
        )


def _kind_of(settings: Mapping[str, Setting]) -> CheckKind | None:
    """Return the kind of the check, or None where it was refused."""
    kind: CheckKind | None = settings["type"].value if "type" in settings else DEFAULT.kind
    return kind


def _misplaced(name: str, kind: CheckKind, given: Setting | None) -> str:
    where = f": {given.place}" if given else " (the default)"
    kinds = any_of([kind.value for kind in _KEYS[name].kinds])
    return (
        f"belongs to a check of type {kinds}, and this one is of type {kind}{where};"
        " remove it, or write another type"
    )


def _first_of(draft: CheckDraft, *names: str) -> Place | None:
    return next((draft.settings[name].place for name in names if name in draft.settings), None)


def _read_settings(document: Document, problems: Problems, path: str) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for name, _ in read_keys(document, problems, path, known=CHECK_KEYS):
        place = document.place(f"{path}.{name}")
        value = _KEYS[name].read(document, problems, place, CHECK_KEYS[name])
        if value is not None or name == "type":
            settings[name] = Setting(value, place)
    return settings
