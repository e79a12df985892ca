"""Wait, with a limit, for what has to be asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.05


def until(poll: Callable[[], T], *, what: str, within_s: float = 20.0) -> T:
    """Return the first true answer of `poll`; fail when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (answer := poll()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        # Most of it is in logs and in rules of other programs, which send no event.
        time.sleep(_POLL_S)
    return answer
