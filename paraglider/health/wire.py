"""What the agent and its prober say to each other: lines of JSON, typed at both ends.

    {"requests": [...], "checks": [...], "names": [],
     "targets": [["web/172.19.0.2:80", "", "172.19.0.2", 80, 0]]}
    {"results": [["web/172.19.0.2:80", true, "connected", 0.0004]], "errors": [], "resolved": [],
     "notes": [], "failure": ""}

Orders go to the prober, and each holds everything that is to be probed and looked up: the one
before it is void. Reports come back. The prober talks with strangers, so the agent believes it
nothing: what is not exactly of this form is a ValueError, and so are an address that no
configuration could hold, and text that could do harm in a log. Checks have their own module.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from paraglider.config.address import Refused, Role, parse_address
from paraglider.config.model import MAX_HOST_CHARACTERS, Address, Check, Family, HttpRequest
from paraglider.health.probe import Target
from paraglider.health.probe_result import clip, is_reason
from paraglider.health.prober import ProbeError, Result
from paraglider.health.resolver import MAX_ADDRESSES, Name, Resolved
from paraglider.health.wire_check import (
    pack_check,
    pack_request,
    unpack_check,
    unpack_request,
)
from paraglider.health.wire_value import (
    MAX_SECONDS,
    as_flag,
    as_ip,
    as_items,
    as_number,
    as_object,
    as_text,
    as_whole,
)

MAX_ORDERS_BYTES = 16 << 20
MAX_REPORTS_BYTES = 1 << 20
# So many are below MAX_REPORTS_BYTES together, whatever is in them.
_RESULTS_A_LINE = 200
_ERRORS_A_LINE = 200
_RESOLVED_A_LINE = 40
_NOTES_A_LINE = 100
MAX_KEY_CHARACTERS = 400
_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be probed, and which names are to be looked up how often (seconds)."""

    targets: tuple[Target, ...]
    names: Mapping[Name, float]


@dataclass(frozen=True, slots=True)
class Reports:
    """What probes and lookups found, which probes could not be made, and notes for the log;
    `failure` is why the prober ends, '' while it does not."""

    results: tuple[Result, ...] = ()
    errors: tuple[ProbeError, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    notes: tuple[str, ...] = ()
    failure: str = ""


class LineBuffer:
    """Cuts what arrives into lines of at most `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._unread = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in `data`, without their ends.

        Raises ValueError for one that is too long; nothing that follows can then be understood.
        """
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            lines.append(bytes(self._unread + end))
            self._unread.clear()
        self._unread += rest
        if any(len(line) > self._limit_bytes for line in (*lines, self._unread)):
            raise ValueError(f"a line of more than {self._limit_bytes} bytes")
        return lines


def receive(channel: socket.socket) -> bytes | None:
    """Return what has arrived on a socket that does not block: None where nothing has, b"" where
    nothing ever will."""
    try:
        return channel.recv(_CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def encode_orders(targets: Iterable[Target], names: Mapping[Name, float]) -> bytes:
    """Return one line; equal checks and requests are in it once."""
    checks: dict[Check, int] = {}
    rows = [
        (t.key, t.host_name, str(t.address), t.port, checks.setdefault(t.check, len(checks)))
        for t in targets
    ]
    requests: dict[HttpRequest, int] = {}
    packed = [pack_check(it, requests.setdefault(it.http, len(requests))) for it in checks]
    return _line(
        {
            "requests": [pack_request(request) for request in requests],
            "checks": packed,
            "targets": rows,
            "names": [(name, family, every_s) for (name, family), every_s in names.items()],
        }
    )


def decode_orders(line: bytes) -> Orders:
    """Read a line of orders. Raises ValueError."""
    fields = as_object(_parse(line), ("requests", "checks", "targets", "names"))
    requests = [unpack_request(value) for value in as_items(fields["requests"])]
    checks = [unpack_check(value, requests) for value in as_items(fields["checks"])]
    targets = [_unpack_target(value, checks) for value in as_items(fields["targets"])]
    names: dict[Name, float] = {}
    for value in as_items(fields["names"]):
        name, family, every_s = as_items(value, 3)
        key = as_text(name, MAX_HOST_CHARACTERS), Family(as_whole(family, 4, 6))
        names[key] = as_number(every_s, 0, MAX_SECONDS)
    return Orders(tuple(targets), names)


def encode_reports(reports: Reports) -> bytes:
    """Return as many lines as it takes, one at least, none longer than `MAX_REPORTS_BYTES`."""
    results, resolved, notes = iter(reports.results), iter(reports.resolved), iter(reports.notes)
    errors, failure = iter(reports.errors), clip(reports.failure)
    lines: list[bytes] = []
    while True:
        fields = {
            "results": [
                (r.key, r.is_good, clip(r.reason), r.took_s)
                for r in islice(results, _RESULTS_A_LINE)
            ],
            "errors": [(e.key, clip(e.reason)) for e in islice(errors, _ERRORS_A_LINE)],
            "resolved": [_pack_resolved(it) for it in islice(resolved, _RESOLVED_A_LINE)],
            "notes": [clip(note) for note in islice(notes, _NOTES_A_LINE)],
            "failure": "" if lines else failure,
        }
        if lines and not any(fields.values()):
            return b"".join(lines)
        lines.append(_line(fields))


def decode_reports(line: bytes) -> Reports:
    """Read a line of reports, which may come from a stranger. Raises ValueError."""
    names = ("results", "errors", "resolved", "notes", "failure")
    fields = as_object(_parse(line), names)
    results = tuple(_unpack_result(value) for value in as_items(fields["results"]))
    errors = tuple(_unpack_error(value) for value in as_items(fields["errors"]))
    resolved = tuple(_unpack_resolved(value) for value in as_items(fields["resolved"]))
    notes = tuple(_as_reason(value) for value in as_items(fields["notes"]))
    return Reports(results, errors, resolved, notes, _as_reason(fields["failure"]))


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def _parse(line: bytes) -> object:
    """Also NaN and Infinity are let in here, and turned away with all other numbers' bounds."""
    try:
        return json.loads(line.decode("ascii"))
    except RecursionError as error:
        raise ValueError("too many brackets") from error


def _unpack_target(value: object, checks: Sequence[Check]) -> Target:
    key, host_name, address, port, check = as_items(value, 5)
    return Target(
        as_text(key, MAX_KEY_CHARACTERS),
        as_text(host_name, MAX_HOST_CHARACTERS),
        as_ip(address),
        as_whole(port, 1, 65535),
        checks[as_whole(check, 0, len(checks) - 1)],
    )


def _unpack_result(value: object) -> Result:
    key, is_good, reason, took_s = as_items(value, 4)
    return Result(
        as_text(key, MAX_KEY_CHARACTERS),
        as_flag(is_good),
        _as_reason(reason),
        as_number(took_s, 0, MAX_SECONDS),
    )


def _unpack_error(value: object) -> ProbeError:
    key, reason = as_items(value, 2)
    return ProbeError(as_text(key, MAX_KEY_CHARACTERS), _as_reason(reason))


def _pack_resolved(resolved: Resolved) -> tuple[object, ...]:
    found = resolved.addresses
    addresses = None if found is None else [str(address) for address in found]
    return resolved.name, resolved.family, addresses, clip(resolved.reason)


def _unpack_resolved(value: object) -> Resolved:
    name, number, found, reason = as_items(value, 4)
    family = Family(as_whole(number, 4, 6))
    addresses = None
    if found is not None:
        addresses = tuple(_as_address(address) for address in as_items(found))
        if len(addresses) > MAX_ADDRESSES or any(it.version != family for it in addresses):
            raise ValueError("more addresses than a name has, or of another family")
    return Resolved(as_text(name, MAX_HOST_CHARACTERS), family, addresses, _as_reason(reason))


def _as_address(value: object) -> Address:
    try:
        return parse_address(as_text(value, 64), Role.BACKEND)
    except Refused as refused:
        raise ValueError(str(refused)) from refused


def _as_reason(value: object) -> str:
    text = as_text(value, 1000)
    if not is_reason(text):
        raise ValueError("text that is too long, or not printable ASCII")
    return text
