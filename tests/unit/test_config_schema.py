"""The JSON Schema and the parser agree, as far as a schema can say it."""

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from paraglider.config.keys import (
    BACKEND_KEYS,
    CHECK_KEYS,
    FRONTEND_KEYS,
    QUORUM_KEYS,
    ROOT_KEYS,
)
from paraglider.config.parse import parse_config
from paraglider.config.schema import config_schema
from paraglider.errors import ConfigError
from tests.unit.config_files import check_of, text_of


def frontend(**changed: str) -> str:
    values = {"bind": "10.0.0.1:80", "privateip": "10.0.0.1", "backends": "[10.0.0.2:80]"}
    inside = ", ".join(f"{key}: {value}" for key, value in (values | changed).items() if value)
    return f"{{{inside}}}"


GOOD = [
    f"frontend: {frontend()}",
    f"frontend: {frontend(name='web')}",
    f"frontend: {frontend(bind='169.254.169.25:65535')}",
    f"frontends: [{frontend(name='a')}, {frontend(name='b', bind='10.0.0.1:81')}]",
    """frontend: {bind: "[fd00::1]:80", privateip: 'fd00::1', backends: ["[fd00::2]:80"]}""",
    *(
        f"frontend: {frontend(backends=backends)}"
        for backends in (
            "[web:80]",
            "[Web.lan:80, 10.0.0.2:80]",
            "[{address: web:80}]",
            "[0.lan:1]",
            "[{address: 10.0.0.2:80, backup: true, check: tcp}]",
            "[{address: 10.0.0.2:80, check: {port: 1, type: tcp}}]",
            "[localhost.lan:1]",
            "[{address: 10.0.0.2:80, weight: 1000}, {address: web:80, weight: 0}]",
        )
    ),
    *(f"frontend: {frontend(check=check)}" for check in ("tcp", "http", "https", "none", "{}")),
    *(
        f"frontend: {frontend(check=f'{{type: http, {key}}}')}"
        for key in (
            "path: /",
            "host: a.b",
            "host: '[fd00::1]:80'",
            "method: HEAD",
            "status: 200",
            "status: '200,300-399, 404'",
            "status: [200, 300-399]",
            "body: x",
            "port: 65535",
            "address: 10.0.0.9",
            "interval: 1.5s",
            "timeout: 10ms",
            "rise: 100",
            "start: down",
        )
    ),
    f"frontend: {frontend(check='{type: https, verify: false, ca: /ca}')}",
    f"frontend: {frontend(check='{send: x, expect: y}')}",
    *(
        f"frontend: {frontend(check=f'{{send: {text}}}')}"
        for text in (
            r"'\x00\xFF\r\n\t\0\\'",
            r"\x00",
            r'"\\x00\n\0"',
            "''",
            "'é\U0001f600'",
            "x" * 1024,
            r"'" + r"\xff" * 1024 + "'",
        )
    ),
    f"frontend: {frontend(check='{type: https, sni: a.b}')}",
    *(
        f"frontend: {frontend(check=f'{{type: http, headers: {{{headers}}}}}')}"
        for headers in (
            "",
            "A: b",
            "Hosts: a",
            "X-Host: 1",
            "a: '', b: 'x y'",
            "'!#$%&*+.^_`|~-': x",
            ", ".join(f"X-{n}: a" for n in range(16)),
        )
    ),
    *(
        f"frontend: {frontend(bind=bind)}"
        for bind in (
            "0.0.0.0:80",
            "'*:80'",
            "eth0:80",
            "br-1a2b.100:80-90",
            "10.0.0.1:80-90",
            "'10.0.0.1:80,443, 8000-8010'",
            "[10.0.0.1:80, 'eth0:80,443']",
            "lo0:80",
            "0.lan:80",
        )
    ),
    *(
        f"frontend: {frontend(backends=backends)}"
        for backends in (
            "[10.0.0.2]",
            "[web]",
            "[{address: web}]",
            "[localhost.lan]",
            "[{address: web:80, max_connections: 100}]",
        )
    ),
    f"frontend: {frontend(bind='10.0.0.1:80-90', backends='[10.0.0.2:180-190, web:1-11]')}",
    """frontend: {bind: '[::]:80', privateip: auto, backends: ["[fd00::2]"]}""",
    *(f"frontend: {frontend(protocol=protocol)}" for protocol in ("tcp", "udp", "tcp+udp")),
    *(
        f"frontend: {frontend(privateip=source)}"
        for source in ("auto", "keep", "[10.0.0.4]", "10.0.0.4-10.0.0.9", "[10.0.0.4-10.0.0.9]")
    ),
    *(
        f"frontend: {frontend(allow=networks, deny=networks)}"
        for networks in ("10.0.0.0/8", "[10.0.0.1, 0.0.0.0/0, 'fd00::/8', '::/0', '::1/128']")
    ),
    *(
        f"frontend: {frontend(**{key: value})}"
        for key, value in (
            ("max_connections", "1000000"),
            ("rate", "1000000/day"),
            ("rate", "1/min"),
            ("refuse", "drop"),
            ("affinity", "3h"),
        )
    ),
    f"frontend: {frontend(on_down='keep', no_backend='serve-all', quorum='1')}",
    f"frontend: {frontend(quorum='{live: 1, hysteresis: 0}', slow_start='1h', resolve='1m')}",
]
BAD = [
    "{}",
    "[]",
    "text",
    "frontned: {}",
    "frontend:",
    "frontend: []",
    "frontend: text",
    "frontends:",
    "frontends: []",
    "frontends: {}",
    "frontends: [text]",
    f"frontend: {frontend()}\nfrontends: []",
    f"frontends: [{frontend()}]",
    f"frontend: {frontend(bind='')}",
    f"frontend: {frontend(privateip='')}",
    f"frontend: {frontend(backends='')}",
    f"frontend: {frontend(colour='red')}",
    *(f"frontend: {frontend(name=name)}" for name in ("Web", "a" * 16, "-a", "~", "[]", "a b")),
    *(
        f"frontend: {frontend(bind=bind)}"
        for bind in (
            "10.0.0.1", "80", "22:22", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:080",
            "010.0.0.1:80", "10.0.0.256:80", "127.0.0.1:80", "224.0.0.1:80",
            "255.255.255.255:80", "240.0.0.1:80", "169.254.169.254:80", "'fd00::1:80'",
            "'[10.0.0.1]:80'", "'[fe80::1%eth0]:80'", "tcp://10.0.0.1:80", "~", "[]", "{}",
        )
    ),
    *(
        f"frontend: {frontend(privateip=privateip)}"
        for privateip in ("10.0.0.1:80", "127.0.0.1", "10.0.0.0/8", "lan", "'[fd00::1]'", "~")
    ),
    *(
        f"frontend: {frontend(backends=backends)}"
        for backends in (
            "10.0.0.2:80", "[]", "{}", "[~]", "[[]]", "[127.0.0.1:80]",
            "[10.0.0.2:80, 10.0.0.2:80]", "['web:']", "[web:0]", "[-a:80]", "[a..b:80]",
            "[localhost:80]", "[a.localhost:80]", "[10.0.0.256:80]", f"[{'a' * 64}:80]", "[{}]",
            f"[{'.'.join(['a' * 50] * 6)}:80]", "[{backup: true}]",
            "[{address: web:80, backup: yes}]", "[{address: web:80, weight: -1}]",
            "[{address: web:80, weight: 1.5}]",
            "[{address: web:80, check: udp}]", "[{address: [web:80]}]",
        )
    ),
    *(
        f"frontend: {frontend(check=check)}"
        for check in ("udp", "[]", "[tcp]", "~", "TCP", "{type: udp}", "{types: tcp}")
    ),
    *(
        f"frontend: {frontend(check=f'{{type: http, {key}}}')}"
        for key in (
            "path: x", "path: '/a b'", "path: ''", "host: 'a b'", "host: ''", "method: get",
            "status: 99", "status: 600", "status: 2xx", "status: []", "status: [x]", "port: 0",
            "port: 65536", "port: http", "address: web", "address: 127.0.0.1", "interval: 2",
            "interval: soon", "timeout: 1m1s", "rise: x", "rise: 010", "start: on", "body: []",
            f"body: {'x' * 1025}", f"path: /{'x' * 1024}",
        )
    ),
    f"frontend: {frontend(check='{type: https, verify: no}')}",
    f"frontend: {frontend(check='{type: https, ca: ca.pem}')}",
    *(
        f"frontend: {frontend(check=f'{{expect: {text}}}')}"
        for text in (r"\q", r"'\'", r"'\x0'", r"\x0g", r"\X00", r'"\\"', "x" * 1025)
    ),
    *(
        f"frontend: {frontend(check=f'{{type: https, sni: {sni}}}')}"
        for sni in ("a:443", "10.0.0.9", "'fd00::9'", "''", "a_b.", "[]")
    ),
    *(
        f"frontend: {frontend(check=f'{{type: http, headers: {{{headers}}}}}')}"
        for headers in (
            "Host: a", "hOST: a", "Content-Length: 1", "transfer-encoding: x", "CONNECTION: x",
            "'': a", "A B: c", "'A:': c", "ä: c", f"{'A' * 65}: b", "A: ' b'", "A: 'b '", "A: é",
            r'A: "b\nc"', r'A: "b\rc"', r'A: "\0"', "A: []", f"A: {'x' * 7169}",
            ", ".join(f"X-{n}: a" for n in range(17)),
        )
    ),
    f"frontend: {frontend(check='{type: http, headers: []}')}",
    f"frontend: {frontend(check='{type: http, headers: a}')}",
    *(
        f"frontend: {frontend(bind=bind)}"
        for bind in (
            "'*'", "eth0", "lo:80", "localhost:80", "eth+:80", "eth0/1:80", "'eth 0:80'",
            "interface-of-16c:80", "'10.0.0.1:80,'", "10.0.0.1:80-", "'10.0.0.1:80,,81'",
            f"'*:{'80,' * 50}81'", "[]", "[10.0.0.1]", "[[10.0.0.1:80]]", "443-444",
        )
    ),
    *(
        f"frontend: {frontend(backends=backends)}"
        for backends in (
            "[80]", "[localhost]", "[a.localhost]", "[10.0.0.2:80-]", "['10.0.0.2:80,81']",
            "['fd00::2']", "[{address: web, max_connections: 0.5}]",
            "[{address: web, max_connections: many}]",
        )
    ),
    *(f"frontend: {frontend(protocol=protocol)}" for protocol in ("sctp", "TCP", "[tcp]")),
    *(
        f"frontend: {frontend(privateip=source)}"
        for source in ("[]", "Auto", "[auto]", "10.0.0.4-", "10.0.0.4-127.0.0.1", "-10.0.0.4")
    ),
    *(
        f"frontend: {frontend(allow=networks)}"
        for networks in ("[]", "web", "10.0.0.0/33", "10.0.0.0/08", "'::/129'", "[10.0.0.0/]")
    ),
    *(
        f"frontend: {frontend(**{key: value})}"
        for key, value in (
            ("max_connections", "many"), ("rate", "100"), ("rate", "100/m"), ("rate", "0/s"),
            ("refuse", "reject"),
        )
    ),
    f"frontend: {frontend(backends='[LocalHost:80]')}",
    f"frontend: {frontend(on_down='drop')}",
    f"frontend: {frontend(no_backend='serve_all')}",
    *(f"frontend: {frontend(quorum=quorum)}" for quorum in ("half", "[]", "{}", "{live: x}")),
    f"frontend: {frontend(slow_start='30')}",
    f"frontend: {frontend(affinity='3')}",
    f"frontend: {frontend(resolve='5')}",
]  # fmt: skip
YAML_ESCAPE = r'{send: "\xff"}'
# Wrong, and beyond what a schema says.
BEYOND = [
    f"frontend: {frontend(backends='[10.0.0.1:80]')}",
    f"frontend: {frontend(privateip='fd00::1')}",
    f"""frontend: {frontend(backends='["[fd00::1]:80"]')}""",
    f"""frontend: {frontend(backends='["[fd00::1::2]:80"]')}""",
    f"frontends: [{frontend(name='a')}, {frontend(name='a', bind='10.0.0.1:81')}]",
    f"frontends: [{frontend(name='a')}, {frontend(name='b')}]",
    f"frontend: {frontend(backends='[a:1, {address: a:1}]')}",
    *(
        f"frontend: {frontend(bind=bind)}"
        for bind in ("10.0.0.1:90-80", "'10.0.0.1:80,80'", "[10.0.0.1:80, 10.0.0.1:80-90]")
    ),
    f"frontend: {frontend(backends='[10.0.0.2:80-90]')}",
    f"frontend: {frontend(backends='[10.0.0.2, 10.0.0.2:80]')}",
    *(
        f"frontend: {frontend(privateip=source)}"
        for source in ("10.0.0.9-10.0.0.4", "10.0.0.0-10.9.0.0", "[10.0.0.4, 10.0.0.1-10.0.0.9]")
    ),
    *(
        f"frontend: {frontend(allow=networks)}"
        for networks in ("10.0.0.1/8", "'fd00::1::/8'", "[10.0.0.1, 10.0.0.1/32]", "'fd00::/8'")
    ),
    f"frontend: {frontend(max_connections='0')}",
    f"frontend: {frontend(rate='1000001/s')}",
    f"frontend: {frontend(check='{path: /}')}",
    f"frontend: {frontend(check='{type: none, port: 1}')}",
    f"frontend: {frontend(check='{timeout: 3s}')}",
    f"frontend: {frontend(check='{interval: 2h}')}",
    f"frontend: {frontend(check='{rise: 101}')}",
    f"frontend: {frontend(check='{send: ' + 'é' * 513 + '}')}",
    f"frontend: {frontend(check=YAML_ESCAPE)}",
    f"frontend: {frontend(check='{headers: {A: b}}')}",
    f"frontend: {frontend(check='{type: http, headers: {A: b, a: c}}')}",
    f"frontend: {frontend(check='{type: http, headers: {A: ' + 'x' * 7168 + '}}')}",
    f"frontend: {frontend(check='{type: http, sni: a}')}",
    f"frontend: {frontend(check='{address: fd00::9}')}",
    f"frontend: {frontend(check='{type: http, status: 300-200}')}",
    f"frontend: {frontend(quorum='2')}",
    f"frontend: {frontend(quorum='{live: 1, hysteresis: 1}')}",
    f"frontend: {frontend(slow_start='2h')}",
    f"frontend: {frontend(resolve='0s')}",
]


def is_accepted(text: str) -> bool:
    try:
        parse_config(text.encode(), source="f")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    "more",
    [
        "check: {type: https, verify: false, port: 80, rise: 2, status: 204}",
        "check: {type: http, status: [200, 204]}",
        "quorum: 2",
        "quorum: {live: 1, hysteresis: 0}",
    ],
)
def test_an_editor_may_take_numbers_and_booleans_for_what_they_look_like(more: str) -> None:
    validator = jsonschema.Draft202012Validator(config_schema())
    assert validator.is_valid(yaml.safe_load(text_of(more)))


def is_valid(text: str) -> bool:
    """Return what an editor would say, which reads scalars as the schema expects them: as text."""
    data = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes text of everything
    return bool(jsonschema.Draft202012Validator(config_schema()).is_valid(data))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, (True, True)) for text in GOOD),
        *((text, (False, False)) for text in BAD),
        *((text, (False, True)) for text in BEYOND),
    ],
)
def test_schema_and_parser_agree(text: str, expected: tuple[bool, bool]) -> None:
    assert expected == (is_accepted(text), is_valid(text))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(config_schema())


def test_the_schema_has_the_keys_of_the_parser() -> None:
    schema: dict[str, Any] = config_schema()
    defs = schema["$defs"]
    assert [
        {key: value["description"] for key, value in mapping["properties"].items()}
        for mapping in (
            schema,
            defs["frontend"],
            defs["backend"],
            defs["check"]["anyOf"][1],
            defs["quorum"],
        )
    ] == [ROOT_KEYS, FRONTEND_KEYS, BACKEND_KEYS, CHECK_KEYS, QUORUM_KEYS]


def test_the_defaults_of_the_schema_are_those_of_the_parser() -> None:
    """What the schema says of a key that is left out is what the parser then takes."""
    defs: Any = config_schema()["$defs"]
    values = [(key, value) for key, value in defs["frontend"]["properties"].items()]
    check = defs["check"]["anyOf"][1]["properties"]
    reason = {key: value["default"] for key, value in values if "default" in value}
    told_check = {key: value["default"] for key, value in check.items() if "default" in value}
    of_http = ("path", "method", "status", "body", "verify")
    http = {key: told_check.pop(key) for key in of_http}
    lines = "\n".join(f"  {key}: {json.dumps(value)}" for key, value in reason.items())
    parsed = [
        parse_config(f"{text_of()}{more}".encode(), source="f")
        for more in ("", f"{lines}\n", f"  check: {json.dumps(told_check)}\n")
    ]
    assert parsed == [parsed[0]] * 3
    assert check_of("https") == check_of(json.dumps({"type": "https", **http}))


def test_every_example_of_the_schema_is_accepted() -> None:
    examples = config_schema()["examples"]
    assert isinstance(examples, list)
    assert [is_accepted(yaml.safe_dump(example)) for example in examples] == [True, True]


def test_the_patterns_use_no_syntax_that_editors_lack() -> None:
    """ECMA 262 without the u flag: no named groups, no lookbehind, no possessive repeats."""
    patterns = set(re.findall(r'"pattern": *"([^"]+)"', json.dumps(config_schema())))
    assert (
        len(patterns),
        [p for p in patterns if re.search(r"\(\?P|\(\?<|\(\?>|[*+?}]\+|\\A|\\Z", p)],
    ) == (18, [])
