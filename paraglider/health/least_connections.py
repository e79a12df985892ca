"""Least connections: shares by how many connections backends have, for `least-connections`.

The kernel counts nobody's connections when it chooses, so that what was counted a moment ago has to
do: who has few for its weight gets more of the next ones, who has many gets fewer. Pure: shares and
counts in, shares out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from paraglider.config.model import Endpoint
from paraglider.health.service import Share

# Shares are in whole steps of the largest, and stay as they are until one is off by more than one:
# each change writes rules.
STEPS = 16
_TOLERANCE = 1


def balance_shares(
    shares: Sequence[Share], open_now: Mapping[Endpoint, int], before: Mapping[Endpoint, int]
) -> dict[Endpoint, int]:
    """Return the step (1 to `STEPS`) of each backend; `before` where that is still right.

    What a backend gets is its weight over its connections for each unit of weight, beside as many
    again as all have on average: then one that has none gets twice what it would, and not all.
    """
    loads = {share.backend: open_now.get(share.backend, 0) / share.weight for share in shares}
    mean = sum(loads.values()) / max(1, len(loads))
    parts = {backend: 1 / (load + mean + 1) for backend, load in loads.items()}
    largest = max(parts.values(), default=1.0)
    steps = {backend: max(1, round(STEPS * part / largest)) for backend, part in parts.items()}
    if steps.keys() == before.keys() and all(
        abs(step - before[backend]) <= _TOLERANCE for backend, step in steps.items()
    ):
        return dict(before)
    return steps


def apply_steps(shares: Sequence[Share], steps: Mapping[Endpoint, int]) -> tuple[Share, ...]:
    """Return `shares` with their weights in the given steps; one that has none gets a full one."""
    return tuple(
        replace(share, weight=share.weight * steps.get(share.backend, STEPS)) for share in shares
    )
