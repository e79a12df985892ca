"""A board that tests set up: one frontend, whose backends have names of one letter."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from string import ascii_lowercase

from paraglider.config.model import Backend, Bind, Check, CheckKind, Config, Endpoint, Frontend
from paraglider.health.health_state import Change, HealthState
from paraglider.health.saved_state import NO_SAVED_STATE, SavedState
from paraglider.health.service import Addresses, Health, Pair, Service
from tests.services import bind_at
from tests.unit.config_files import frontend_at

BIND = bind_at(Endpoint(ip_address("192.0.2.1"), 80))
OTHER_BIND = bind_at(Endpoint(ip_address("192.0.2.1"), 81))
PRIVATEIP = ip_address("198.51.100.1")

CHECK = Check(rise=2, fall=3)
NO_CHECK = Check(kind=CheckKind.NONE)
STARTS_DOWN = Check(rise=2, fall=3, starts_up=False)


def endpoint_of(letter: str) -> Endpoint:
    """Return the address and port of ``a``, ``b`` and so on."""
    return Endpoint(ip_address(f"198.51.100.{10 + ord(letter) - ord('a')}"), 8080)


def key_of(letter: str, bind: Bind = BIND) -> Pair:
    """Return what a board calls it."""
    return bind, endpoint_of(letter)


def web(primaries: str, backups: str = "", *, check: Check = CHECK) -> Frontend:
    """Return the frontend ``web`` with these backends, one letter each."""
    backends = tuple(
        Backend(endpoint_of(letter).address, 8080, letter in backups, check)
        for letter in primaries + backups
    )
    return frontend_at("web", BIND.endpoint, PRIVATEIP, backends)


def shop(primaries: str) -> Frontend:
    """Return another frontend, ``shop``."""
    return replace(web(primaries), name="shop", binds=(OTHER_BIND,))


class Harness:
    """A board whose clock a test turns, and what is told of it in letters."""

    def __init__(self, *frontends: Frontend, saved_state: SavedState = NO_SAVED_STATE) -> None:
        self.now_s = 1000.0
        self.state = HealthState(saved_state)
        self.configure(*frontends)

    def configure(self, *frontends: Frontend, addresses: Addresses | None = None) -> list[Change]:
        """Read a file that has these."""
        return self.state.configure(Config("test", frontends), addresses or {}, self.now_s)

    def probe(self, letter: str, results: str) -> list[Change]:
        """Let probes end, ``+`` for each good one and ``-`` for a bad one."""
        found = [
            self.state.note(
                key_of(letter),
                is_good=result == "+",
                reason="HTTP 200" if result == "+" else "refused",
                now_s=self.now_s,
            )
            for result in results
        ]
        return [change for change in found if change]

    def service(self, bind: Bind = BIND) -> Service:
        """Return what the frontend at `bind` is to do."""
        return next(s for s in self.state.services(self.now_s) if s.bind == bind)

    def health(self, letter: str) -> Health:
        """Return the health of a member of ``web``."""
        backend = endpoint_of(letter)
        return next(m.health for m in self.service().members if m.backend == backend)

    def serving(self) -> str:
        """Return who of ``web`` gets new connections: ``ab``."""
        return "".join(letter for letter, _ in self._shares())

    def percents(self) -> dict[str, int]:
        """Return how much of an equal share they get."""
        return dict(self._shares())

    def _shares(self) -> list[tuple[str, int]]:
        letters = {endpoint_of(letter): letter for letter in ascii_lowercase}
        return [(letters[share.backend], share.percent) for share in self.service().serving]
