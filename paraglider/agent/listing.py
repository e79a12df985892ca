"""Listing: many things in one line of a log."""

from __future__ import annotations

from collections.abc import Sequence

_MAX_SHOWN = 5


def listed(items: Sequence[object]) -> str:
    """Return the first few, and how many more: ``10.0.0.1, 10.0.0.2 and 95 more``.

    >>> listed([1, 2])
    '1, 2'
    """
    shown = ", ".join(str(item) for item in items[:_MAX_SHOWN])
    more = len(items) - _MAX_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
