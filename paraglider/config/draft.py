"""One frontend as far as it is known, each value with the place where it stands.

A draft exists so that the checks between values go on while some values are wrong, and can name
the places of both. It becomes a `Frontend` once nothing is missing. File and environment both
make drafts, through the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from paraglider.config.address import Refused
from paraglider.config.backend import BackendDraft
from paraglider.config.model import (
    NAME_PATTERN,
    NAME_RULE,
    Address,
    Backend,
    Endpoint,
    Frontend,
    Quorum,
)
from paraglider.config.problems import Place
from paraglider.config.quote import quoted

if TYPE_CHECKING:
    from paraglider.config.check import CheckDraft


@dataclass(slots=True)
class Draft:
    """What is known of a frontend by now; None is a value that is missing or was refused.

    `policy` has the fields of Frontend that were given, of those that have a default.
    """

    name: tuple[str, Place] | None = None
    bind: tuple[Endpoint, Place] | None = None
    privateip: tuple[Address, Place] | None = None
    backends: tuple[BackendDraft, ...] = ()
    check: CheckDraft | None = None
    quorum: tuple[Quorum, Place] | None = None
    policy: dict[str, Any] = field(default_factory=dict)

    def frontend(self) -> Frontend | None:
        """Return the frontend, or None while something is not known."""
        if self.name is None or self.bind is None or self.privateip is None:
            return None
        backends = tuple(self._build_backends())
        quorum = self.quorum[0] if self.quorum else Quorum()
        name, bind, privateip = self.name[0], self.bind[0], self.privateip[0]
        return Frontend(name, bind, privateip, backends, quorum=quorum, **self.policy)

    def _build_backends(self) -> Iterator[Backend]:
        found = [(it.backend, it.check) for it in self.backends if it.backend is not None]
        if self.check is None and not any(check for _, check in found):
            yield from (backend for backend, _ in found)
            return
        from paraglider.config.check import build_check

        shared = build_check(self.check, None)
        for backend, own in found:
            yield replace(backend, check=build_check(self.check, own) if own else shared)


def parse_name(text: str) -> str:
    """Return the name of a frontend. Raises Refused."""
    if re.fullmatch(NAME_PATTERN, text):
        return text
    raise Refused(f"{quoted(text)} is not a name; a name is {NAME_RULE}")
