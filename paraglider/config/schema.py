"""The JSON Schema of the file, for editors that complete and check while one types.

Made of the same keys, patterns and words as the parser. What a schema cannot say (families,
loops, doubled binds) only the parser knows.
"""

from __future__ import annotations

from paraglider.config.address import (
    IPV4_PATTERN,
    IPV6_PATTERN,
    NEVER_IPV4_PATTERN,
)
from paraglider.config.endpoint import ENDPOINT_PATTERN
from paraglider.config.keys import PURPOSES
from paraglider.config.model import DEFAULT_NAME, NAME_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_EXAMPLE = {
    "name": "web",
    "bind": "166.1.101.2:4444",
    "privateip": "172.19.0.4",
    "backends": ["172.19.0.2:5555", "172.19.0.3:5555"],
}


def config_schema() -> dict[str, object]:
    """Return the schema (JSON Schema 2020-12) of the configuration file."""
    unnamed = {key: value for key, value in _EXAMPLE.items() if key != "name"}
    return {
        "$schema": DIALECT,
        "title": "Paraglider",
        "description": "Which addresses to listen on, and which backends to spread connections"
        " over.",
        "type": "object",
        "properties": {
            "frontend": {
                "$ref": "#/$defs/frontend",
                "description": PURPOSES["frontend"],
                "examples": [unnamed],
            },
            "frontends": {
                "description": PURPOSES["frontends"],
                "type": "array",
                "items": {"$ref": "#/$defs/frontend", "required": ["name"]},
                "minItems": 1,
                "examples": [[_EXAMPLE]],
            },
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "examples": [{"frontend": unnamed}, {"frontends": [_EXAMPLE]}],
        "$defs": {"frontend": _frontend(), "endpoint": _endpoint()},
    }


def _frontend() -> dict[str, object]:
    return {
        "type": "object",
        "properties": {
            "name": {
                "description": PURPOSES["name"],
                "type": "string",
                "pattern": f"^{NAME_PATTERN}$",
                "default": DEFAULT_NAME,
                "examples": [_EXAMPLE["name"]],
            },
            "bind": {
                "$ref": "#/$defs/endpoint",
                "description": PURPOSES["bind"],
                "examples": [_EXAMPLE["bind"], "[fd00::10]:80"],
            },
            "privateip": {
                "description": PURPOSES["privateip"],
                "type": "string",
                "pattern": f"^(?!{NEVER_IPV4_PATTERN})(?:{IPV4_PATTERN}|{IPV6_PATTERN})$",
                "examples": [_EXAMPLE["privateip"], "fd00::4"],
            },
            "backends": {
                "description": PURPOSES["backends"],
                "type": "array",
                "items": {"$ref": "#/$defs/endpoint"},
                "minItems": 1,
                "uniqueItems": True,
                "examples": [_EXAMPLE["backends"]],
            },
        },
        "required": ["bind", "privateip", "backends"],
        "additionalProperties": False,
    }


def _endpoint() -> dict[str, object]:
    return {
        "type": "string",
        "pattern": f"^(?!{NEVER_IPV4_PATTERN})(?:{ENDPOINT_PATTERN})$",
        "examples": [_EXAMPLE["bind"], "[fd00::10]:80"],
    }
