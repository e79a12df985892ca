"""Targets: what the prober is told to probe, for the backends that the board wants probed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paraglider.config.model import Backend
from paraglider.health.probe import Target
from paraglider.health.service import Pair


def plan_targets(
    probed: Iterable[tuple[Pair, Backend]],
) -> tuple[list[Target], Mapping[str, Pair]]:
    """Return a target for each (bind, backend), and what the keys of their results stand for."""
    targets, keys = [], {}
    for pair, backend in probed:
        bind, endpoint = pair
        key = f"{bind} {endpoint}"
        host_name = backend.host if isinstance(backend.host, str) else ""
        # One without a port of its own is probed where its check says, or at the bind's first.
        port = endpoint.port or backend.check.port or bind.ports.first
        targets.append(Target(key, host_name, endpoint.address, port, backend.check))
        keys[key] = pair
    return targets, keys
