"""Effect: what a configuration says that nothing comes of, though it is right.

Each finding is a warning: it may be meant, until tomorrow. `check --strict` makes them errors.
"""

from __future__ import annotations

from collections.abc import Iterator

from paraglider.config.clients import Refuse, merge_networks
from paraglider.config.model import Balance, Config, Frontend, HashKey


def effect_findings(config: Config) -> list[str]:
    """Return one sentence for each thing of `config` that has no effect, or leaves none."""
    findings = (found for frontend in config.frontends for found in _findings(frontend))
    return list(dict.fromkeys(findings))  # of both families: once


def agent_findings(config: Config) -> list[str]:
    """Return one sentence for each thing of `config` that only an agent does."""
    findings = (found for frontend in config.frontends for found in _without_agent(frontend))
    return list(dict.fromkeys(findings))


def _findings(frontend: Frontend) -> Iterator[str]:
    name, access = frontend.name, frontend.access
    if frontend.hash_key is not HashKey.SOURCE and frontend.balance is not Balance.SOURCE_HASH:
        yield (
            f"{name}: hash_key is for balance: source-hash, and has no effect with "
            f"{frontend.balance.value}"
        )
    if access.refuse is Refuse.DROP and not (
        access.allow or access.deny or access.max_connections or access.rate
    ):
        yield (
            f"{name}: refuse: drop has no effect: nobody is refused without allow, deny, "
            "max_connections or rate"
        )
    if not any(backend.weight for backend in frontend.backends):
        yield f"{name}: every backend has weight 0: no new connection gets to any"
    if _denies_everybody(frontend):
        yield f"{name}: deny has every address: nobody can connect"


def _denies_everybody(frontend: Frontend) -> bool:
    denied = merge_networks(frontend.access.deny)
    return any(n.prefixlen == 0 and n.version == frontend.family for n in denied)


def _without_agent(frontend: Frontend) -> Iterator[str]:
    name = frontend.name
    if frontend.balance is Balance.LEAST_CONNECTIONS:
        yield (
            f"{name}: after 'start' nobody counts connections, and balance: least-connections "
            "is random: 'paraglider run' counts them"
        )
    if any(backend.max_connections for backend in frontend.backends):
        yield (
            f"{name}: after 'start' nobody counts connections, and a backend's max_connections "
            "has no effect: 'paraglider run' counts them"
        )
    if frontend.affinity_s:
        yield (
            f"{name}: affinity brings a client back to its backend also when that is down, as "
            "nobody probes after 'start': 'paraglider run' does"
        )
