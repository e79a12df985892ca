"""What a check asks over HTTP, and what it makes of every kind of answer."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraglider import __version__
from paraglider.config.model import Address, CheckKind, HttpRequest
from paraglider.health.answer import MAX_ANSWER_BYTES
from paraglider.health.http_answer import MAX_HEAD_BYTES, HttpAnswer, name_host, render_request
from paraglider.health.probe_result import CannotProbe, ProbeResult, is_reason

OK = HttpRequest()
WITH_BODY = HttpRequest(body="all good")
_DRIP_BYTES = 5000


def judge(answer: bytes, request: HttpRequest = OK, *, piece_bytes: int = 1 << 20) -> ProbeResult:
    """Feed an answer in pieces as long as it is read, then close."""
    reader = HttpAnswer(request)
    for start in range(0, len(answer), piece_bytes):
        if reader.is_over:
            break
        reader.feed(answer[start : start + piece_bytes])
    return reader.end("closed")


def test_request_is_one_that_any_server_understands() -> None:
    request = HttpRequest(method="HEAD", path="/healthz?deep=1")
    assert render_request(request, "shop.example:8080") == (
        b"HEAD /healthz?deep=1 HTTP/1.1\r\n"
        b"Host: shop.example:8080\r\n"
        b"User-Agent: paraglider/" + __version__.encode() + b"\r\n"
        b"Accept: */*\r\n"
        b"Connection: close\r\n"
        b"\r\n"
    )


def test_headers_of_the_check_stand_before_the_end_and_in_place_of_the_probes_own() -> None:
    headers = (("Authorization", "Bearer x"), ("user-agent", "me"))
    assert render_request(HttpRequest(headers=headers), "shop.example") == (
        b"GET / HTTP/1.1\r\n"
        b"Host: shop.example\r\n"
        b"Accept: */*\r\n"
        b"Authorization: Bearer x\r\n"
        b"user-agent: me\r\n"
        b"Connection: close\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "s3cret\r\nY: z"), ("X", "s3cret\n"), ("X", "\x00"), ("X:", "s3cret"), ("X\n", "y")],
)
def test_a_header_can_hold_no_other_header(name: str, value: str) -> None:
    """Nor does what is said of it hold its value."""
    with pytest.raises(CannotProbe, match="cannot send the header 'X") as caught:
        render_request(HttpRequest(headers=((name, value),)), "shop.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/\r\nX: y", "/a b", "/ä", "", "/\x00"])
def test_request_can_hold_no_other_request(path: str) -> None:
    with pytest.raises(CannotProbe, match="cannot ask"):
        render_request(HttpRequest(path=path), "shop.example")


@pytest.mark.parametrize(
    ("kind", "host", "name", "port", "expected"),
    [
        (CheckKind.HTTP, "", "web", 80, "web"),
        (CheckKind.HTTP, "", "web", 443, "web:443"),
        (CheckKind.HTTPS, "", "web", 443, "web"),
        (CheckKind.HTTP, "", IPv4Address("10.0.0.1"), 8080, "10.0.0.1:8080"),
        (CheckKind.HTTPS, "", IPv6Address("fd00::1"), 443, "[fd00::1]"),
        (CheckKind.HTTP, "shop.example", "web", 8080, "shop.example"),
    ],
)
def test_host_is_the_backend_unless_told(
    kind: CheckKind, host: str, name: str | Address, port: int, expected: str
) -> None:
    """The port of the scheme is left out, as browsers do."""
    assert name_host(kind, HttpRequest(host=host), name, port) == expected


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("answer", "is_good", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, "HTTP 200"),
        (b"HTTP/1.0 204\n\n", True, "HTTP 204"),
        (b"HTTP/1.1 399 \r\n\r\n", True, "HTTP 399"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False, "HTTP 503"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, "HTTP 200"),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 500 No\r\n\r\n", False, "HTTP 500"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", False, "HTTP 101"),
        (b"", False, "no answer: closed"),
        (b"HTTP/1.1 200 OK\r\n", False, "answer cut short: closed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False, "answer cut short: closed"),
        (b"HTTP/2 200\r\n\r\n", False, "not HTTP: 'HTTP/2 200'"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", False, "not HTTP: 'HTTP/1.1 2000 OK'"),
        (b"HTTP/1.1 600 OK\r\n\r\n", False, "not HTTP: 'HTTP/1.1 600 OK'"),
    ],
)
def test_status_decides(answer: bytes, is_good: bool, reason: str, piece_bytes: int) -> None:
    """In whatever pieces it arrives; a status of 1xx is not the answer yet."""
    assert judge(answer, piece_bytes=piece_bytes) == ProbeResult(is_good, reason)


def test_what_is_not_http_is_refused_at_its_first_bytes() -> None:
    reader = HttpAnswer(OK)
    reader.feed(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert reader.is_over
    assert reader.end("closed") == ProbeResult(False, "not HTTP: 'SSH-2.0-OpenSSH_9.2\\r\\n'")


@pytest.mark.parametrize(
    ("statuses", "status", "is_good"),
    [
        (((200, 200), (404, 404)), 404, True),
        (((200, 200), (404, 404)), 301, False),
        (((101, 101),), 101, True),
    ],
)
def test_statuses_are_those_that_were_asked_for(
    statuses: tuple[tuple[int, int], ...], status: int, is_good: bool
) -> None:
    answer = f"HTTP/1.1 {status} So\r\n\r\n".encode()
    assert judge(answer, HttpRequest(statuses=statuses)) == ProbeResult(is_good, f"HTTP {status}")


@pytest.mark.parametrize("piece_bytes", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 20\r\n\r\nsays: all good today",
        b"Server: x\r\n\r\nsays: all good today",
        b"content-length:20  \r\n\r\nsays: all good today, and more that is not the body's",
        b"Content-Length: soon\r\n\r\nsays: all good today",
        b"Content-Length: 3\r\nContent-Length: 20\r\n\r\nsays: all good today",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\nsays: all\r\n5;a=b\r\n good\r\n0\r\n\r\n",
        b"Transfer-Encoding: Chunked\r\n\r\n0009\nsays: all\nA \n good today\n0\n\n",
    ],
)
def test_body_is_found_however_it_is_framed(framing: bytes, piece_bytes: int) -> None:
    """Also where it is cut in two by a chunk, and where lengths are nonsense."""
    answer = b"HTTP/1.1 200 OK\r\n" + framing
    assert judge(answer, WITH_BODY, piece_bytes=piece_bytes) == ProbeResult(True, "HTTP 200")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 4\r\n\r\nfineall good",
        b"Content-Length: 0\r\n\r\nall good",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nall good",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\nall good",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nallall good",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000 + b"all good",
        b"X: all good\r\n\r\n",
    ],
)
def test_body_is_not_found_beyond_its_end(rest: bytes) -> None:
    """Nor in a header, nor behind chunks that are broken."""
    probe_result = judge(b"HTTP/1.1 200 OK\r\n" + rest, WITH_BODY)
    assert probe_result == ProbeResult(False, "HTTP 200, body lacks 'all good'")


def test_a_bad_status_is_bad_whatever_the_body() -> None:
    assert judge(b"HTTP/1.1 500 No\r\n\r\nall good", WITH_BODY) == ProbeResult(False, "HTTP 500")


def test_answer_to_head_has_no_body() -> None:
    """Though it tells the length of one."""
    reader = HttpAnswer(HttpRequest(method="HEAD"))
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert reader.is_over


def test_the_body_is_read_to_its_end_though_the_status_has_decided() -> None:
    """So that no server finds its connection reset; but the verdict stands if time is over."""
    reader = HttpAnswer(OK)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
    assert not reader.is_over
    assert reader.end("timed out after 1 s") == ProbeResult(True, "HTTP 200")
    reader.feed(b"o")
    assert reader.is_over


def test_endless_headers_are_not_read() -> None:
    reader = HttpAnswer(OK)
    fed_bytes = 0
    while not reader.is_over:
        reader.feed(b"HTTP/1.1 200 OK\r\n" if not fed_bytes else b"X: y\r\n" * 100)
        fed_bytes += 600
    assert fed_bytes < 2 * MAX_HEAD_BYTES
    assert reader.end("closed") == ProbeResult(False, "headers of more than 16 KiB")


def test_endless_1xx_is_not_read() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" * 2000
    assert judge(answer) == ProbeResult(False, "headers of more than 16 KiB")


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 999999999999\r\n"])
def test_endless_body_is_not_read(framing: bytes) -> None:
    reader = HttpAnswer(WITH_BODY)
    reader.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
    fed_bytes = 0
    while not reader.is_over:
        reader.feed(b"x" * 1000)
        fed_bytes += 1000
    assert fed_bytes < MAX_ANSWER_BYTES + 1000
    assert not reader.end("closed").is_good


def test_one_byte_at_a_time_costs_no_more_than_what_arrives() -> None:
    """What was looked at once is not looked at again: it would be a way to keep us busy."""
    drip = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * _DRIP_BYTES
    assert judge(drip, WITH_BODY, piece_bytes=1).reason == "HTTP 200, body lacks 'all good'"


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_get_a_verdict_that_may_be_told(garbage: bytes, piece_bytes: int) -> None:
    """The same whatever the pieces."""
    head = b"HTTP/1.1 200 OK\r\n"
    for start in (b"", head, head + b"\r\n", head + b"Transfer-Encoding: chunked\r\n\r\n"):
        probe_result = judge(start + garbage, WITH_BODY, piece_bytes=piece_bytes)
        assert probe_result.is_good == judge(start + garbage, WITH_BODY).is_good
        assert is_reason(probe_result.reason)
