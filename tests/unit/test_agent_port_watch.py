"""Ports of what backends see: counted, and warned of before they are used up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address

from paraglider.agent.port_watch import PORTS, PortWatch, count_room, count_use
from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Endpoint
from paraglider.health.service import Member, Pair, Service
from paraglider.kernel.conntrack_table import Conntrack
from tests.services import service_of, source_of

_PRIVATEIP = ip_address("10.0.0.4")
_BACKEND = Endpoint(ip_address("10.0.0.11"), 80)


def _service(name: str, port: int) -> Service:
    bind = Endpoint(ip_address("192.0.2.10"), port)
    return service_of(name, bind, _PRIVATEIP, [Member(_BACKEND)], ())


WEB, SHOP = _service("web", 80), _service("shop", 81)


class Kernel:
    """Connections, and a clock, that a test turns; counts how often it was asked."""

    def __init__(self) -> None:
        self.now_s, self.entries, self.asked = 0.0, 0, 0
        self.counts: dict[Pair, int] = {}
        self.said: list[str] = []
        self.watch = PortWatch(
            count=self._count,
            read=lambda: Conntrack(self.entries, 10**6),
            report=self.said.append,
            clock=lambda: self.now_s,
        )

    def _count(self, services: Collection[Service]) -> Mapping[Pair, int]:
        self.asked += 1
        binds = {service.bind for service in services}
        return {pair: n for pair, n in self.counts.items() if pair[0] in binds}

    def look(self, web: int, shop: int = 0) -> None:
        """Look when it is time, with so many connections of each frontend."""
        self.now_s = self.watch.next_s()
        self.counts = {(WEB.bind, _BACKEND): web, (SHOP.bind, _BACKEND): shop}
        self.entries = web + shop
        self.watch.look(lambda: [WEB, SHOP])


def test_few_connections_are_not_even_counted() -> None:
    """The kernel's own number of all of them says enough."""
    kernel = Kernel()
    kernel.look(PORTS // 2 - 1)
    assert (kernel.asked, kernel.said) == (0, [])


def test_half_of_the_ports_is_told_once_with_the_mend() -> None:
    """Of two frontends that share address and backend together; and again once it was quiet."""
    kernel = Kernel()
    for web in (30_000, 31_000, 20_000, 31_000):
        kernel.look(web, 2256)
    reason = (
        "privateip 10.0.0.4: {} of 64512 ports to 10.0.0.11:80 are in use ({} %); when all are,"
        " new connections to it fail: name more addresses, such as privateip: [172.19.0.4,"
        " 172.19.0.5]"
    )
    assert kernel.said == [reason.format(32256, 50), reason.format(33256, 51)]


def test_more_addresses_have_more_room() -> None:
    """A range of four has four times as much; one that the kernel chooses counts as one."""
    four = Source(SourceKind.ADDRESS, ((_PRIVATEIP, _PRIVATEIP + 3),))
    assert [count_room(s) for s in (source_of(_PRIVATEIP), four, Source(SourceKind.AUTO))] == [
        PORTS,
        4 * PORTS,
        PORTS,
    ]


def test_use_is_of_what_backends_see_and_one_of_them() -> None:
    """Frontends that share both share the ports."""
    counts = {(WEB.bind, _BACKEND): 3, (SHOP.bind, _BACKEND): 4}
    assert count_use([WEB, SHOP], counts) == {(source_of(_PRIVATEIP), _BACKEND): 7}
