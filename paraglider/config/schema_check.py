"""The part of the JSON Schema that says what a check is, and the kinds of value it is made of.

Where we take text, an editor takes ``2`` for a number and ``true`` for a boolean: both are let in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paraglider.config.address import IPV4_PATTERN, IPV6_PATTERN, NEVER_IPV4_PATTERN
from paraglider.config.check import COUNTS, DEFAULT, KINDS, STARTS
from paraglider.config.duration import DURATION_PATTERN, render_duration
from paraglider.config.endpoint import PORT_PATTERN
from paraglider.config.headers import (
    HEADER_NAME_PATTERN,
    HEADER_VALUE_PATTERN,
    MAX_HEADERS,
    MAX_HEADERS_CHARACTERS,
    OWN_HEADERS,
)
from paraglider.config.keys import CHECK_KEYS
from paraglider.config.model import HOST_PATTERN, MAX_HOST_CHARACTERS
from paraglider.config.request import (
    BYTES_PATTERN,
    HOST_HEADER_PATTERN,
    MAX_CA_CHARACTERS,
    MAX_STATUSES,
    MAX_TEXT_CHARACTERS,
    METHODS,
    PATH_PATTERN,
    STATUSES_PATTERN,
)
from paraglider.config.value import WHOLE_PATTERN

Schema = dict[str, object]

# The end of a text: in Python, unlike in ECMAScript, `$` is also before a line feed at the end.
END = r"$(?!\n)"
# The types that an editor sees where we take text: `name: 80` is a number to it.
TEXT = ["string", "number", "boolean"]


def check_schema() -> Schema:
    """Return what may stand behind `check:`: a type alone, or a mapping."""
    mapping = object_schema(CHECK_KEYS, _values())
    return {"anyOf": [words_schema(KINDS), mapping]}


def object_schema(
    keys: Mapping[str, str], values: Mapping[str, Schema], required: Iterable[str] = ()
) -> Schema:
    """Return a mapping of exactly `keys`, which say what each is for."""
    schema: Schema = {
        "type": "object",
        "properties": {key: {"description": keys[key], **values[key]} for key in keys},
        "additionalProperties": False,
    }
    return schema | ({"required": list(required)} if required else {})


def address_schema(*examples: str) -> Schema:
    """Return an address without a port."""
    return pattern_schema(f"(?!{NEVER_IPV4_PATTERN})(?:{IPV4_PATTERN}|{IPV6_PATTERN})", *examples)


def pattern_schema(pattern: str, *examples: object, **more: object) -> Schema:
    """Return text that fits `pattern` from end to end."""
    pattern = f"^{pattern}{END}"
    return {"type": "string", "pattern": pattern, "examples": list(examples), **more}


def words_schema(words: Iterable[str], **more: object) -> Schema:
    """Return a choice of words."""
    return {"type": "string", "enum": list(words), **more}


def flag_schema(*, default: bool) -> Schema:
    """Return true or false."""
    return {"enum": [True, False, "true", "false"], "default": default}


def duration_schema(default_s: float) -> Schema:
    """Return a number with its unit."""
    default = render_duration(default_s)
    return {"type": "string", "pattern": f"^{DURATION_PATTERN}{END}", "default": default}


def whole_schema(least: int, most: int, **more: object) -> Schema:
    """Return a whole number; of one in quotes the bounds go unsaid."""
    return {
        "type": ["integer", "string"],
        "minimum": least,
        "maximum": most,
        "pattern": f"^(?:{WHOLE_PATTERN}){END}",
        **more,
    }


def _headers_schema() -> Schema:
    """Return names and values. A schema has no case-insensitive patterns: ``[Hh][Oo]...``."""
    own = ("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in it) for it in OWN_HEADERS)
    value = {
        "type": TEXT,
        "pattern": f"^{HEADER_VALUE_PATTERN}{END}",
        "maxLength": MAX_HEADERS_CHARACTERS,
    }
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^(?!(?:{'|'.join(own)})$){HEADER_NAME_PATTERN}{END}"},
        "additionalProperties": value,
        "maxProperties": MAX_HEADERS,
        "examples": [{"X-Probe": "paraglider"}],
    }


def _values() -> Mapping[str, Schema]:
    text: Schema = {"type": TEXT, "maxLength": MAX_TEXT_CHARACTERS, "default": ""}
    status = whole_schema(100, 599, pattern=f"^(?:{STATUSES_PATTERN}){END}")
    statuses = {"type": "array", "items": status, "minItems": 1, "maxItems": MAX_STATUSES}
    return {
        "type": words_schema(KINDS, default=DEFAULT.kind.value),
        "path": pattern_schema(PATH_PATTERN, "/healthz", default=DEFAULT.http.path),
        "host": pattern_schema(HOST_HEADER_PATTERN, "example.org", type=TEXT),
        "method": words_schema(METHODS, default=DEFAULT.http.method),
        "status": {"anyOf": [status, statuses], "default": "200-399"},
        "body": text,
        "verify": flag_schema(default=DEFAULT.http.is_verified),
        "sni": pattern_schema(
            HOST_PATTERN, "example.org", type=TEXT, maxLength=MAX_HOST_CHARACTERS
        ),
        "headers": _headers_schema(),
        "ca": pattern_schema("/.*", "/etc/paraglider/ca.pem", maxLength=MAX_CA_CHARACTERS),
        "send": pattern_schema(BYTES_PATTERN, "PING\\r\\n", "\\x00\\x01", type=TEXT, default=""),
        "expect": pattern_schema(BYTES_PATTERN, "+PONG", type=TEXT, default=""),
        "port": whole_schema(1, 65535, pattern=f"^{PORT_PATTERN}{END}"),
        "address": address_schema("172.19.0.9", "fd00::9"),
        "interval": duration_schema(DEFAULT.interval_s),
        "timeout": duration_schema(DEFAULT.timeout_s),
        "rise": whole_schema(*COUNTS, default=DEFAULT.rise),
        "fall": whole_schema(*COUNTS, default=DEFAULT.fall),
        "start": words_schema(STARTS, default="up"),
    }
