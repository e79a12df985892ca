"""A check as JSON, and back. Bytes are text in which each character stands for one of them.

It comes from the agent alone, which has read it from the configuration: of texts only the type is
looked at, and of headers that each is one line of HTTP. Requests are apart from checks: those that
differ in a port alone share the request, and its headers are sent once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from paraglider.config.headers import (
    HEADER_NAME_PATTERN,
    HEADER_VALUE_PATTERN,
    MAX_HEADERS,
    MAX_HEADERS_CHARACTERS,
)
from paraglider.config.model import Check, CheckKind, Headers, HttpRequest
from paraglider.health.wire_value import (
    MAX_SECONDS,
    as_flag,
    as_ip,
    as_items,
    as_number,
    as_object,
    as_whole,
)

_MAX_COUNT = 1_000_000
_BYTES = "latin-1"
_CHECK_FIELDS = tuple(field.name for field in dataclasses.fields(Check))
_HTTP_FIELDS = tuple(field.name for field in dataclasses.fields(HttpRequest))


def pack_check(check: Check, request: int) -> dict[str, object]:
    """Return `check` as what json.dumps takes; `request` is the number of its request."""
    fields = _fields(check, _CHECK_FIELDS)
    return fields | {
        "address": None if check.address is None else str(check.address),
        "send": check.send.decode(_BYTES),
        "expect": check.expect.decode(_BYTES),
        "http": request,
    }


def pack_request(request: HttpRequest) -> dict[str, object]:
    """Return `request` as what json.dumps takes."""
    return _fields(request, _HTTP_FIELDS)


def unpack_check(value: object, requests: Sequence[HttpRequest]) -> Check:
    """Return the check that `value` is. Raises ValueError."""
    fields = as_object(value, _CHECK_FIELDS)
    address, port = fields["address"], fields["port"]
    return Check(
        kind=CheckKind(_as_string(fields["kind"])),
        interval_s=as_number(fields["interval_s"], 0, MAX_SECONDS),
        timeout_s=as_number(fields["timeout_s"], 0, MAX_SECONDS),
        rise=as_whole(fields["rise"], 1, _MAX_COUNT),
        fall=as_whole(fields["fall"], 1, _MAX_COUNT),
        starts_up=as_flag(fields["starts_up"]),
        address=None if address is None else as_ip(address),
        port=None if port is None else as_whole(port, 1, 65535),
        send=_as_string(fields["send"]).encode(_BYTES),
        expect=_as_string(fields["expect"]).encode(_BYTES),
        http=requests[as_whole(fields["http"], 0, len(requests) - 1)],
    )


def unpack_request(value: object) -> HttpRequest:
    """Return the request that `value` is. Raises ValueError."""
    fields = as_object(value, _HTTP_FIELDS)
    ranges = [as_items(item, 2) for item in as_items(fields["statuses"])]
    return HttpRequest(
        method=_as_string(fields["method"]),
        path=_as_string(fields["path"]),
        host=_as_string(fields["host"]),
        statuses=tuple((as_whole(a, 100, 599), as_whole(b, 100, 599)) for a, b in ranges),
        body=_as_string(fields["body"]),
        is_verified=as_flag(fields["is_verified"]),
        ca=_as_string(fields["ca"]),
        sni=_as_string(fields["sni"]),
        headers=_as_headers(fields["headers"]),
    )


def _as_headers(value: object) -> Headers:
    """Return names and values. No error of it holds a value, which may be a secret."""
    pairs = [as_items(item, 2) for item in as_items(value)]
    headers = tuple((_as_string(name), _as_string(text)) for name, text in pairs)
    is_whole = all(
        re.fullmatch(HEADER_NAME_PATTERN, name) and re.fullmatch(HEADER_VALUE_PATTERN, text)
        for name, text in headers
    )
    size = sum(len(name) + len(text) for name, text in headers)
    if not is_whole or len(headers) > MAX_HEADERS or size > MAX_HEADERS_CHARACTERS:
        raise ValueError("expected headers that are one line of HTTP each, within their limits")
    return headers


def _fields(record: object, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(record, name) for name in names}


def _as_string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value
