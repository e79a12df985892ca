"""Checks that cannot be made: what the prober loads, what it cannot read, and who is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paraglider.lab.actors import READY_TIMEOUT_S, read_line, start_backend
from tests.netns.harness import BALANCER, IPV4, PARAGLIDER, Agent, Topology, Variant

pytestmark = [
    pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True),
    pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True),
]

# Speaks TLS with one certificate, says hello over HTTP, and serves until it is ended.
TLS_SERVER = """\
import socket, ssl, sys, threading

def speak(connection):
    try:
        with context.wrap_socket(connection, server_side=True) as stream:
            stream.recv(4096)
            stream.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    except OSError:
        pass

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
listener = socket.create_server((sys.argv[1], 8443))
print("ready", flush=True)
while True:
    threading.Thread(target=speak, args=(listener.accept()[0],), daemon=True).start()
"""
CA = "/run/ca.pem"  # of the lab alone
HTTPS = f"check: {{type: https, port: 8443, ca: {CA}, interval: 400ms, timeout: 400ms}}"


def serve_tls(topology: Topology, name: str, certificate: Path) -> subprocess.Popen[str]:
    """Let the backend `name` answer over TLS, on port 8443."""
    address = dict(zip(("b1", "b2", "b3"), topology.addresses.backends, strict=True))[name]
    argv = [sys.executable, "-c", TLS_SERVER, address, str(certificate)]
    server = topology.lab.start(name, argv)
    assert read_line(server, timeout_s=READY_TIMEOUT_S) == "ready\n"
    return server


def write_file(topology: Topology, path: str, text: str) -> None:
    """Write a file that exists in the lab alone."""
    topology.balancer.run("tee", path, input=text)


def start_private(topology: Topology, config: str) -> Agent:
    """Start an agent whose interpreter nobody but root can read."""
    home = "/run/private"
    script = f"mkdir -m 700 {home} && mkdir {home}/py && mount --bind {sys.base_prefix} {home}/py"
    topology.balancer.run("sh", "-c", script)
    agent = Agent(topology.balancer, Path("/run/glider.yaml"))
    agent.write(config)
    paths = ":".join(path for path in sys.path if path.endswith("-packages"))
    environment = {
        "PARAGLIDER_IPTABLES": topology.balancer.variant.value,
        "PYTHONHOME": f"{home}/py",
        "PYTHONPATH": f"{Path(__file__).parents[2]}:{paths}",
    }
    argv = [*PARAGLIDER, "-config", str(agent.path), "run"]
    agent.process = topology.lab.start(BALANCER, argv, env=environment, stderr=subprocess.STDOUT)
    agent.until("rules are in iptables")
    return agent


def make_config(topology: Topology, check: str) -> str:
    """Return a configuration of the first two backends, with `check`."""
    return topology.addresses.make_config(topology.addresses.backend_endpoints[:2], check)


@pytest.mark.parametrize("is_reloaded", [False, True], ids=["at the start", "by a reload"])
def test_https_is_probed_though_the_interpreter_cannot_be_read_by_nobody(
    topology: Topology, certificate: Path, *, is_reloaded: bool
) -> None:
    """A Python below a private home folder: one backend passes, one without TLS goes down."""
    first, second = topology.addresses.backend_endpoints[:2]
    listen = topology.addresses.endpoint(topology.addresses.backends[1], 8443)
    start_backend(topology.lab, "b2", listen=listen)
    write_file(topology, CA, certificate.with_name("ca.pem").read_text())
    serve_tls(topology, "b1", certificate)
    config = make_config(topology, HTTPS)
    agent = start_private(topology, make_config(topology, "check: tcp") if is_reloaded else config)
    if is_reloaded:
        agent.until(f"{second} is up")
        agent.write(config)
    agent.until("the last: TLS handshake:")
    agent.order("reload")  # answered once what was decided before is in the rules
    found = agent.backends()
    assert (found[second]["health"], found[second]["share_percent"]) == ("down", 0)
    assert (found[first]["health"], found[first]["last_probe"]) == ("up", "HTTP 200")
