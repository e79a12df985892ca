"""Saved state: what the live rules remember, as the board takes it in."""

from __future__ import annotations

from collections.abc import Collection

from paraglider.health.saved_state import SavedState
from paraglider.health.service import Health, Pair, Service


def recall(services: Collection[Service]) -> SavedState:
    """Return what an agent before this one, or a `start`, left in the rules: `services` as they
    tell them."""
    members = [(service.bind, member) for service in services for member in service.members]

    def those(health: Health) -> frozenset[Pair]:
        return frozenset((bind, m.backend) for bind, m in members if m.health is health)

    return SavedState(
        down=those(Health.DOWN),
        draining={
            (bind, m.backend): m.until_s for bind, m in members if m.health is Health.DRAINING
        },
        disabled=those(Health.DISABLED),
        serving=frozenset((s.bind, share.backend) for s in services for share in s.serving),
    )
