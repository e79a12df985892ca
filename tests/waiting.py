"""Wait for what nobody tells of, with a limit."""

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
        # Most of what is waited for is in logs and rules of others, who tell nobody.
        time.sleep(_POLL_S)
    return answer
