"""Names: what host names stand for now, for commands that apply or show a configuration once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paraglider.config.model import Config
from paraglider.errors import UnavailableError, explain

if TYPE_CHECKING:
    from paraglider.health.service import Addresses


def resolve_names(config: Config) -> Addresses:
    """Return the addresses of each host name of `config`; UnavailableError where one has none."""
    from paraglider.agent.names import wanted_names

    names = wanted_names(config)
    if not names:
        return {}
    from paraglider.health.resolver import judge_answer, look_up

    found, lost = {}, []
    for name in names:
        try:
            resolved = judge_answer(name, look_up(name))
        except OSError as error:
            resolved = judge_answer(name, explain(error))
        if resolved.addresses:
            found[name] = resolved.addresses
        else:
            lost.append(f"{name[0]} (IPv{name[1].value}): {resolved.reason or 'no addresses'}")
    if lost:
        raise UnavailableError(
            f"cannot resolve {'; '.join(lost)}\ncheck the name, or let 'paraglider run' wait for it"
        )
    return found
