"""One frontend as far as it is known, each value with the place where it stands.

A draft exists so that the checks between values go on while some values are wrong, and can name
the places of both. It becomes a `Frontend` once nothing is missing. File and environment both
make drafts, through the same functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from paraglider.config.address import Refused, Role, parse_address
from paraglider.config.endpoint import parse_endpoint
from paraglider.config.model import NAME_PATTERN, NAME_RULE, Address, Endpoint, Frontend
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.traps import yaml11_reading


@dataclass(frozen=True, slots=True)
class Text:
    """A value as it was written; `is_plain` says that it is YAML without quotes."""

    value: str
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of a frontend; None is a value that is missing or was refused."""

    name: tuple[str, Place] | None
    bind: tuple[Endpoint, Place] | None
    privateip: tuple[Address, Place] | None
    backends: tuple[tuple[Endpoint, Place], ...]

    def frontend(self) -> Frontend | None:
        """Return the frontend, or None while something is not known."""
        if self.name is None or self.bind is None or self.privateip is None or not self.backends:
            return None
        backends = tuple(endpoint for endpoint, _ in self.backends)
        return Frontend(self.name[0], self.bind[0], self.privateip[0], backends)


def draft_name(text: Text, place: Place, problems: Problems) -> tuple[str, Place] | None:
    """Return the name, or None once the problem with it is told."""
    if re.fullmatch(NAME_PATTERN, text.value):
        return text.value, place
    problems.add(place, f"{quoted(text.value)} is not a name; a name is {NAME_RULE}")
    return None


def draft_address(
    text: Text, role: Role, place: Place, problems: Problems
) -> tuple[Address, Place] | None:
    """Return the address, or None once the problem with it is told."""
    try:
        return parse_address(text.value, role), place
    except Refused as refused:
        problems.add(place, _with_reading(refused, text))
        return None


def draft_endpoint(
    text: Text, role: Role, place: Place, problems: Problems
) -> tuple[Endpoint, Place] | None:
    """Return the address and port, or None once the problem with it is told."""
    try:
        return parse_endpoint(text.value, role), place
    except Refused as refused:
        problems.add(place, _with_reading(refused, text))
        return None


def draft_backend(
    text: Text, seen: dict[Endpoint, Place], place: Place, problems: Problems
) -> tuple[Endpoint, Place] | None:
    """Return the backend and add it to `seen`, or None once the problem with it is told.

    Doubled ones are told here, while reading, so that a list of nothing else ends soon.
    """
    backend = draft_endpoint(text, Role.BACKEND, place, problems)
    if backend is None:
        return None
    if (first := seen.setdefault(backend[0], place)) is not place:
        problems.add(place, f"{backend[0]} is listed already: {first}; list every backend once")
        return None
    return backend


def _with_reading(refused: Refused, text: Text) -> str:
    reading = yaml11_reading(text.value) if text.is_plain else None
    if reading is None:
        return str(refused)
    return f"{refused} (without quotes, YAML 1.1 reads {text.value} as {reading})"
