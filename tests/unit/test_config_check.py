"""The keys of a check: what each is taken for, and what is refused in which words."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from paraglider.config.address import Refused
from paraglider.config.model import Check, CheckKind, HttpRequest
from paraglider.config.request import parse_body, parse_bytes
from tests.unit.config_files import check_of, frontend_of, problems_of, text_of

HTTP = Check(kind=CheckKind.HTTP)
HTTPS = Check(kind=CheckKind.HTTPS)


def request(kind: Check = HTTP, **fields: object) -> Check:
    return replace(kind, http=replace(HttpRequest(), **fields))  # type: ignore[arg-type]


def problem_of(check: str) -> str:
    """Return the only problem of ``check: CHECK`` on line 5, without the place of its line."""
    [problem] = problems_of(text_of(f"check: {check}"))
    assert problem.startswith("f:5:")
    return problem.removeprefix("f:5:")


def test_without_a_check_backends_are_probed_by_connecting() -> None:
    assert {backend.check for backend in frontend_of().backends} == {Check()}


@pytest.mark.parametrize("kind", list(CheckKind))
def test_a_type_may_stand_alone(kind: CheckKind) -> None:
    assert (Check(kind=kind), Check(kind=kind)) == (check_of(kind), check_of(f"{{type: {kind}}}"))


def test_an_empty_mapping_is_the_check_that_all_have_anyway() -> None:
    assert Check() == check_of("{}")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("interval: 500ms, timeout: 500ms", Check(interval_s=0.5, timeout_s=0.5)),
        ("interval: 100ms, timeout: 10ms", Check(interval_s=0.1, timeout_s=0.01)),
        ("interval: 1h, timeout: 1m", Check(interval_s=3600, timeout_s=60)),
        ("rise: 1, fall: 100", Check(rise=1, fall=100)),
        ("start: down", Check(starts_up=False)),
        ("start: up", Check()),
        ("port: 8080", Check(port=8080)),
        ("address: 10.0.0.9", Check(address=ip_address("10.0.0.9"))),
        (r'send: "PING\r\n", expect: "+PONG"', Check(send=b"PING\r\n", expect=b"+PONG")),
        (r"send: '\x00\xFf\r\n\t\0\\x'", Check(send=b"\0\xff\r\n\t\0\\x")),
        (r"send: \x00\xff", Check(send=b"\0\xff")),
        (r'send: "\\x00\\xff"', Check(send=b"\0\xff")),
        (r'send: "\0\x7f\u00e9"', Check(send=b"\0\x7f\xc3\xa9")),
        (r'send: "\\\\xff"', Check(send=rb"\xff")),
        ('send: "é"', Check(send=b"\xc3\xa9")),
        (r"expect: '\xe9é'", Check(expect=b"\xe9\xc3\xa9")),
        (r"send: '" + r"\xff" * 1024 + "'", Check(send=b"\xff" * 1024)),
        (f"send: '{'x' * 1024}'", Check(send=b"x" * 1024)),
        ("type: http, path: '/a?b=c#%20'", request(path="/a?b=c#%20")),
        ("type: http, path: /", request()),
        (f"type: http, path: /{'x' * 1023}", request(path="/" + "x" * 1023)),
        ("type: http, host: example.org", request(host="example.org")),
        ("type: http, host: 'localhost:8080'", request(host="localhost:8080")),
        ("type: http, host: 127.0.0.1", request(host="127.0.0.1")),
        ("type: http, host: '[fd00::1]:80'", request(host="[fd00::1]:80")),
        ("type: http, method: HEAD", request(method="HEAD")),
        ("type: http, method: OPTIONS, body: x", request(method="OPTIONS", body="x")),
        ("type: http, status: 200", request(statuses=((200, 200),))),
        ("type: http, status: 100-599", request(statuses=((100, 599),))),
        ("type: http, status: '200,204, 300-399'",
         request(statuses=((200, 200), (204, 204), (300, 399)))),
        ("type: http, status: [200, '204,206', 300-399]",
         request(statuses=((200, 200), (204, 204), (206, 206), (300, 399)))),
        ("type: http, body: 'größer'", request(body="größer")),
        ("type: http, body: ''", request()),
        ("type: https, verify: false, path: /x", request(HTTPS, is_verified=False, path="/x")),
        ("type: https, verify: true", HTTPS),
        ("type: https, ca: /etc/ca größer.pem", request(HTTPS, ca="/etc/ca größer.pem")),
        ("type: https, sni: a.b, host: 'c.d:80'", request(HTTPS, sni="a.b", host="c.d:80")),
        ("type: http, headers: {}", HTTP),
        ("type: http, headers: {X-A: b c, x-b: '', X_c: 1}",
         request(headers=(("X-A", "b c"), ("x-b", ""), ("X_c", "1")))),
        ("type: http, headers: {User-Agent: me, Accept: text/plain}",
         request(headers=(("User-Agent", "me"), ("Accept", "text/plain")))),
        (f"type: https, headers: {{{', '.join(f'X-{n}: a' for n in range(16))}}}",
         request(HTTPS, headers=tuple((f"X-{n}", "a") for n in range(16)))),
        (f"type: http, headers: {{A: {'x' * 7167}}}", request(headers=(("A", "x" * 7167),))),
    ],
)  # fmt: skip
def test_a_key_is_in_the_check_of_each_backend(keys: str, expected: Check) -> None:
    assert expected == check_of(f"{{{keys}}}")


@pytest.mark.parametrize(
    ("interval", "expected_s"), [("100ms", 0.1), ("999ms", 0.999), ("1s", 1), ("5s", 1)]
)
def test_a_timeout_that_is_not_given_is_a_second_and_never_beyond_the_interval(
    interval: str, expected_s: float
) -> None:
    assert expected_s == check_of(f"{{interval: {interval}}}").timeout_s


WHOLE = "is not a whole number from 1 to 100"
PORT = "a port is a number from 1 to 65535"
STATUS = (
    "is not an HTTP status; write numbers from 100 to 599 and ranges of them, such as 200,300-399"
)
HEADER = (
    "is neither a host name nor an address; write one such as example.org or"
    ' "[fd00::9]", with :PORT behind it if it is to be sent'
)
PATH = (
    "holds what a path cannot: printable ASCII without spaces is allowed, write anything else as"
    " %20"
)
E_ACUTE = r"\xe9"
TEN_ZEROS = r"\\x00" * 10
ESCAPE = r"is not an escape here; write \xNN, \r, \n, \t or \0, or \\ for a backslash"
SNI = "is not a host name; TLS names a server such as example.org, without a port, and no address"
HEADERS = "must be headers that are sent, as names and values, such as {X-Probe: paraglider}"
LONG = f"'{'x' * 40}'... (1025 characters) is longer than 1024"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("type", "udp", "'udp' is not known here; write tcp, http, https or none"),
        ("type", "HTTP", "'HTTP' is not known here; write tcp, http, https or none"),
        ("interval", "2", "'2' has no unit; write 2s (or ms, m, h, d)"),
        ("interval", "99ms", "99ms is out of range; allowed is 100ms to 1h"),
        ("interval", "61m", "61m is out of range; allowed is 100ms to 1h"),
        ("timeout", "9ms", "9ms is out of range; allowed is 10ms to 1m"),
        ("timeout", "61s", "61s is out of range; allowed is 10ms to 1m"),
        ("rise", "0", f"'0' {WHOLE}"),
        ("rise", "101", f"'101' {WHOLE}"),
        ("fall", "010", f"'010' {WHOLE}"),
        ("fall", "2.0", f"'2.0' {WHOLE}"),
        ("fall", "-1", f"'-1' {WHOLE}"),
        ("fall", "9" * 5000, f"'{'9' * 40}'... (5000 characters) {WHOLE}"),
        ("start", "on", "'on' is not known here; write up or down"),
        ("port", "0", f"port '0' is out of range; {PORT}"),
        ("port", "http", f"'http' is not a port; {PORT}"),
        ("port", "''", f"'' is not a port; {PORT}"),
        ("port", "080", "port '080' has a leading zero, which YAML reads as octal; write it"
         " without"),
        ("address", "web", "'web' is a name, and only backends may be names; write an address such"
         " as 172.19.0.9"),
        ("address", "10.0.0.9:80", "'10.0.0.9:80' has a port, which does not belong here; write an"
         " address such as 172.19.0.9"),
        ("address", "127.0.0.1", "127.0.0.1 is a loopback address: probing it would tell how this"
         " host is, and not the backend; use an address of that server"),
        ("address", "0.0.0.0", "0.0.0.0 is not an address of a server; name the one that is to be"
         " probed"),
        ("address", "fd00::9", "fd00::9 is IPv6, but frontend.bind (line 2) is IPv4; write one"
         " of that family, or add a bind of this one"),
        ("send", "x" * 1025, f"{LONG} bytes"),
        ("send", "é" * 513, f"'{E_ACUTE * 40}'... (513 characters) is longer than 1024 bytes"),
        ("expect", "x" * 1025, f"{LONG} bytes"),
        ("send", r"'" + r"\x00" * 1025 + "'",
         f"'{TEN_ZEROS}'... (4100 characters) is longer than 1024 bytes"),
        ("send", r"a\q", rf"\q {ESCAPE}"),
        ("send", r"'a\X00'", rf"\X {ESCAPE}"),
        ("send", r"'a\'", f"\\ {ESCAPE}"),
        ("send", r"a\é", f"a backslash {ESCAPE}"),
        ("expect", r"'\x4'", r"\x4 needs two hexadecimal digits, such as \x0a"),
        ("expect", r"\x4g", r"\x4 needs two hexadecimal digits, such as \x0a"),
        ("expect", r"\xg0", r"\x needs two hexadecimal digits, such as \x0a"),
        ("send", r'"\\\xfF"', r"in double quotes \xfF is the character U+00FF, two bytes of UTF-8;"
         r" for the byte fF write \\xfF, or use single quotes"),
        ("path", "health", "'health' does not begin with '/'; write a path such as /healthz"),
        ("path", "''", "'' does not begin with '/'; write a path such as /healthz"),
        ("path", "/a b", f"'/a b' {PATH}"),
        ("path", r'"/\r\nX: y"', rf"'/\r\nX: y' {PATH}"),
        ("path", r'"/a\n"', rf"'/a\n' {PATH}"),
        ("path", r'"/\0"', rf"'/\x00' {PATH}"),
        ("path", "/größer", rf"'/gr\xf6\xdfer' {PATH}"),
        ("path", "/" + "x" * 1024, f"'/{'x' * 39}'... (1025 characters) is longer than 1024"
         " characters"),
        ("host", "a b", f"'a b' {HEADER}"),
        ("host", r'"a\r\nX: y"', rf"'a\r\nX: y' {HEADER}"),
        ("host", r'"a\n"', rf"'a\n' {HEADER}"),
        ("host", "''", f"'' {HEADER}"),
        ("host", "fd00::9", f"'fd00::9' {HEADER}"),
        ("host", "'[1:2:3]'", f"'[1:2:3]' {HEADER}"),
        ("host", "10.0.0.256", f"'10.0.0.256' {HEADER}"),
        ("host", "a:0", f"'a:0' {HEADER}"),
        ("host", ".".join(["a" * 50] * 6), f"'{'a' * 40}'... (305 characters) {HEADER}"),
        ("method", "POST", "'POST' is not known here; write GET, HEAD or OPTIONS"),
        ("method", "get", "'get' is not known here; write GET, HEAD or OPTIONS"),
        ("status", "99", f"'99' {STATUS}"),
        ("status", "600", f"'600' {STATUS}"),
        ("status", "200:399", f"'200:399' {STATUS}"),
        ("status", "2xx", f"'2xx' {STATUS}"),
        ("status", "'200,'", f"'' {STATUS}"),
        ("status", "399-200", "399-200 ends before it begins; write 200-399"),
        ("status", f"'200{',200' * 50}'", "more than 50 numbers and ranges; write fewer and wider"
         " ones"),
        ("status", "[]", "the list is empty; at least one status must be in it"),
        ("status", "{}", "must be the answers that are good, such as 200-399 or [200, 204], not a"
         " mapping (key: value)"),
        ("body", "x" * 1025, f"{LONG} characters"),
        ("body", "", "has no value; write text that must be in the body of the answer, such as"
         " ok"),
        ("verify", "no", "'no' is not known here; write true or false"),
        ("sni", "a:443", f"'a:443' {SNI}"),
        ("sni", "10.0.0.9", f"'10.0.0.9' {SNI}"),
        ("sni", "fd00::9", f"'fd00::9' {SNI}"),
        ("sni", r'"a\n"', rf"'a\n' {SNI}"),
        ("sni", ".".join(["a" * 50] * 6), f"'{'a' * 40}'... (305 characters) {SNI}"),
        ("headers", "'X-A: b'", f"{HEADERS}, not a single value"),
        ("headers", "[X-A: b]", f"{HEADERS}, not a list"),
        ("headers", f"{{A: {'x' * 3583}, B: {'x' * 3584}}}", "more than 7168 characters in all"
         " headers; shorten them"),
        ("ca", "ca.pem", "'ca.pem' is not an absolute path; begin it with '/', such as"
         " /etc/paraglider/ca.pem"),
        ("ca", r'"/a\0"', r"'/a\x00' is not a valid path: up to 1024 printable characters"),
        ("ca", "/" + "x" * 1024, f"'/{'x' * 39}'... (1025 characters) is not a valid path: up to"
         " 1024 printable characters"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_with_its_place(
    key: str, value: str, expected: str
) -> None:
    kind = {"send": "tcp", "expect": "tcp", "type": ""}.get(key, "https")
    before = f"type: {kind}, " if kind else ""
    column = len("  check: {") + len(f"{before}{key}: ") + 1
    assert f"{column}: frontend.check.{key}: {expected}" == problem_of(
        f"{{{before}{key}: {value}}}"
    )


VALUE = (
    "the value holds what a header cannot: printable ASCII is allowed, and spaces and tabs between"
)
NOT_A_NAME = "is not the name of a header: 1 to 64 letters, digits and !#$%&'*+-.^_`|~"


@pytest.mark.parametrize(
    ("entry", "column", "path", "expected"),
    [
        (r'X-A: "s3cret\r\nX-B: c"', 38, ".X-A", VALUE),
        (r'X-A: "s3cret\n"', 38, ".X-A", VALUE),
        (r'X-A: "s3cret\0"', 38, ".X-A", VALUE),
        ("X-A: 's3cret '", 38, ".X-A", VALUE),
        ("X-A: s3crét", 38, ".X-A", VALUE),
        (f"X-A: {'x' * 7169}", 38, ".X-A", "the value is longer than 7168 characters"),
        ("X-A: ~", 38, ".X-A", "has no value; write the value of the header X-A"),
        ("X-A: [s3cret]", 38, ".X-A", "must be the value of the header X-A, not a list"),
        ("X A: s3cret", 33, "", f"'X A' {NOT_A_NAME}"),
        ("'': s3cret", 33, "", f"'' {NOT_A_NAME}"),
        ("Xä: s3cret", 33, "", rf"'X\xe4' {NOT_A_NAME}"),
        ('"X\\r\\nY": s3cret', 33, "", rf"'X\r\nY' {NOT_A_NAME}"),
        (f"{'X' * 65}: s3cret", 33, "", f"'{'X' * 40}'... (65 characters) {NOT_A_NAME}"),
        ("~: s3cret", 33, "", "a key must be a word, not nothing"),
        ("[a]: s3cret", 33, "", "a key must be a word, not a list"),
        ("HOST: a", 33, "", "the probe sets the header HOST itself; write it as 'host:'"),
        *(
            (f"{name}: a", 33, "", f"the probe sets the header {name} itself; remove it")
            for name in ("Content-Length", "transfer-encoding", "Connection")
        ),
        ("X-A: s, x-a: t", 41, "", "the key 'x-a' stands here again, first on line 5; keep one"),
        (", ".join(f"X-{n}: s" for n in range(40)), 167, "", "more than 16 headers; remove some"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(
    entry: str, column: int, path: str, expected: str
) -> None:
    """A value may be a secret, and what `check` says ends up in logs."""
    expected = f"{column}: frontend.check.headers{path}: {expected}"
    assert expected == problem_of(f"{{type: http, headers: {{{entry}}}}}")


def test_no_repr_of_a_configuration_holds_a_header() -> None:
    frontend = frontend_of("check: {type: http, headers: {Authorization: s3cret}}")
    assert "s3cret" not in repr(frontend)
    assert "s3cret" in repr(frontend.backends[0].check.http.headers)


def test_an_item_of_a_list_of_statuses_has_its_own_place() -> None:
    expected = f"37: frontend.check.status[1]: '2xx' {STATUS}"
    assert expected == problem_of("{type: http, status: [200, 2xx]}")


def test_a_list_of_too_many_statuses_is_told_where_it_becomes_too_long() -> None:
    expected = (
        "282: frontend.check.status[50]: more than 50 numbers and ranges; write fewer and wider"
        " ones"
    )
    assert expected == problem_of(f"{{type: http, status: [{'200, ' * 60}]}}")


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("udp", "10: frontend.check: 'udp' is not known here; write tcp, http, https or none"),
        ("no", "10: frontend.check: 'no' is not known here; write tcp, http, https or none"),
        (
            "[tcp]",
            "10: frontend.check: must be how backends are probed: tcp, http, https, none, or a"
            " mapping that says more, not a list",
        ),
        (
            "~",
            "10: frontend.check: has no value; write how backends are probed: tcp, http, https,"
            " none, or a mapping that says more",
        ),
        (
            "{intervall: 2s}",
            "11: frontend.check: unknown key 'intervall'; did you mean 'interval'? allowed here:"
            " type, path, host, headers, method, status, body, verify, ca, sni, send, expect, port,"
            " address, interval, timeout, rise, fall, start",
        ),
        (
            "{rise: 2, rise: 3}",
            "20: frontend.check: the key 'rise' stands here again, first on line 5; keep one",
        ),
    ],
)
def test_a_check_of_the_wrong_form_says_what_belongs_there(check: str, expected: str) -> None:
    assert expected == problem_of(check)


def test_a_key_of_a_check_beside_it_is_told_where_it_belongs() -> None:
    expected = "f:5:3: frontend: the key 'interval' belongs under 'check:'; indent it there"
    assert [expected] == problems_of(text_of("interval: 2s"))


@pytest.mark.parametrize("parse", [parse_body, parse_bytes])
def test_half_a_character_is_refused(parse: object) -> None:
    r"""PyYAML without libyaml takes "\ud800"; it could not be sent."""
    with pytest.raises(Refused) as caught:
        parse("\ud800")  # type: ignore[operator]
    assert str(caught.value) == r"'\ud800' holds half a character (a surrogate)"
