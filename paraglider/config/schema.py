"""The JSON Schema of the file, for editors that complete and check while one types.

Made of the same keys, patterns and words as the parser. What a schema cannot say (families,
loops, doubled binds, bounds of durations, which keys fit which check) only the parser knows.
"""

from __future__ import annotations

from paraglider.config.address import NEVER_IPV4_PATTERN
from paraglider.config.endpoint import ENDPOINT_PATTERN, PORT_PATTERN
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
    MAX_HOST_CHARACTERS,
    NAME_PATTERN,
    Balance,
    HashKey,
    NoBackend,
    OnDown,
)
from paraglider.config.policy import BALANCE, HASH_KEY, MAX_LIVE, MAX_WEIGHT, NO_BACKEND, ON_DOWN
from paraglider.config.schema_check import (
    Schema,
    address_schema,
    check_schema,
    duration_schema,
    flag_schema,
    object_schema,
    pattern_schema,
    whole_schema,
    words_schema,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_UNNAMED = {
    "bind": "166.1.101.2:4444",
    "privateip": "172.19.0.4",
    "backends": ["172.19.0.2:5555", "172.19.0.3:5555"],
}
_NAMED = {"name": "web", **_UNNAMED, "check": {"type": "http", "path": "/healthz"}}
# An endpoint that may be right, and a host name that does not mean this host.
_ADDRESS = f"(?!{NEVER_IPV4_PATTERN})(?:{ENDPOINT_PATTERN})"
_NAME = (
    rf"(?!(?:[^:]*\.)?localhost:)(?=[^:]{{1,{MAX_HOST_CHARACTERS}}}:){HOST_PATTERN}:{PORT_PATTERN}"
)


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
            "type": "string",
            "pattern": f"^{NAME_PATTERN}$",
            "default": DEFAULT_NAME,
            "examples": [_NAMED["name"]],
        },
        "bind": pattern_schema(_ADDRESS, _UNNAMED["bind"], "[fd00::10]:80"),
        "privateip": address_schema("172.19.0.4", "fd00::4"),
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
        "resolve": duration_schema(5.0),
    }
    return object_schema(FRONTEND_KEYS, values, required=REQUIRED_KEYS[1:])


def _backend() -> Schema:
    values: dict[str, Schema] = {
        "address": {"$ref": "#/$defs/server"},
        "weight": whole_schema(0, MAX_WEIGHT, default=1),
        "backup": flag_schema(default=False),
        "check": {"$ref": "#/$defs/check"},
    }
    return object_schema(BACKEND_KEYS, values, required=["address"])


def _server() -> Schema:
    examples = ("172.19.0.2:5555", "web:5555", "[fd00::2]:5555")
    return pattern_schema(f"(?:{_ADDRESS}|{_NAME})", *examples)


def _quorum() -> Schema:
    values = {"live": _live(), "hysteresis": whole_schema(0, MAX_LIVE - 1, default=0)}
    return object_schema(QUORUM_KEYS, values, required=["live"])


def _live() -> Schema:
    return whole_schema(1, MAX_LIVE, default=1)
