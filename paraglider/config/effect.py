"""Effect: settings that are valid and have no effect, or leave nobody served.

Each finding is a warning: it may be meant, until tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from paraglider.config.clients import merge_networks
from paraglider.config.model import Balance, Config, Frontend, HashKey


def effect_findings(config: Config) -> list[str]:
    """Return one sentence for each setting of `config` without effect, and for each frontend that
    serves nobody."""
    named: dict[str, list[Frontend]] = {}
    for frontend in config.frontends:
        named.setdefault(frontend.name, []).append(frontend)
    return [found for halves in named.values() for found in _findings(halves)]


def agent_findings(config: Config) -> list[str]:
    """Return one sentence for each setting of `config` that only an agent follows."""
    findings = (found for frontend in config.frontends for found in _without_agent(frontend))
    return list(dict.fromkeys(findings))  # of both families: once


def _findings(halves: Sequence[Frontend]) -> Iterator[str]:
    """Yield what there is to say of a frontend; one of both families has two halves."""
    one = halves[0]
    if one.hash_key is not HashKey.SOURCE and one.balance is not Balance.SOURCE_HASH:
        yield (
            f"{one.name}: hash_key is for balance: source-hash, and has no effect with "
            f"{one.balance.value}"
        )
    for of in _families(halves, lambda f: not any(backend.weight for backend in f.backends)):
        yield f"{one.name}: every {of}backend has weight 0: none gets new connections"
    for of in _families(halves, _denies_everybody):
        yield f"{one.name}: deny has every {of}address: no {of}client can connect"


def _families(halves: Sequence[Frontend], is_so: Callable[[Frontend], bool]) -> list[str]:
    """Return, for a message, of which halves something is so: of all of them, which takes no word,
    or of which family."""
    found = [f"IPv{half.family.value} " for half in halves if is_so(half)]
    return [""] if len(found) == len(halves) else found


def _denies_everybody(frontend: Frontend) -> bool:
    denied = frontend.access.deny  # all of the frontend's family
    # Fewer addresses than there are cannot be all; to merge thousands of networks takes a while.
    if not denied or sum(n.num_addresses for n in denied) < 2 ** denied[0].max_prefixlen:
        return False
    return any(network.prefixlen == 0 for network in merge_networks(denied))


def _without_agent(frontend: Frontend) -> Iterator[str]:
    name = frontend.name
    if frontend.balance is Balance.LEAST_CONNECTIONS:
        yield (
            f"{name}: balance: least-connections is random after 'start': only an agent counts "
            "connections ('paraglider run')"
        )
    if any(backend.max_connections for backend in frontend.backends):
        yield (
            f"{name}: max_connections of a backend has no effect after 'start': only an agent "
            "counts connections ('paraglider run')"
        )
    if frontend.affinity_s:
        yield (
            f"{name}: affinity leads a client back to its backend after 'start' even if that is "
            "down: only an agent probes backends ('paraglider run')"
        )
