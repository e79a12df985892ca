"""Checks of a frontend and of its backends: which key goes first, and which fit together."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from paraglider.config.model import Check, CheckKind, HttpRequest
from paraglider.config.parse import parse_config
from tests.unit.config_files import check_of, frontend_of, problems_of, text_of

HTTP = Check(kind=CheckKind.HTTP, http=HttpRequest(path="/x"))


def own_check(own: str, frontend: str) -> Check:
    """Return the check of a backend that says `own` ahead of its frontend's."""
    backends = f"[10.0.0.2:80, {{address: 10.0.0.3:80, check: {own}}}]"
    if frontend:
        frontend = f"check: {frontend}"
    return frontend_of(frontend, backends=backends).backends[1].check


def problems(own: str, frontend: str) -> list[str]:
    """Return the problems of a backend's check on line 4, column 44, and its frontend's below."""
    backends = f"[{{address: 10.0.0.3:80, check: {own}}}]"
    return problems_of(text_of(f"check: {frontend}" if frontend else "", backends=backends))


@pytest.mark.parametrize(
    ("own", "frontend", "expected"),
    [
        ("{port: 9}", "", Check(port=9)),
        ("http", "", Check(kind=CheckKind.HTTP)),
        ("{port: 9}", "{type: http, path: /x, port: 8}", replace(HTTP, port=9)),
        ("{rise: 9}", "{type: http, path: /x, port: 8}", replace(HTTP, port=8, rise=9)),
        ("{}", "{type: http, path: /x}", HTTP),
        ("{path: /y}", "{type: http, path: /x}", replace(HTTP, http=HttpRequest(path="/y"))),
        ("{host: a}", "{type: http, path: /x}",
         replace(HTTP, http=HttpRequest(path="/x", host="a"))),
        ("{start: up}", "{start: down}", Check()),
        ("{address: 10.0.0.8}", "{address: 10.0.0.9}", Check(address=ip_address("10.0.0.8"))),
        ("{body: ''}", "{type: http, path: /x, body: ok}", HTTP),
        ("{headers: {A: b}}", "{type: http, path: /x, headers: {C: d, E: f}}",
         replace(HTTP, http=HttpRequest(path="/x", headers=(("A", "b"),)))),
        ("{headers: {}}", "{type: http, path: /x, headers: {C: d}}", HTTP),
        ("http", "{type: https, path: /x, sni: a}", HTTP),
        # A type of its own leaves out what does not belong to it.
        ("tcp", "{type: http, path: /x, port: 8}", Check(port=8)),
        ("none", "{type: http, path: /x, port: 8, start: down}", Check(kind=CheckKind.NONE)),
        ("http", "{send: a, expect: b, fall: 9}", Check(kind=CheckKind.HTTP, fall=9)),
        ("http", "{type: https, path: /x, verify: false, ca: /ca}", HTTP),
        ("{type: tcp, send: a}", "{type: http, path: /x}", Check(send=b"a")),
        # Only what is merged must agree.
        ("{interval: 5s, timeout: 3s}", "{interval: 2s}", Check(interval_s=5, timeout_s=3)),
        ("{interval: 500ms}", "", Check(interval_s=0.5, timeout_s=0.5)),
    ],
)  # fmt: skip
def test_a_backend_overrides_its_frontend_key_by_key(
    own: str, frontend: str, expected: Check
) -> None:
    """Also a frontend's check that stands below the backends, as here."""
    assert expected == own_check(own, frontend)


def test_a_check_above_the_backends_is_merged_the_same() -> None:
    lines = "backends: [{address: 10.0.0.3:80, check: {port: 9}}]"
    text = f"frontend: {{check: http, bind: 10.0.0.1:80, privateip: 10.0.0.1, {lines}}}"
    [found] = parse_config(text.encode(), source="f").frontends[0].backends
    assert found.check == Check(kind=CheckKind.HTTP, port=9)


def test_a_backend_with_a_check_of_its_own_leaves_the_others_alone() -> None:
    found = frontend_of("check: http", backends="[a:1, {address: b:1, check: none}, c:1]").backends
    assert [backend.check.kind.value for backend in found] == ["http", "none", "http"]


@pytest.mark.parametrize(
    ("key", "types"),
    [
        *((key, "http or https") for key in ("path", "host", "method", "status", "body")),
        *((key, "https") for key in ("verify", "ca", "sni")),
    ],
)
def test_a_key_of_another_type_is_told_with_the_type_that_there_is(key: str, types: str) -> None:
    values = {
        "path": "/",
        "host": "a",
        "sni": "a",
        "method": "GET",
        "status": "200",
        "verify": "true",
    }
    value = values.get(key, "/x")
    expected = (
        f"f:5:{13 + len(key)}: frontend.check.{key}: belongs to a check of type {types}, and this"
        " one is of type tcp (the default); remove it, or write another type"
    )
    assert [expected] == problems_of(text_of(f"check: {{{key}: {value}}}"))


@pytest.mark.parametrize("key", ["send", "expect"])
def test_what_is_said_over_tcp_belongs_to_tcp_alone(key: str) -> None:
    expected = (
        f"f:5:{13 + len(key)}: frontend.check.{key}: belongs to a check of type tcp, and this one"
        " is of type http: frontend.check.type (line 5); remove it, or write another type"
    )
    assert [expected] == problems_of(text_of(f"check: {{{key}: x, type: http}}"))


@pytest.mark.parametrize(
    "key",
    ["port: 1", "address: 10.0.0.9", "interval: 1s", "timeout: 1s", "rise: 1", "fall: 1",
     "start: up"],
)  # fmt: skip
def test_no_key_belongs_to_a_check_that_is_none(key: str) -> None:
    name = key.partition(":")[0]
    expected = (
        f"f:5:{25 + len(name)}: frontend.check.{name}: belongs to a check of type tcp, http or"
        " https, and this one is of type none: frontend.check.type (line 5); remove it, or write"
        " another type"
    )
    assert [expected] == problems_of(text_of(f"check: {{type: none, {key}}}"))


FAMILY = "write one of that family, or add a bind of this one"
TIMES = "a backend is never probed twice at a time; write a shorter timeout or a longer interval"
HEAD = "the answer to HEAD has no body to look into; write method: GET, or no body"


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (
            "{interval: 2s, timeout: 2001ms}",
            f"34: frontend.check.timeout: the timeout, 2001ms, is longer than the interval, 2s:"
            f" {TIMES}",
        ),
        (
            "{timeout: 1m}",
            "20: frontend.check.timeout: the timeout, 1m, is longer than the interval, 2s:"
            f" {TIMES}",
        ),
        ("{type: http, method: HEAD, body: ok}", f"43: frontend.check.body: {HEAD}"),
    ],
)
def test_keys_of_one_check_that_contradict_each_other_are_told(check: str, expected: str) -> None:
    assert [f"f:5:{expected}"] == problems_of(text_of(f"check: {check}"))


@pytest.mark.parametrize(
    ("own", "frontend", "expected"),
    [
        (
            "{path: /x}",
            "{port: 8}",
            "51: frontend.backends[0].check.path: belongs to a check of type http or https, and"
            " this one is of type tcp (the default); remove it, or write another type",
        ),
        (
            "{path: /x}",
            "tcp",
            "51: frontend.backends[0].check.path: belongs to a check of type http or https, and"
            " this one is of type tcp: frontend.check (line 5); remove it, or write another type",
        ),
        (
            "{type: tcp, path: /x}",
            "http",
            "62: frontend.backends[0].check.path: belongs to a check of type http or https, and"
            " this one is of type tcp: frontend.backends[0].check.type (line 4); remove it, or"
            " write another type",
        ),
        (
            "{interval: 1s}",
            "{interval: 9s, timeout: 5s}",
            "55: frontend.backends[0].check.interval: the timeout, 5s, is longer than the"
            f" interval, 1s: {TIMES}",
        ),
        (
            "{method: HEAD}",
            "{type: http, body: ok}",
            f"53: frontend.backends[0].check.method: {HEAD}",
        ),
        (
            "{address: fd00::9}",
            "",
            "54: frontend.backends[0].check.address: fd00::9 is IPv6, but frontend.bind (line 2)"
            f" is IPv4; {FAMILY}",
        ),
        (
            "udp",
            "",
            "44: frontend.backends[0].check: 'udp' is not known here; write tcp, http, https or"
            " none",
        ),
    ],
)
def test_a_key_of_a_backend_that_does_not_fit_is_told_at_the_backend(
    own: str, frontend: str, expected: str
) -> None:
    assert [f"f:4:{expected}"] == problems(own, frontend)


def test_what_is_wrong_in_the_frontend_is_told_once() -> None:
    expected = "f:5:20: frontend.check.timeout: 2m is out of range; allowed is 10ms to 1m"
    assert [expected] == problems("{port: 9}", "{timeout: 2m}")


@pytest.mark.parametrize(
    "check",
    [
        "{type: udp, path: /x, send: x}",  # of which type the keys are nobody knows
        "{interval: 9, timeout: 5s}",  # nor how long the interval is
    ],
)
def test_a_value_that_is_refused_causes_no_second_problem(check: str) -> None:
    assert [len(problems_of(text_of(f"check: {check}"))), len(problems("{fall: 2}", check))] == [
        1,
        1,
    ]


def test_checks_that_are_alike_are_one_value() -> None:
    """Thousands of backends share it."""
    found = frontend_of("check: {port: 9}", backends="[a:1, b:1]").backends
    assert found[0].check is found[1].check
    assert check_of("{port: 9}") == found[0].check
