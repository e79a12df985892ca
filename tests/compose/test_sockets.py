"""What users see through their sockets: who answers, in which order, from where, for how long."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from paraglider.lab.results import Answer, Results, parse_json
from tests.compose.engine import HARDENED, IMAGE, Container
from tests.compose.stack import Stack

BIND = "166.1.101.2:4444"
PRIVATEIP = "172.19.0.4"
BACKENDS = {"red": "172.19.0.2", "green": "172.19.0.3", "blue": "172.19.0.6"}
TRAFFIC = "python3 -m paraglider.lab.traffic"


def test_backends_take_turns(basic: Stack) -> None:
    """For one client after another connection the next backend, always in the same order."""
    names = [answer.backend for answer in basic.client("clients", BIND).connect(30).answers]
    assert set(names[:3]) == set(BACKENDS)
    assert names == names[:3] * 10


def test_eight_clients_at_once_are_spread_exactly(basic: Stack) -> None:
    """Whoever they are and however they interleave: each backend has a third of them all."""
    client = basic.client("clients", BIND)
    with ThreadPoolExecutor(8) as pool:
        tallies = list(pool.map(client.connect, [150] * 8))
    assert [results.failures for results in tallies] == [()] * 8
    assert sum((results.by_backend for results in tallies), Counter()) == dict.fromkeys(
        BACKENDS, 400
    )


def test_10000_connections_succeed(basic: Stack) -> None:
    """Not one fails, and no backend has more than one connection more than another."""
    results = basic.client("clients", BIND).connect(10_000, "--within=100")
    assert results.failures == ()
    assert sorted(results.by_backend.values()) == [3333, 3333, 3334]
    assert results.peers == {PRIVATEIP}


def test_the_client_talks_to_the_bind(basic: Stack) -> None:
    """That is whom its kernel has at the other end of each connection, whoever answers."""
    address, port = BIND.split(":")
    with basic.client("clients", BIND).hold(3):
        (client,) = basic.engine.containers()
        peers = {line.split()[1] for line in open_sockets(client)}
    assert peers == {f"{int.from_bytes(ip_address(address).packed, 'little'):08X}:{int(port):04X}"}


def test_a_connection_stays_with_its_backend_for_life(basic: Stack) -> None:
    """While 300 others come and go, each of 60 is the one that its backend accepted at first, and
    talks."""
    client = basic.client("clients", BIND)
    with client.hold(60) as held:
        before = {name: open_sockets(basic.container(name)) for name in BACKENDS}
        assert [len(sockets) for sockets in before.values()] == [20, 20, 20]
        assert client.connect(300).failures == ()
        assert held.settle()["open"] == 60
        after = {name: open_sockets(basic.container(name)) for name in BACKENDS}
        assert after == before


def test_200_megabytes_come_whole(basic: Stack) -> None:
    """Through one connection, there and back: what returns has the checksum of what was sent."""
    ended = basic.client("clients", BIND).transfer(200_000_000, timeout_s=100)
    sent, received = re.findall(r"SHA-256 (\w{64})", ended)
    assert sent == received
    assert "sent 200000000 bytes" in ended


def test_what_the_appliance_itself_sends_keeps_its_source(basic: Stack) -> None:
    """Straight to a backend, from another of its addresses: that is no balanced connection."""
    own = "172.19.0.40"
    shown = basic.appliance.execute("ip", "-o", "-4", "addr")
    (interface,) = re.findall(rf"^\d+: (\w+) .*inet {re.escape(PRIVATEIP)}/", shown, re.MULTILINE)
    basic.appliance.execute("ip", "addr", "add", f"{own}/24", "dev", interface)
    try:
        straight = f"connect --to {BACKENDS['red']}:5555 --from {own} --count 3 --json"
        said = basic.appliance.execute(*TRAFFIC.split(), *straight.split())
    finally:
        basic.appliance.execute("ip", "addr", "del", f"{own}/24", "dev", interface)
    assert is_seen_as(own, said), said


def test_another_client_straight_to_a_backend_keeps_its_source(basic: Stack) -> None:
    """Also where its way leads through the appliance, to the address and port of a backend: SNAT is
    for what was sent to the bind."""
    own = "172.19.0.41"
    script = (
        f"ip route add {BACKENDS['red']}/32 via {PRIVATEIP} && "
        f"exec {TRAFFIC} connect --to {BACKENDS['red']}:5555 --count 3 --json"
    )
    place = (f"--network={basic.project}_backends", f"--ip={own}")
    ended = basic.engine.run(*HARDENED, *place, "--entrypoint=sh", IMAGE, "-c", script)
    assert is_seen_as(own, ended.out), ended
    seen = basic.appliance.execute("conntrack", "-L", "-p", "tcp", "--orig-src", own)
    assert seen.count(f"src={own}") == 3, "it did not pass the appliance"


def is_seen_as(address: str, said: str) -> bool:
    """Whether red has answered three times, and has seen this address each time."""
    results = parse_json(said)
    return results == Results((Answer("red", address),) * 3)


def open_sockets(backend: Container) -> set[str]:
    """Return the connections of a backend, as its kernel has them: the two ends, and the inode."""
    established = "01"
    lines = backend.execute("tail", "-qn", "+2", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
    return {
        f"{own} {peer} {inode}"
        for _, own, peer, state, _, _, _, _, _, inode, *_ in map(str.split, lines)
        if state == established
    }
