"""The JSON Schema and the parser agree, as far as a schema can say it."""

import json
import re

import jsonschema
import pytest
import yaml

from paraglider.config.keys import FRONTEND_KEYS, ROOT_KEYS
from paraglider.config.parse import parse_config
from paraglider.config.schema import config_schema
from paraglider.errors import ConfigError


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
            "10.0.0.1", "80", "22:22", "web:80", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:080",
            "010.0.0.1:80", "10.0.0.256:80", "0.0.0.0:80", "127.0.0.1:80", "224.0.0.1:80",
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
            "10.0.0.2:80", "[]", "{}", "[10.0.0.2]", "[~]", "[[]]", "[127.0.0.1:80]",
            "[10.0.0.2:80, 10.0.0.2:80]",
        )
    ),
]  # fmt: skip
# Wrong, and beyond what a schema says.
BEYOND = [
    f"frontend: {frontend(backends='[10.0.0.1:80]')}",
    f"frontend: {frontend(privateip='fd00::1')}",
    f"""frontend: {frontend(backends='["[fd00::1]:80"]')}""",
    f"""frontend: {frontend(backends='["[fd00::1::2]:80"]')}""",
    f"frontends: [{frontend(name='a')}, {frontend(name='a', bind='10.0.0.1:81')}]",
    f"frontends: [{frontend(name='a')}, {frontend(name='b')}]",
]


def is_accepted(text: str) -> bool:
    try:
        parse_config(text.encode(), source="f")
    except ConfigError:
        return False
    return True


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
    schema = config_schema()
    assert (set(ROOT_KEYS), set(FRONTEND_KEYS)) == (
        set(schema["properties"]),  # type: ignore[call-overload]
        set(schema["$defs"]["frontend"]["properties"]),  # type: ignore[index]
    )


def test_every_example_of_the_schema_is_accepted() -> None:
    examples = config_schema()["examples"]
    assert isinstance(examples, list)
    assert [is_accepted(yaml.safe_dump(example)) for example in examples] == [True, True]


def test_the_patterns_use_no_syntax_that_editors_lack() -> None:
    """ECMA 262 without the u flag: no named groups, no lookbehind, no possessive repeats."""
    patterns = re.findall(r'"pattern": *"([^"]+)"', json.dumps(config_schema()))
    assert (
        len(patterns),
        [p for p in patterns if re.search(r"\(\?P|\(\?<|\(\?>|[*+?}]\+|\\A|\\Z", p)],
    ) == (3, [])
