"""Names: the addresses of host names, as they were resolved last.

A name that stops resolving keeps the addresses that it had: a name server that is down takes no
backend away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from paraglider.config.model import Address, Config
from paraglider.health.resolver import Name, Resolved
from paraglider.health.service import Pair


class Names:
    """What names stand for."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._addresses: dict[Name, tuple[Address, ...]] = {}
        self._answered: set[Name] = set()

    @property
    def addresses(self) -> Mapping[Name, tuple[Address, ...]]:
        """The addresses of each name, none of one that never resolved."""
        return self._addresses

    def is_waiting(self, config: Config) -> bool:
        """Return whether some name of `config` has had no answer yet, good or bad."""
        return bool(wanted_names(config).keys() - self._answered)

    def note(self, resolved: Resolved) -> bool:
        """Take in an answer; return whether it changes who the backends are."""
        name = resolved.name, resolved.family
        is_first = name not in self._answered
        self._answered.add(name)
        if not resolved.addresses:
            stays = "its last addresses stay" if self._addresses.get(name) else "it has no backends"
            why = resolved.told or "no addresses"
            self._report(f"{resolved.name} cannot be resolved: {why}; {stays}")
            return is_first
        is_changed = self._addresses.get(name) != resolved.addresses
        self._addresses[name] = resolved.addresses
        if is_changed:
            listed = ", ".join(str(address) for address in resolved.addresses)
            told = f" ({resolved.told})" if resolved.told else ""
            self._report(f"{resolved.name} stands for {listed}{told}")
        return is_changed

    def adopt(self, config: Config, serving: Iterable[Pair]) -> None:
        """Where a name does not resolve, let it stand for those backends that have connections
        (pairs of bind and backend) and no other entry of the file: those it stood for before."""
        pairs = list(serving)
        for frontend in config.frontends:
            named = [b for b in frontend.backends if isinstance(b.host, str)]
            literal = {b.endpoint for b in frontend.backends}
            for backend in named:
                name = str(backend.host), frontend.family
                if self._addresses.get(name):
                    continue
                known = {
                    endpoint.address
                    for bind, endpoint in pairs
                    if bind == frontend.bind
                    and endpoint.port == backend.port
                    and endpoint not in literal
                }
                if known:
                    self._addresses[name] = tuple(sorted(known, key=int))


def wanted_names(config: Config) -> dict[Name, float]:
    """Return the names that `config` has, and how often each is to be resolved (seconds)."""
    found: dict[Name, float] = {}
    for frontend in config.frontends:
        for backend in frontend.backends:
            if isinstance(backend.host, str):
                name = backend.host, frontend.family
                found[name] = min(frontend.resolve_s, found.get(name, frontend.resolve_s))
    return found
