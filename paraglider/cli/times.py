"""Times on the command line and in the environment: ``500ms``, ``30s``, ``5m``."""

from __future__ import annotations

from paraglider.config.address import Refused
from paraglider.config.duration import parse_duration
from paraglider.config.variables import MAX_DRAIN_S
from paraglider.errors import UsageError


def read_time(text: str, what: str) -> float:
    """Return the seconds that `text` says; UsageError, which names `what`, where it says none."""
    try:
        return parse_duration(text, 0.0, MAX_DRAIN_S)
    except Refused as refused:
        raise UsageError(f"{what}: {refused}") from refused
