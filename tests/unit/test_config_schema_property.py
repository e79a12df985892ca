"""The JSON Schema and `check` agree on every file, but for a list of what a schema cannot say."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paraglider.config.parse import parse_config
from paraglider.config.schema import config_schema
from paraglider.errors import ConfigError
from tests.unit.test_config_property import FRONTENDS, LIKELY

VALIDATOR = jsonschema.Draft202012Validator(config_schema())

# The messages of what only the parser finds. docs/configuration.md has this list for users.
BEYOND_A_SCHEMA = re.compile(
    "|".join(
        (
            # Values that do not fit each other.
            r"is IPv[46], but .* is IPv[46]",
            r"no (?:address|network) is IPv[46]",
            r"a bind of this configuration",
            r"has ports of the bind",
            r"they are mapped one to one",
            r"belongs to a check of type",
            r"has a body, and",
            r"is longer than",
            r"the quorum of|a hysteresis of",
            r"the name .* is (?:taken|used)|stands already|is already|is listed already",
            # Numbers with a unit, in quotes or with a fraction of zero.
            r"out of range; allowed is",
            r"is not a whole number from",
            r"^'-?\d+\.0' is no",
            r"ends before it begins|is one port|is one address",
            # Addresses of IPv6, and networks.
            r"is not a valid IPv6 address",
            r"^[0-9a-f:.]*:[0-9a-f:.]* is (?:a loopback|no address|link-local|a multicast)",
            r"^[0-9a-f:.]*:[0-9a-f:.]* is (?:an IPv4 address|the metadata)",
            r"has bits set behind its prefix|is inside|overlaps",
        )
    )
)

_SCALARS: st.SearchStrategy[Any] = st.sampled_from(
    [
        *("", 0, -1, 80, 1.5, 2.0, 10**12, True, False, None, [], {}),
        *("0", "1", "01", "+1", "1.0", "1e3", "0x10", "1_000", "1000000000", "80"),
        *("true", "no", "tcp", "http", "tcp\n", " tcp", "keep\n", "auto", "reject", "random"),
        *("10.0.0.1", "10.0.0.1:80", "10.0.0.1:80\n", "10.0.0.1:0", "10.0.0.1:80,81", "*:80"),
        *("127.0.0.1:80", "fd00::1", "[fd00::1]:80", "10.0.0.0/8", "::/0", "eth0:80", "lo:80"),
        *("web", "web:80", "localhost", "LOCALHOST:1", "x" * 300, "é", "a\nb", "/x", "/x\n"),
        *("0s", "2s", "1h", "90d", "100/s", "0/s", "200-299", "GET", "source,port", "tcp+udp"),
    ]
).map(copy.deepcopy)  # lists and mappings among them are changed in place
_KEYS = st.sampled_from(["colour", "name", "check", "weight", "type", "port", "send", "live"])
_CHECK = {
    "type": "https",
    "path": "/",
    "host": "a.b",
    "method": "GET",
    "status": [200, "300-399"],
    "body": "x",
    "verify": False,
    "sni": "a.b",
    "headers": {"X-A": "b"},
    "ca": "/ca",
    "port": 1,
    "address": "10.0.0.9",
    "interval": "3s",
    "timeout": "1s",
    "rise": 2,
    "fall": 3,
    "start": "up",
}
_BACKEND = {
    "address": "web:80",
    "weight": 3,
    "backup": False,
    "max_connections": 5,
    "check": {"type": "http", "path": "/x"},
}
# One with every key.
_FULL: dict[str, Any] = {
    "name": "web",
    "protocol": "tcp",
    "balance": "source-hash",
    "hash_key": "source",
    "affinity": "3h",
    "check": _CHECK,
    "on_down": "keep",
    "no_backend": "reject",
    "quorum": {"live": 1, "hysteresis": 0},
    "slow_start": "30s",
    "resolve": "5s",
    "allow": ["10.0.0.0/8"],
    "deny": "10.9.0.0/16",
    "max_connections": 100,
    "rate": "100/s",
    "refuse": "drop",
}
_NEEDED = {
    "bind": "10.0.0.1:80",
    "privateip": "10.0.0.4",
    "backends": [_BACKEND, "10.0.0.3:81"],
}
_SOME = st.sets(st.sampled_from(sorted(_FULL))).map(
    lambda keys: _NEEDED | {key: _FULL[key] for key in sorted(keys)}
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _paths(inner, (*path, key))


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """Return a file's content, right or with up to two changes anywhere in it."""
    frontend = draw(st.one_of(_SOME, _SOME, LIKELY, FRONTENDS))
    is_single = draw(st.booleans())
    document = {"frontend": frontend} if is_single else {"frontends": [{"name": "a"} | frontend]}
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(0, 2))):
        document = _changed(draw, document)
    return document


def _changed(draw: st.DrawFn, document: Any) -> Any:
    path = draw(st.sampled_from(list(_paths(document))))
    if not path:
        return draw(_SCALARS) if draw(st.integers(0, 9)) == 0 else document
    within = reduce(lambda value, key: value[key], path[:-1], document)
    value = within[path[-1]]
    match draw(st.sampled_from(["delete", "replace", "replace", "wrap"])):
        case "delete":
            del within[path[-1]]
        case "wrap" if isinstance(value, dict):
            value[draw(_KEYS)] = draw(_SCALARS)
        case "wrap" if isinstance(value, list):
            value.append(draw(_SCALARS))
        case "wrap":
            within[path[-1]] = [value]
        case _:
            within[path[-1]] = draw(_SCALARS)
    return document


def _problems(document: Any) -> list[str]:
    text = json.dumps(document, ensure_ascii=False).encode()
    try:
        parse_config(text, source="f")
    except ConfigError as error:
        return [problem.message for problem in error.problems]
    return []


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_schema_and_check_agree_on_every_file(document: Any) -> None:
    """What is accepted fits the schema; what fits it, and is refused, is on the list."""
    problems, is_valid = _problems(document), VALIDATOR.is_valid(document)
    if not problems:
        assert is_valid
    elif is_valid:
        assert [message for message in problems if not BEYOND_A_SCHEMA.search(message)] == []
