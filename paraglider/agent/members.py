"""Members: which backends a command means."""

from __future__ import annotations

from collections.abc import Sequence

from paraglider.config.quote import quoted
from paraglider.errors import UsageError
from paraglider.health.service import Pair


def match_backend(text: str, frontend: str, members: Sequence[tuple[str, str, Pair]]) -> list[Pair]:
    """Return the pairs that `text` (ADDRESS:PORT, an address or a host name) names, among members
    as (frontend's name, host as the file has it, pair); UsageError where there are none."""
    names = {name for name, _, _ in members}
    if frontend and frontend not in names:
        raise UsageError(
            f"no such frontend: {quoted(frontend)}; frontends: {', '.join(sorted(names))}"
        )
    found = [
        pair
        for name, host, pair in members
        if frontend in ("", name)
        and text in (str(pair[1]), str(pair[1].address), host, f"{host}:{pair[1].port}")
    ]
    if not found:
        there = sorted({str(pair[1]) for name, _, pair in members if frontend in ("", name)})
        raise UsageError(f"no such backend: {quoted(text)}; backends: {', '.join(there)}")
    return found
