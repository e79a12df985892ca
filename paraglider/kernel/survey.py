"""Survey: what of a configuration does not fit this host as it stands.

Each finding is a warning: an address may float here later, a program may be about to end. `check
--strict` makes them errors.
"""

from __future__ import annotations

from collections.abc import Iterator

from paraglider.config.model import Config, Frontend
from paraglider.kernel.host import Host


def survey_host(config: Config, host: Host) -> list[str]:
    """Return one sentence for each thing of `config` that this host does not bear out."""
    return [finding for frontend in config.frontends for finding in _findings(frontend, host)]


def _findings(frontend: Frontend, host: Host) -> Iterator[str]:
    bind, privateip = frontend.bind, frontend.privateip
    if not host.is_local(bind.address):
        yield (
            f"{frontend.name}: bind {bind.address} is no address of this host: clients reach it "
            "only if their packets are routed here (an address that moves here later is fine)"
        )
    elif host.is_listened_on(bind):
        yield (
            f"{frontend.name}: a program of this host listens on {bind}: its clients will reach "
            "the backends instead, and its open connections stall"
        )
    if privateip != bind.address and not host.is_local(privateip):
        yield (
            f"{frontend.name}: privateip {privateip} is no address of this host: backends' answers "
            "do not come back here, unless they are routed (an address that moves here later is "
            "fine)"
        )
