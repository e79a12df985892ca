"""A board that tests set up: one frontend, whose backends have names of one letter."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from string import ascii_lowercase

from paraglider.config.model import Backend, Check, CheckKind, Config, Endpoint, Frontend
from paraglider.health.board import Board, Change
from paraglider.health.memory import NO_MEMORY, Memory
from paraglider.health.service import Addresses, Health, Pair, Service
from tests.unit.config_files import binds_at, frontend_at

BIND = Endpoint(ip_address("192.0.2.1"), 80)
OTHER_BIND = Endpoint(ip_address("192.0.2.1"), 81)
PRIVATEIP = ip_address("198.51.100.1")

CHECK = Check(rise=2, fall=3)
NO_CHECK = Check(kind=CheckKind.NONE)
STARTS_DOWN = Check(rise=2, fall=3, starts_up=False)


def endpoint_of(letter: str) -> Endpoint:
    """Return the address and port of ``a``, ``b`` and so on."""
    return Endpoint(ip_address(f"198.51.100.{10 + ord(letter) - ord('a')}"), 8080)


def key_of(letter: str, bind: Endpoint = BIND) -> Pair:
    """Return what a board calls it."""
    return bind, endpoint_of(letter)


def web(primaries: str, backups: str = "", *, check: Check = CHECK) -> Frontend:
    """Return the frontend ``web`` with these backends, one letter each."""
    backends = tuple(
        Backend(endpoint_of(letter).address, 8080, letter in backups, check)
        for letter in primaries + backups
    )
    return frontend_at("web", BIND, PRIVATEIP, backends)


def shop(primaries: str) -> Frontend:
    """Return another frontend, ``shop``."""
    return replace(web(primaries), name="shop", binds=binds_at(OTHER_BIND))


class Boarded:
    """A board whose clock a test turns, and what is told of it in letters."""

    def __init__(self, *frontends: Frontend, memory: Memory = NO_MEMORY) -> None:
        self.now_s = 1000.0
        self.board = Board(memory)
        self.configure(*frontends)

    def configure(self, *frontends: Frontend, addresses: Addresses | None = None) -> list[Change]:
        """Read a file that has these."""
        return self.board.configure(Config("test", frontends), addresses or {}, self.now_s)

    def probe(self, letter: str, results: str) -> list[Change]:
        """Let probes end, ``+`` for each good one and ``-`` for a bad one."""
        found = [
            self.board.note(
                key_of(letter),
                is_good=result == "+",
                told="HTTP 200" if result == "+" else "refused",
                now_s=self.now_s,
            )
            for result in results
        ]
        return [change for change in found if change]

    def service(self, bind: Endpoint = BIND) -> Service:
        """Return what the frontend at `bind` is to do."""
        return next(s for s in self.board.services(self.now_s) if s.bind == bind)

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
