"""One probe from its first step to its verdict, over a pair of sockets."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from ipaddress import IPv4Address
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from paraglider.config.model import Check, CheckKind, HttpRequest
from paraglider.health.answer import MAX_ANSWER_BYTES
from paraglider.health.probe import Probe
from paraglider.health.probe_result import (
    MAX_REASON_CHARACTERS,
    CannotProbe,
    ProbeResult,
    clip,
    is_reason,
)
from paraglider.health.tls import TlsContexts, strip_port
from tests.unit.probe_sockets import Network, make_target

PING = Check(send=b"PING\r\n", expect=b"+PONG")


@pytest.fixture
def network() -> Iterator[Network]:
    """Sockets that connect."""
    network = Network()
    yield network
    network.close()


def begin(network: Network, check: Check) -> Probe:
    return Probe(make_target(check=check), TlsContexts(), network.open)


def test_connection_alone_is_good(network: Network) -> None:
    probe = begin(network, Check())
    assert (probe.advance(), probe.events) == (None, EVENT_WRITE)
    assert probe.advance() == ProbeResult(True, "connected")
    probe.close()
    assert network.opened[0].endpoint == ("192.0.2.1", 80)
    assert network.opened[0].is_reset


def test_an_address_and_a_port_of_the_check_go_first(network: Network) -> None:
    probe = begin(network, Check(address=IPv4Address("192.0.2.9"), port=9000))
    probe.advance()
    probe.close()
    assert network.opened[0].endpoint == ("192.0.2.9", 9000)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.EHOSTUNREACH, "no route to host"),
        (errno.ENETUNREACH, "no route to its network"),
        (errno.ETIMEDOUT, "timed out"),
        (errno.EPROTO, "protocol error"),
    ],
)
def test_connection_that_fails_says_why(code: int, reason: str) -> None:
    """At once, or later."""
    for network in (Network(connects_with=code), Network(ends_with=code)):
        probe = begin(network, Check())
        assert (probe.advance() or probe.advance()) == ProbeResult(False, reason)
        probe.close()
        network.close()


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.EPERM])
def test_what_this_host_lacks_is_not_the_backends_fault(code: int) -> None:
    network = Network(connects_with=code)
    probe = begin(network, Check())
    with pytest.raises(CannotProbe, match="cannot connect"):
        probe.advance()
    probe.close()
    network.close()


def test_no_more_sockets_is_not_the_backends_fault(network: Network) -> None:
    network.refuses_to_open = OSError(errno.EMFILE, "too many")
    with pytest.raises(CannotProbe, match="cannot open a socket: too many open files"):
        begin(network, Check())


def test_time_is_over_while_connecting(network: Network) -> None:
    for check in (Check(timeout_s=1.0), PING, Check(kind=CheckKind.HTTP)):
        probe = begin(network, check)
        probe.advance()
        assert probe.expire() == ProbeResult(False, "timed out after 1 s")
        probe.close()


def talk(
    network: Network, check: Check, *answers: bytes | None
) -> tuple[ProbeResult | None, Probe]:
    """Connect, and let the server send `answers`, None to close; return the last verdict."""
    probe = begin(network, check)
    assert probe.advance() is None
    probe_result = probe.advance()
    for answer in answers:
        assert (probe_result, probe.events) == (None, EVENT_READ)
        if answer is None:
            # One who closes with something unread resets.
            with contextlib.suppress(BlockingIOError):
                network.servers[-1].recv(1000)
            network.servers[-1].close()
        else:
            network.servers[-1].send(answer)
        probe_result = probe.advance()
    return probe_result, probe


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((b"+PONG\r\n",), ProbeResult(True, "answered '+PONG'")),
        ((b"noise +PO", b"NG"), ProbeResult(True, "answered '+PONG'")),
        ((b"-LOADING", None), ProbeResult(False, "answer lacks '+PONG'")),
        ((None,), ProbeResult(False, "no answer: closed")),
        ((b"-LOADING",), None),
    ],
)
def test_expected_bytes_are_waited_for(
    network: Network, answers: tuple[bytes | None, ...], expected: ProbeResult | None
) -> None:
    probe_result, probe = talk(network, PING, *answers)
    probe.close()
    assert probe_result == expected


def test_what_is_to_be_sent_arrives(network: Network) -> None:
    _, probe = talk(network, PING)
    assert network.servers[0].recv(100) == b"PING\r\n"
    probe.close()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [((), "no answer: timed out after 1 s"), ((b"-LOADING",), "answer lacks '+PONG'")],
)
def test_time_is_over_while_waiting_for_an_answer(
    network: Network, answers: tuple[bytes, ...], reason: str
) -> None:
    _, probe = talk(network, PING, *answers)
    assert probe.expire() == ProbeResult(False, reason)
    probe.close()
    assert network.opened[0].is_reset


def test_two_who_have_spoken_part_without_a_reset(network: Network) -> None:
    """Nor is there one on top of what was just sent."""
    for check, answers in ((PING, (b"+PONG",)), (Check(send=b"bye"), ())):
        probe_result, probe = talk(network, check, *answers)
        assert probe_result is not None
        assert probe_result.is_good
        probe.close()
        assert not network.opened[-1].is_reset


def test_a_flood_is_read_up_to_its_limit(network: Network) -> None:
    probe = begin(network, PING)
    probe_result, sent_bytes = probe.advance() or probe.advance(), 0
    while probe_result is None:
        sent_bytes += network.servers[0].send(b"x" * 16384)
        probe_result = probe.advance()
    probe.close()
    assert probe_result == ProbeResult(False, "answer lacks '+PONG'")
    assert sent_bytes == MAX_ANSWER_BYTES


def test_http_is_asked_and_judged(network: Network) -> None:
    check = Check(kind=CheckKind.HTTP, http=HttpRequest(path="/up"))
    probe_result, probe = talk(network, check, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    probe.close()
    assert probe_result == ProbeResult(False, "HTTP 503")
    assert network.servers[0].recv(1000).startswith(b"GET /up HTTP/1.1\r\nHost: 192.0.2.1\r\n")


def test_a_handshake_without_an_answer_says_that_it_was_one(network: Network) -> None:
    check = Check(kind=CheckKind.HTTPS, http=HttpRequest(is_verified=False))
    probe_result, probe = talk(network, check)
    assert (probe_result, probe.events) == (None, EVENT_READ)
    assert probe.expire() == ProbeResult(False, "TLS handshake: timed out after 1 s")
    probe.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS handshake: "),
        (None, "TLS handshake: closed"),
    ],
)
def test_a_server_without_tls_is_told_by_its_answer(
    network: Network, answer: bytes | None, reason: str
) -> None:
    """In the words of OpenSSL, which differ between its versions."""
    check = Check(kind=CheckKind.HTTPS, http=HttpRequest(is_verified=False))
    probe = begin(network, check)
    assert probe.advance() or probe.advance() is None
    network.servers[0].recv(10000)
    if answer is None:
        network.servers[0].close()
    else:
        network.servers[0].send(answer)
    probe_result = probe.advance()
    probe.close()
    assert probe_result is not None
    assert probe_result.reason.startswith(reason)


def test_an_authority_that_cannot_be_read_is_not_the_backends_fault(network: Network) -> None:
    check = Check(kind=CheckKind.HTTPS, http=HttpRequest(ca="/nonexistent/ca.pem"))
    probe = begin(network, check)
    probe.advance()
    with pytest.raises(CannotProbe, match=r"/nonexistent/ca\.pem: No such file"):
        probe.advance()
    probe.close()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("shop.example:8443", "shop.example"),
        ("shop.example", "shop.example"),
        ("[fd00::2]:443", "fd00::2"),
        ("fd00::2", "fd00::2"),
    ],
)
def test_the_name_in_a_certificate_has_no_port(host: str, name: str) -> None:
    assert strip_port(host) == name


@pytest.mark.parametrize("text", ["x" * 1000, "a\x1b[31mb", "ä", "a\nb", "\ud800"])
def test_what_is_told_is_short_and_printable(text: str) -> None:
    assert is_reason(clip(text))
    assert len(clip(text)) <= MAX_REASON_CHARACTERS
    assert not is_reason(text)
