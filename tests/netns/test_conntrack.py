"""Real connections through rules of NAT, counted and cut in the kernel's own table."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

import pytest

from paraglider.kernel.iptables import Variant
from paraglider.lab.actors import HeldConnections
from tests.netns.harness import BALANCER, Topology

pytestmark = pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)

_CALL = """
import json, sys
from paraglider.config.address import Role
from paraglider.config.endpoint import parse_endpoint
from paraglider.errors import ParagliderError
from paraglider.kernel.conntrack import count_connections, cut_connections
from paraglider.kernel.conntrack_entries import add_up
from tests.services import bind_at, service_of

def read(text):
    return parse_endpoint(text, Role.BIND)

def service_at(bind):
    return service_of("web", read(bind), read(bind).address, (), ())

what, bind, *backends = sys.argv[1:]
try:
    if what == "count":
        counts = count_connections([service_at(bind)])
        print(json.dumps({str(pair[1]): n for pair, n in counts.items()}))
    else:
        pairs = [(bind_at(read(bind)), read(backend)) for backend in backends]
        print(json.dumps(add_up(cut_connections([service_at(bind)], pairs).values())))
except ParagliderError as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""


class Table:
    """The balancer's table of connections, and rules that fill it."""

    def __init__(self, topology: Topology) -> None:
        self.topology, self.addresses = topology, topology.addresses
        lines = []
        for left, backend in zip((3, 2, 1), self.addresses.backend_endpoints, strict=True):
            turn = f"-m statistic --mode nth --every {left} --packet 0 " if left > 1 else ""
            lines.append(f"-A TAKE {turn}-p tcp -j DNAT --to-destination {backend}\n")
        topology.balancer.restore(
            f"*nat\n:TAKE - [0:0]\n-A PREROUTING -d {self.addresses.bind} -p tcp -j TAKE\n"
            f"-A POSTROUTING -m conntrack --ctstate DNAT -j SNAT --to-source "
            f"{self.addresses.privateip} --random-fully\n{''.join(lines)}COMMIT\n"
        )

    def count(self, bind: str | None = None, within: Sequence[str] = ()) -> object:
        """Return how many connections each backend has."""
        return self._call("count", bind or self.addresses.bind_endpoint, within=within)

    def cut(self, *backends: str) -> object:
        """Return how many were cut, and how many could not be."""
        return self._call("cut", self.addresses.bind_endpoint, *backends)

    def _call(self, *arguments: str, within: Sequence[str] = ()) -> object:
        argv = [*within, sys.executable, "-c", _CALL, *arguments]
        answer: object = json.loads(self.topology.balancer.run(*argv).stdout)
        return answer

    def size(self) -> int:
        """Return how many entries there are, of whatever kind."""
        said = self.topology.balancer.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count")
        return int(said.stdout)

    def each(self, number: int) -> Mapping[str, int]:
        """Return the same number for each backend."""
        return dict.fromkeys(self.addresses.backend_endpoints, number)


@pytest.fixture
def table(topology: Topology) -> Table:
    """A balancer that balances, without any rule of ours."""
    return Table(topology)


def test_each_backend_has_its_connections(table: Table) -> None:
    """Those to the bind, and none that the balancer has with the backend itself."""
    addresses = table.addresses
    with (
        table.topology.hold(9),
        HeldConnections(table.topology.lab, BALANCER, to=addresses.backend_endpoints[0], count=2),
    ):
        assert table.count() == table.each(3)
        assert table.count(addresses.endpoint(addresses.bind, 4445)) == {}


def test_a_connection_that_has_ended_is_not_counted(table: Table) -> None:
    """Though the kernel remembers it for two minutes."""
    assert table.topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}
    assert table.count() == {}
    assert table.size() == 3


def test_the_connections_of_a_backend_are_cut_and_no_others(table: Table) -> None:
    """Live ones and those that are over; those of the other two run on."""
    first, second, third = table.addresses.backend_endpoints
    table.topology.connect(3)
    with (
        table.topology.hold(9) as held,
        HeldConnections(table.topology.lab, BALANCER, to=first, count=2) as own,
    ):
        before = table.size()
        assert table.cut(first) == [3, 0]
        assert table.size() == before - 4
        # Of the three, the next packet is a new connection's, which nobody knows at its other end.
        assert held.settle().broken == 3
        assert own.settle().broken == 0
        assert table.count() == {second: 3, third: 3}


def test_it_counts_with_net_admin_alone_and_says_what_is_lacking_without(table: Table) -> None:
    """No program, no file: the capability is all."""
    drop = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")
    none = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    with table.topology.hold(3):
        assert table.count(within=drop) == table.each(1)
        assert str(table.count(within=none)).startswith("PermissionDenied: cannot read the conn")
