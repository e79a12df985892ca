"""What is wrong with a configuration, gathered until all of it can be told at once.

Owns the order and the number of problems. Knows nothing about YAML or about addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paraglider.errors import ConfigError, Problem

# Nobody mends more at a time, and a hostile file must not buy memory with its mistakes.
MAX_PROBLEMS = 100


class Place(NamedTuple):
    """Where a value stands: line and column from 1 (None in the environment), and its key path.

    A tuple, for there is one for each value of the file.
    """

    line: int | None
    column: int | None
    key_path: str

    def __str__(self) -> str:
        """Name the place in the message about another one: ``frontend.bind (line 2)``."""
        if self.line is None:
            return self.key_path
        return f"{self.key_path} (line {self.line})"


class Enough(Exception):
    """There are so many problems already that reading on would tell nobody anything new."""


class Unreadable(Exception):
    """The text is not a YAML document within our limits.

    Only this is reported, not what was found before: where the structure is broken, the values
    around the break are not what their author meant either.
    """

    def __init__(self, *findings: tuple[Place, str]) -> None:
        self.findings = findings
        super().__init__(findings)


class Problems:
    """Collects the problems of one source and turns them into one error."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: list[Problem] = []

    def add(self, place: Place, message: str) -> None:
        """Keep one problem. Raises Enough in place of the one after `MAX_PROBLEMS`."""
        if len(self._found) == MAX_PROBLEMS:
            raise Enough(f"there are more than {MAX_PROBLEMS} problems; the first ones are shown")
        self._found.append(self._problem(place, message))

    @property
    def count(self) -> int:
        return len(self._found)

    def raise_if_any(self) -> None:
        """Raise ConfigError with every problem, in the order of the file."""
        if self._found:
            raise ConfigError(self._in_order())

    def error(self, enough: Enough) -> ConfigError:
        """Return the error for a source that was not read to its end, which says so last."""
        last = Problem(self._source, None, None, "", str(enough))
        return ConfigError([*self._in_order(), last])

    def unreadable(self, unreadable: Unreadable) -> ConfigError:
        """Return the error for a text that is no document, without what was found before."""
        return ConfigError([self._problem(place, text) for place, text in unreadable.findings])

    def _problem(self, place: Place, message: str) -> Problem:
        return Problem(self._source, place.line, place.column, place.key_path, message)

    def _in_order(self) -> Sequence[Problem]:
        return sorted(self._found, key=lambda found: (found.line or 0, found.column or 0))
