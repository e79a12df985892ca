"""What other programs make of a scalar without quotes that we read as text.

YAML 1.1 (yaml.org/type) turns ``no`` into a boolean, ``010`` into eight and ``22:22`` into 1342.
We never do; but where such a value is refused, the message says what editors and other tools see.
"""

from __future__ import annotations

import re

_READINGS = (
    (r"[yY]|yes|Yes|YES|on|On|ON|true|True|TRUE", "true"),
    (r"[nN]|no|No|NO|off|Off|OFF|false|False|FALSE", "false"),
    (r"[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", "a number in base 60"),
    (r"[-+]?0[0-7_]+", "an octal number"),
    (r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)", "a number"),
    (r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9_]+|\.inf|\.nan)", "a number"),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "a date"),
)


def yaml11_reading(text: str) -> str | None:
    """Return what YAML 1.1 reads the plain scalar `text` as, or None where that is text too."""
    if len(text) > 64:
        return None
    for pattern, reading in _READINGS:
        if re.fullmatch(pattern, text):
            return reading
    return None


def with_reading(refusal: str, text: str, *, is_plain: bool) -> str:
    """Return the refusal of `text`, with what YAML 1.1 makes of it where it `is_plain`."""
    reading = yaml11_reading(text) if is_plain else None
    if reading is None:
        return refusal
    return f"{refusal} (without quotes, YAML 1.1 reads {text} as {reading})"
