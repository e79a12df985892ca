"""Times on the command line and in the environment: ``500ms``, ``30s``, ``5m``."""

from __future__ import annotations

from paraglider.config.address import Refused
from paraglider.config.duration import parse_duration
from paraglider.errors import UsageError

MOST_S = 86400.0


def read_time(text: str, what: str) -> float:
    """Return the seconds that `text` says; UsageError, which names `what`, where it says none."""
    try:
        return parse_duration(text, 0.0, MOST_S)
    except Refused as refused:
        raise UsageError(f"{what}: {refused}") from refused
