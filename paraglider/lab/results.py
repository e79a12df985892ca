"""Who answered: the result of a number of connections, and the one table that shows it.

Owns nothing and opens nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = ("backend", "connections", "share", "peer address seen")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a backend said on one connection: its name, and the address it sees as its peer."""

    backend: str
    peer: str


@dataclass(frozen=True, slots=True)
class Results:
    """The answers in the order of the connections, and the reason of each connection without."""

    answers: tuple[Answer, ...]
    failures: tuple[str, ...] = ()

    @property
    def by_backend(self) -> Counter[str]:
        """Connections by the name of the backend that answered."""
        return Counter(answer.backend for answer in self.answers)

    @property
    def peers(self) -> frozenset[str]:
        """The peer addresses that the backends saw."""
        return frozenset(answer.peer for answer in self.answers)

    def peers_of(self, backend: str) -> frozenset[str]:
        """The peer addresses that one backend saw."""
        return frozenset(answer.peer for answer in self.answers if answer.backend == backend)


def render_json(results: Results) -> str:
    """Return a tally as one line of JSON; `parse_json` reads it back.

    ``{"answers": [["b1", "172.19.0.4"]], "failures": ["timed out"], "backends": {"b1": 1}}``
    """
    return json.dumps(
        {
            "answers": [[answer.backend, answer.peer] for answer in results.answers],
            "failures": list(results.failures),
            "backends": dict(sorted(results.by_backend.items())),
        }
    )


def parse_json(text: str) -> Results:
    """Read what `render_json` wrote."""
    values = json.loads(text)
    return Results(
        answers=tuple(Answer(backend, peer) for backend, peer in values["answers"]),
        failures=tuple(values["failures"]),
    )


def render_table(results: Results) -> str:
    """Return the table of a tally, a line for each backend by name, the total last.

        backend          connections    share   peer address seen
        172.19.0.2:5555          100   33.3 %   172.19.0.4
        172.19.0.3:5555          100   33.3 %   172.19.0.4
        172.19.0.6:5555          100   33.3 %   172.19.0.4
        all                      300  100.0 %   172.19.0.4

    Failed connections follow, with their number by reason.
    """
    total = len(results.answers)
    rows = [
        make_row(name, count, total, results.peers_of(name))
        for name, count in sorted(results.by_backend.items())
    ]
    lines = align([HEADINGS, *rows, make_row("all", total, total, results.peers)])
    if results.failures:
        lines.append(
            f"{len(results.failures)} of {total + len(results.failures)} connections failed:"
        )
        lines += [f"  {count} x {why}" for why, count in Counter(results.failures).most_common()]
    return "\n".join(lines) + "\n"


def make_row(name: str, count: int, total: int, peers: frozenset[str]) -> tuple[str, ...]:
    """Return the cells of one line."""
    share = f"{100 * count / total:.1f} %" if total else "-"
    return name, str(count), share, ", ".join(sorted(peers)) or "-"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of equal columns: names to the left, numbers to the right, the rest as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {share:>{widths[2]}}   {peers}"
        for name, count, share, peers in rows
    ]
