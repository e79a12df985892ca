"""The JSON Schema of the file, for editors that complete and check while one types.

Made of the same keys, patterns and words as the parser. What a schema cannot say (families,
loops, overlapping binds, bounds of durations, which keys fit which check) only the parser knows.
"""

from __future__ import annotations

from paraglider.config.access import (
    IPV4_NETWORK_PATTERN,
    IPV6_NETWORK_PATTERN,
    MAX_NETWORKS,
    RATE_PATTERN,
    REFUSE,
)
from paraglider.config.address import IPV4_PATTERN, IPV6_PATTERN, NEVER_IPV4_PATTERN
from paraglider.config.bind import LIKE_AN_ADDRESS, LOOPBACKS, MAX_BINDS, PROTOCOLS
from paraglider.config.clients import Refuse
from paraglider.config.keys import (
    BACKEND_KEYS,
    FRONTEND_KEYS,
    QUORUM_KEYS,
    REQUIRED_KEYS,
    ROOT_KEYS,
)
from paraglider.config.model import (
    DEFAULT_NAME,
    HOST_PATTERN,
    INTERFACE_PATTERN,
    MAX_HOST_CHARACTERS,
    NAME_PATTERN,
    Balance,
    HashKey,
    NoBackend,
    OnDown,
    Protocol,
    ReturnPath,
)
from paraglider.config.policy import (
    BALANCE,
    HASH_KEY,
    MAX_LIVE,
    MAX_WEIGHT,
    NO_BACKEND,
    ON_DOWN,
    RETURN_PATH,
)
from paraglider.config.ports import PORTS_PATTERN, RANGE_PATTERN
from paraglider.config.schema_check import (
    END,
    TEXT,
    Schema,
    check_schema,
    duration_schema,
    flag_schema,
    object_schema,
    pattern_schema,
    whole_schema,
    words_schema,
)
from paraglider.config.source import MAX_ADDRESSES, WORDS
from paraglider.config.value import CONNECTIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_UNNAMED = {
    "bind": "166.1.101.2:4444",
    "privateip": "172.19.0.4",
    "backends": ["172.19.0.2:5555", "172.19.0.3:5555"],
}
_NAMED = {"name": "web", **_UNNAMED, "check": {"type": "http", "path": "/healthz"}}
# An address that may be right, and a host name that does not mean this host.
_BARE_ADDRESS = f"(?!{NEVER_IPV4_PATTERN})(?:{IPV4_PATTERN}|{IPV6_PATTERN})"
_ADDRESS = rf"(?!{NEVER_IPV4_PATTERN})(?:{IPV4_PATTERN}|\[{IPV6_PATTERN}\])"
_LOCALHOST = "".join(f"[{letter.upper()}{letter}]" for letter in "localhost")
_NAME = (
    rf"(?!(?:[^:]*\.)?{_LOCALHOST}(?::|$))(?=[^:]{{1,{MAX_HOST_CHARACTERS}}}(?::|$)){HOST_PATTERN}"
)
_INTERFACE = rf"(?!(?:{LIKE_AN_ADDRESS}|{'|'.join(LOOPBACKS)}):){INTERFACE_PATTERN}"


def config_schema() -> dict[str, object]:
    """Return the schema (JSON Schema 2020-12) of the configuration file."""
    frontend: Schema = {"$ref": "#/$defs/frontend", "examples": [_UNNAMED]}
    frontends: Schema = {
        "type": "array",
        "items": {"$ref": "#/$defs/frontend", "required": ["name"]},
        "minItems": 1,
        "examples": [[_NAMED]],
    }
    return {
        "$schema": DIALECT,
        "title": "Paraglider",
        "description": "Which addresses to listen on, and which backends to spread connections"
        " over.",
        **object_schema(ROOT_KEYS, {"frontend": frontend, "frontends": frontends}),
        "minProperties": 1,
        "maxProperties": 1,
        "examples": [{"frontend": _UNNAMED}, {"frontends": [_NAMED]}],
        "$defs": {
            "frontend": _frontend(),
            "backend": _backend(),
            "server": _server(),
            "check": check_schema(),
            "quorum": _quorum(),
        },
    }


def _frontend() -> Schema:
    values: dict[str, Schema] = {
        "name": {
            "type": TEXT,
            "pattern": f"^{NAME_PATTERN}{END}",
            "minimum": 0,
            "maximum": 10**15 - 1,
            "multipleOf": 1,
            "default": DEFAULT_NAME,
            "examples": [_NAMED["name"]],
        },
        "bind": _one_or_list(_bind(), MAX_BINDS),
        "protocol": words_schema(PROTOCOLS, default=Protocol.TCP.value),
        "privateip": {"anyOf": [words_schema(WORDS), _one_or_list(_addresses(), MAX_ADDRESSES)]},
        "backends": {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/$defs/server"}, {"$ref": "#/$defs/backend"}]},
            "minItems": 1,
            "uniqueItems": True,
            "examples": [_UNNAMED["backends"]],
        },
        "check": {"$ref": "#/$defs/check"},
        "balance": words_schema(BALANCE, default=Balance.ROUND_ROBIN.value),
        "hash_key": words_schema(HASH_KEY, default=HashKey.SOURCE.value),
        "on_down": words_schema(ON_DOWN, default=OnDown.CUT.value),
        "no_backend": words_schema(NO_BACKEND, default=NoBackend.REJECT.value),
        "quorum": {"anyOf": [_live(), {"$ref": "#/$defs/quorum"}]},
        "slow_start": duration_schema(0.0),
        "affinity": duration_schema(0.0),
        "resolve": duration_schema(5.0),
        "hold": duration_schema(30.0),
        "return_path": words_schema(RETURN_PATH, default=ReturnPath.POLICY.value),
        "allow": _one_or_list(_network(), MAX_NETWORKS),
        "deny": _one_or_list(_network(), MAX_NETWORKS),
        "max_connections": whole_schema(*CONNECTIONS),
        "rate": pattern_schema(RATE_PATTERN, "100/s"),
        "refuse": words_schema(REFUSE, default=Refuse.RESET.value),
    }
    return object_schema(FRONTEND_KEYS, values, required=REQUIRED_KEYS[1:])


def _backend() -> Schema:
    values: dict[str, Schema] = {
        "address": {"$ref": "#/$defs/server"},
        "weight": whole_schema(0, MAX_WEIGHT, default=1),
        "backup": flag_schema(default=False),
        "check": {"$ref": "#/$defs/check"},
        "max_connections": whole_schema(*CONNECTIONS),
    }
    return object_schema(BACKEND_KEYS, values, required=["address"])


def _server() -> Schema:
    examples = ("172.19.0.2:5555", "web:5555", "[fd00::2]:5555")
    server = f"(?:{_ADDRESS}|{_NAME})(?::{RANGE_PATTERN})?"
    return pattern_schema(server, *examples, type=["string", "boolean"])


def _bind() -> Schema:
    hosts = rf"(?:0\.0\.0\.0|{_ADDRESS}|\*|{_INTERFACE})"
    return pattern_schema(f"{hosts}:{PORTS_PATTERN}", _UNNAMED["bind"], "[fd00::10]:80", "*:80,443")


def _addresses() -> Schema:
    return pattern_schema(f"{_BARE_ADDRESS}(?:-{_BARE_ADDRESS})?", "172.19.0.4", "fd00::4")


def _network() -> Schema:
    return pattern_schema(f"(?:{IPV4_NETWORK_PATTERN}|{IPV6_NETWORK_PATTERN})", "10.0.0.0/8")


def _one_or_list(item: Schema, most: int) -> Schema:
    many = {"type": "array", "items": item, "minItems": 1, "maxItems": most, "uniqueItems": True}
    return {"anyOf": [item, many]}


def _quorum() -> Schema:
    values = {"live": _live(), "hysteresis": whole_schema(0, MAX_LIVE - 1, default=0)}
    return object_schema(QUORUM_KEYS, values, required=["live"])


def _live() -> Schema:
    return whole_schema(1, MAX_LIVE, default=1)
