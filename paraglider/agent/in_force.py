"""In force: what a start, and an agent, say once a configuration holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paraglider.health.service import Health, Service
from paraglider.kernel.variant import Choice


def in_force_lines(
    services: Iterable[Service], choice: Choice, *, is_changed: bool
) -> Iterator[str]:
    """Yield who is balanced over how many backends, and where the rules are. Backends that drain
    do not count, nor do frontends that are leaving."""
    if not is_changed:
        yield "already running as configured; nothing to change"
    for service in services:
        if not service.is_leaving:
            count = sum(member.health is not Health.DRAINING for member in service.members)
            yield (
                f"{service.name}: balancing {', '.join(map(str, service.binds))} over {count} "
                f"backend{'s' * (count != 1)}, source {service.source}"
            )
    yield f"rules are in iptables ({choice.variant.value}): {choice.reason}"
