"""A length of time: a number and its unit, ``500ms``, ``2s``, ``1.5m``, ``1h`` or ``30d``.

A number alone is refused: nobody would know whether the next program reads seconds or
milliseconds out of it.
"""

from __future__ import annotations

import re

from paraglider.config.address import Refused
from paraglider.config.quote import quoted

_NUMBER = r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?"
DURATION_PATTERN = rf"({_NUMBER})(ms|s|m|h|d)"
# More than is read; whatever is allowed, it is less than the thirty years that these are at least.
_TOO_LONG = r"[1-9][0-9]{9,}(?:s|m|h|d)|[1-9][0-9]{12,}ms"

_UNITS_US = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}


def parse_duration(text: str, least_s: float, most_s: float) -> float:
    """Return seconds, to the microsecond. Raises Refused, also for what is out of bounds.

    >>> parse_duration("1.5m", 0, 3600)
    90.0
    """
    match = re.fullmatch(DURATION_PATTERN, text)
    if match:
        seconds = round(float(match[1]) * _UNITS_US[match[2]]) / 1e6
        if least_s <= seconds <= most_s:
            return seconds
    elif not re.fullmatch(_TOO_LONG, text):
        raise Refused(_explain(text))
    bounds = f"{render_duration(least_s)} to {render_duration(most_s)}"
    raise Refused(f"{text if match else quoted(text)} is out of range; allowed is {bounds}")


def render_duration(seconds: float) -> str:
    """Return a duration of whole microseconds as `parse_duration` takes it.

    >>> render_duration(0.5), render_duration(3600)
    ('500ms', '1h')
    """
    micros = round(seconds * 1e6)
    if micros == 0:
        return "0s"
    for unit, unit_us in _UNITS_US.items():
        if micros % unit_us == 0:
            return f"{micros // unit_us}{unit}"
    return f"{micros / 1000:.3f}".rstrip("0") + "ms"


def _explain(text: str) -> str:
    """Say why `text` is not a duration."""
    if re.fullmatch(_NUMBER, text):
        return f"{quoted(text)} has no unit; write {text}s (or ms, m, h, d)"
    return f"{quoted(text)} is not a duration; write a number and ms, s, m, h or d, such as 500ms"
