"""What agent and prober say to each other comes through whole, and nothing else does."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraglider.config.address import Refused, Role, parse_address
from paraglider.config.headers import HEADER_NAME_PATTERN, HEADER_VALUE_PATTERN
from paraglider.config.model import Address, Check, CheckKind, Family, HttpRequest
from paraglider.health.probe import Target
from paraglider.health.probe_result import MAX_REASON_CHARACTERS, is_reason
from paraglider.health.prober import ProbeError, Result
from paraglider.health.resolver import MAX_ADDRESSES, Resolved
from paraglider.health.wire import (
    MAX_KEY_CHARACTERS,
    MAX_ORDERS_BYTES,
    MAX_REPORTS_BYTES,
    LineBuffer,
    Orders,
    Reports,
    decode_orders,
    decode_reports,
    encode_orders,
    encode_reports,
)

_ASCII = st.characters(min_codepoint=32, max_codepoint=126)
_TEXTS = st.text(_ASCII, max_size=40)
_ADDRESSES: st.SearchStrategy[Address] = st.ip_addresses()
_SECONDS = st.floats(0.1, 3600)
_STATUSES = st.integers(100, 599)
_REQUESTS = st.builds(
    HttpRequest,
    method=st.sampled_from(["GET", "HEAD"]),
    path=_TEXTS,
    host=_TEXTS,
    statuses=st.lists(st.tuples(_STATUSES, _STATUSES), max_size=3).map(tuple),
    body=st.text(max_size=20),
    is_verified=st.booleans(),
    ca=st.text(max_size=20),
    sni=_TEXTS,
    headers=st.lists(
        st.tuples(
            st.from_regex(HEADER_NAME_PATTERN, fullmatch=True),
            st.from_regex(HEADER_VALUE_PATTERN, fullmatch=True),
        ),
        max_size=3,
    ).map(tuple),
)
_CHECKS = st.builds(
    Check,
    kind=st.sampled_from(CheckKind),
    interval_s=_SECONDS,
    timeout_s=_SECONDS,
    rise=st.integers(1, 100),
    fall=st.integers(1, 100),
    starts_up=st.booleans(),
    address=st.none() | _ADDRESSES,
    port=st.none() | st.integers(1, 65535),
    send=st.binary(max_size=20),
    expect=st.binary(max_size=20),
    http=_REQUESTS,
)
_TARGETS = st.builds(
    Target,
    key=_TEXTS,
    host_name=_TEXTS,
    address=_ADDRESSES,
    port=st.integers(1, 65535),
    check=_CHECKS,
)
_NAMES = st.dictionaries(st.tuples(_TEXTS, st.sampled_from(Family)), _SECONDS, max_size=5)


def _is_backend(address: Address) -> bool:
    try:
        return parse_address(str(address), Role.BACKEND) == address
    except Refused:
        return False


_BACKENDS = {
    Family.IPV4: st.ip_addresses(v=4).filter(_is_backend),
    Family.IPV6: st.ip_addresses(v=6).filter(_is_backend),
}
_RESULTS = st.builds(
    Result, key=_TEXTS, is_good=st.booleans(), reason=_TEXTS, took_s=st.floats(0, 100)
)
_ERRORS = st.builds(ProbeError, key=_TEXTS, reason=_TEXTS)
_RESOLVED = st.sampled_from(Family).flatmap(
    lambda family: st.builds(
        Resolved,
        name=_TEXTS,
        family=st.just(family),
        addresses=st.none() | st.lists(_BACKENDS[family], max_size=4).map(tuple),
        reason=_TEXTS,
    )
)
_REPORTS = st.builds(
    Reports,
    results=st.lists(_RESULTS, min_size=1, max_size=5).map(tuple),
    errors=st.lists(_ERRORS, max_size=3).map(tuple),
    resolved=st.lists(_RESOLVED, max_size=3).map(tuple),
    notes=st.lists(_TEXTS, max_size=3).map(tuple),
    failure=_TEXTS,
)


def one_line(encoded: bytes) -> bytes:
    """Return the only line, without its end."""
    (line,) = LineBuffer(len(encoded)).feed(encoded)
    return line


@given(st.lists(_TARGETS, max_size=5), _NAMES)
def test_orders_come_through_whole(
    targets: list[Target], names: dict[tuple[str, Family], float]
) -> None:
    line = one_line(encode_orders(targets, names))
    assert decode_orders(line) == Orders(tuple(targets), names)


@given(_REPORTS)
def test_reports_come_through_whole(reports: Reports) -> None:
    assert decode_reports(one_line(encode_reports(reports))) == reports


def test_equal_checks_are_said_once() -> None:
    """10,000 backends are less than 1 MiB."""
    targets = [Target(f"web/{n}", "", IPv4Address(n + 1), 80, Check()) for n in range(10_000)]
    assert len(encode_orders(targets, {})) < 1 << 20


def test_a_request_is_said_once_whatever_else_differs() -> None:
    """A file of 4 MiB may have 10,000 backends with a port each, and one set of 7 KiB of headers:
    orders must stay below what the prober reads."""
    request = HttpRequest(headers=(("Authorization", "x" * 7000),))
    checks = [Check(kind=CheckKind.HTTP, port=n + 1, http=request) for n in range(10_000)]
    targets = [Target(f"web/{n}", "", IPv4Address(n + 1), 80, it) for n, it in enumerate(checks)]
    assert len(encode_orders(targets, {})) < MAX_ORDERS_BYTES / 2


def test_no_reports_are_a_line_too() -> None:
    """It says that the prober lives."""
    assert decode_reports(one_line(encode_reports(Reports()))) == Reports()


def test_many_reports_are_lines_of_a_length_that_is_read() -> None:
    """Even the longest that there can be, all in characters that JSON escapes."""
    key, reason = '"' * MAX_KEY_CHARACTERS, "\\" * MAX_REASON_CHARACTERS
    longest = IPv6Address("fd00:1111:2222:3333:4444:5555:6666:0")
    addresses = tuple(longest + 0x1000 + n for n in range(MAX_ADDRESSES))
    reports = Reports(
        tuple(Result(key, False, reason, 1 / 3) for _ in range(1000)),
        tuple(ProbeError(key, reason) for _ in range(1000)),
        tuple(Resolved('"' * 253, Family.IPV6, addresses, reason) for _ in range(100)),
        (reason,) * 300,
        reason,
    )
    encoded = encode_reports(reports)
    parts = [decode_reports(line) for line in LineBuffer(MAX_REPORTS_BYTES).feed(encoded)]
    assert tuple(it for part in parts for it in part.results) == reports.results
    assert tuple(it for part in parts for it in part.errors) == reports.errors
    assert [part.failure for part in parts if part.failure] == [reason]
    assert tuple(it for part in parts for it in part.resolved) == reports.resolved
    assert tuple(it for part in parts for it in part.notes) == reports.notes


@pytest.mark.parametrize("text", ["x" * 5000, "tab\there", "\x1b[2J", "ü", "\udcff"])
def test_what_could_do_harm_in_a_log_is_made_harmless(text: str) -> None:
    reports = Reports((Result("web", True, text, 0.1),), (ProbeError("web", text),), notes=(text,))
    decoded = decode_reports(one_line(encode_reports(reports)))
    assert is_reason(decoded.results[0].reason)
    assert is_reason(decoded.errors[0].reason)
    assert is_reason(decoded.notes[0])


def _report(**fields: object) -> bytes:
    empty = {"results": [], "errors": [], "resolved": [], "notes": [], "failure": ""}
    return json.dumps({**empty, **fields}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 500_000,
        b'{"results":' * 100_000,
        b'{"results": []}',
        _report(more=[]),
        _report(results=[["web", True, "up", "?"]]).replace(b'"?"', b"NaN"),
        _report(results=[["web", True, "up", "?"]]).replace(b'"?"', b"1e999"),
        _report(results=[["web", True, "up", "?"]]).replace(b'"?"', b"9" * 5000),
        _report(errors=[["web"]]),
        _report(errors=[["web", "a\nb"]]),
        _report(errors=[["x" * 401, "no files"]]),
        _report(errors=[["web", "x" * 201]]),
        _report(failure=7),
        _report(failure="a\x1b[2J"),
        _report(results={}),
        _report(results=["web"]),
        _report(results=[["web", True, "up"]]),
        _report(results=[["web", 1, "up", 0.1]]),
        _report(results=[["web", True, "up", True]]),
        _report(results=[["web", True, "up", -0.1]]),
        _report(results=[["web", True, "up", "0.1"]]),
        _report(results=[["web", True, "up\x1b[2J", 0.1]]),
        _report(results=[["web", True, "x" * 201, 0.1]]),
        _report(results=[["web\n", True, "up", 0.1]]),
        _report(results=[["x" * 401, True, "up", 0.1]]),
        _report(notes=["\u202e"]),
        _report(notes=[7]),
        _report(resolved=[["web", 4, ["127.0.0.1"], ""]]),
        _report(resolved=[["web", 4, ["169.254.169.254"], ""]]),
        _report(resolved=[["web", 4, ["fd00::1"], ""]]),
        _report(resolved=[["web", 6, ["fe80::1"], ""]]),
        _report(resolved=[["web", 4, ["10.0.0.1 -j ACCEPT"], ""]]),
        _report(resolved=[["web", 4, [167772161], ""]]),
        _report(resolved=[["web", 4, ["10.0.0.1"] * 257, ""]]),
        _report(resolved=[["web", 5, [], ""]]),
        _report(resolved=[["web", True, [], ""]]),
        _report(resolved=[["web", 4, "10.0.0.1", ""]]),
    ],
)
def test_the_prober_is_believed_nothing(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_reports(line)


@given(st.binary(max_size=200))
def test_any_bytes_are_reports_or_a_value_error(line: bytes) -> None:
    try:
        decode_reports(line)
    except ValueError:
        return


_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(_VALUES, _VALUES, _VALUES, _VALUES)
def test_any_values_are_reports_or_a_value_error(
    results: object, errors: object, resolved: object, notes: object
) -> None:
    line = _report(results=[results], errors=[errors], resolved=[resolved], notes=notes)
    try:
        decode_reports(line)
    except ValueError:
        return


@pytest.mark.parametrize("field", ["requests", "checks", "targets", "names"])
def test_orders_of_another_form_are_refused(field: str) -> None:
    orders = json.loads(encode_orders([Target("web", "", IPv4Address(1), 80, Check())], {}))
    orders[field] = [[7]]
    with pytest.raises(ValueError, match="expected"):
        decode_orders(json.dumps(orders).encode())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        [["X"]],
        [["X", "s3cret", ""]],
        [["X", 7]],
        [["X:", "s3cret"]],
        [["X", "s3cret\r\nY: z"]],
        [["X", "s3cret\n"]],
        [["X", "s3crét"]],
        [["X", "s"]] * 17,
        [["X", "s" * 4000]] * 2,
    ],
)
def test_headers_that_are_no_line_of_http_are_refused_without_their_values(headers: object) -> None:
    """Whoever wrote the orders: the note that the prober makes of it goes to the log."""
    check = Check(kind=CheckKind.HTTP)
    orders = json.loads(encode_orders([Target("web", "", IPv4Address(1), 80, check)], {}))
    orders["requests"][0]["headers"] = headers
    with pytest.raises(ValueError, match="expected") as caught:
        decode_orders(json.dumps(orders).encode())
    assert "s3cr" not in str(caught.value)


def test_lines_come_whole_however_they_were_cut() -> None:
    buffer = LineBuffer(10)
    found = [line for byte in b"one\n\ntwo\nthr" for line in buffer.feed(bytes([byte]))]
    assert found == [b"one", b"", b"two"]
    assert buffer.feed(b"ee\nfour\n") == [b"three", b"four"]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 11 + b"\n"], [b"x" * 6] * 2])
def test_a_line_without_end_is_not_kept(pieces: list[bytes]) -> None:
    buffer = LineBuffer(10)
    *first, last = pieces
    for piece in first:
        assert buffer.feed(piece) == []
    with pytest.raises(ValueError, match="more than 10 bytes"):
        buffer.feed(last)
