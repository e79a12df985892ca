"""Port watch: tells when what backends see runs out of ports.

Each address has 64,512 ports for each backend (1024 to 65535), and a connection has one until the
kernel forgets it, some time after its end. When none is free, new connections to that backend fail.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Endpoint
from paraglider.health.service import Pair, Service
from paraglider.kernel.conntrack_table import Conntrack

PORTS = 64_512
_WARN_PERCENT, _QUIET_PERCENT = 50, 40
_LOOK_S = 10.0
_REST_PER_LOOK = 20

# What backends see, and one of them.
Use = Mapping[tuple[Source, Endpoint], int]


class PortWatch:
    """Looks every ten seconds; counts only where there are connections enough."""

    def __init__(
        self,
        *,
        count: Callable[[Collection[Service]], Mapping[Pair, int]],
        read: Callable[[], Conntrack | None],
        report: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._count = count
        self._read = read
        self._report = report
        self._clock = clock
        self._next_s = 0.0
        self._told: set[tuple[Source, Endpoint]] = set()

    def next_s(self) -> float:
        """Return when to look next."""
        return self._next_s

    def look(self, services: Callable[[], Collection[Service]]) -> None:
        """Look, when it is time; tell of each that is half used, once each time."""
        began_s = self._clock()
        if began_s < self._next_s:
            return
        self._next_s = began_s + _LOOK_S
        table = self._read()
        if table is None or (table.entries < PORTS * _WARN_PERCENT // 100 and not self._told):
            return
        wanted = [s for s in services() if s.source.kind is not SourceKind.KEEP]
        for key, used in count_use(wanted, self._count(wanted)).items():
            self._judge(key, used)
        ended_s = self._clock()
        self._next_s = max(self._next_s, ended_s + _REST_PER_LOOK * (ended_s - began_s))

    def _judge(self, key: tuple[Source, Endpoint], used: int) -> None:
        source, backend = key
        room = count_room(source)
        percent = 100 * used // room
        if percent >= _WARN_PERCENT and key not in self._told:
            self._told.add(key)
            self._report(
                f"privateip {source}: {used} of {room} ports to {backend} are in use ({percent} "
                "%); when all are, new connections to it fail: name more addresses, such as "
                "privateip: [172.19.0.4, 172.19.0.5]"
            )
        elif percent < _QUIET_PERCENT:
            self._told.discard(key)


def count_use(services: Collection[Service], counts: Mapping[Pair, int]) -> Use:
    """Return how many ports are in use for each backend, of what it sees: frontends that share both
    share the ports."""
    sources = {service.bind: service.source for service in services}
    use: dict[tuple[Source, Endpoint], int] = {}
    for (bind, backend), number in counts.items():
        key = sources[bind], backend
        use[key] = use.get(key, 0) + number
    return use


def count_room(source: Source) -> int:
    """Return how many connections to one backend can be told apart."""
    addresses = sum(int(last) - int(first) + 1 for first, last in source.ranges)
    return PORTS * max(1, addresses)
