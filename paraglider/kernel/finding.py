"""Finding: one thing on a host that keeps balanced connections from passing as the file says."""

from __future__ import annotations

from dataclasses import dataclass

CODES = (
    "forward-drop",
    "prerouting-drop",
    "postrouting-drop",
    "input-drop",
    "output-drop",
    "bind-taken",
    "source-taken",
    "untracked",
    "zone",
    "forwarding-off",
    "interface-forwarding",
    "privateip-away",
    "policy-rule",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is one of CODES, for programs; `frontend` the one that it is about, '' for
    all; `mend` the command that mends it, '' where there is none."""

    code: str
    sentence: str
    frontend: str = ""
    mend: str = ""

    def __str__(self) -> str:
        head = f"{self.frontend}: " if self.frontend else ""
        return f"{head}{self.sentence}{': ' if self.mend else ''}{self.mend}"
