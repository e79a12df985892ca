"""A backend by name: the containers that share it, as those of a compose service do, are followed
through the engine's own name server while they come, go and come back elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path

from tests.compose.engine import HARDENED, IMAGE, Container, Engine
from tests.compose.stack import Client
from tests.waiting import until

CLIENTS, BACKENDS = IPv4Network("198.18.107.0/24"), IPv4Network("198.18.108.0/24")
BIND = f"{CLIENTS[2]}:4444"
CONFIG = f"""\
frontend:
  bind: {BIND}
  privateip: {BACKENDS[4]}
  backends: [shop:5555]
  resolve: 1s
  check: {{interval: 500ms, timeout: 400ms}}
"""


def test_a_service_is_followed_as_it_is_scaled(engine: Engine, tmp_path: Path) -> None:
    """1, then 5, then 2, then recreated with another address: without a reload, and no connection
    fails once it has been followed."""
    file = tmp_path / "glider.yaml"
    file.write_text(CONFIG)
    outside, inside = engine.network("clients", CLIENTS), engine.network("backends", BACKENDS)

    def serve(number: int, host: int) -> Container:
        place = (f"--network={inside}", f"--ip={BACKENDS[host]}", "--network-alias=shop")
        return engine.serve(f"s{number}", *place, listen=f"{BACKENDS[host]}:5555")

    servers = {1: serve(1, 11)}
    mount = f"--volume={file}:/etc/paraglider/glider.yaml:ro"
    between = (f"--network={outside}", f"--ip={CLIENTS[2]}", "--sysctl=net.ipv4.ip_forward=1")
    name = engine.docker(
        "create", "--label", engine.label, *HARDENED, *between, mount, IMAGE
    ).strip()
    engine.docker("network", "connect", "--ip", str(BACKENDS[4]), inside, name)
    engine.docker("start", name)
    client = Client(engine, outside, BIND)
    until_even(client, servers)
    servers |= {number: serve(number, 10 + number) for number in range(2, 6)}
    until_even(client, servers)
    for number in (3, 4, 5):
        servers.pop(number).stop()
    until_even(client, servers)
    servers.pop(1).stop()
    servers[6] = serve(6, 21)
    until_even(client, servers)


def until_even(client: Client, servers: Mapping[int, Container]) -> None:
    """Connect until each server gets the same, and nobody else anything."""
    wanted = {f"s{number}": 4 for number in servers}
    until(
        lambda: client.connect(4 * len(servers), "--timeout=2").by_backend == wanted,
        what=f"{len(servers)} servers have the same",
    )
