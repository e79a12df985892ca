"""Checks that cannot be made: what the prober loads, what it cannot read, and who is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paraglider.lab.actors import READY_TIMEOUT_S, read_line, start_backend
from tests.netns.harness import BALANCER, CHECK, IPV4, PARAGLIDER, Agent, Topology, Variant

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


def until(is_so: Callable[[dict[str, Any]], bool], agent: Agent, backend: str) -> dict[str, Any]:
    """Read the status until `is_so` of this backend; return what it says of it."""
    deadline_s = time.monotonic() + 20
    while not is_so(found := agent.backends()[backend]):
        assert time.monotonic() < deadline_s, found
    return found


def metric(agent: Agent, name: str, backend: str) -> str:
    """Return the value of a backend's metric."""
    label = f'backend="{backend}"'
    lines = agent.order("metrics").splitlines()
    (line,) = (it for it in lines if it.startswith(f"paraglider_{name}{{") and label in it)
    return line.rsplit(" ", 1)[1]


_BROKEN = [
    pytest.param(f"rm -f {CA}", "No such file or directory; correct the path", id="missing"),
    pytest.param(f"chmod 600 {CA}", "Permission denied; the prober has no rights", id="private"),
    pytest.param(f"echo PEM > {CA}", "no certificate can be read from ca", id="no certificate"),
    pytest.param(f"rm -f {CA}; mkdir {CA}", "is not a regular file", id="folder"),
]


@pytest.mark.parametrize(("damage", "reason"), _BROKEN)
def test_an_authority_that_cannot_be_read_is_shown_until_it_can(
    topology: Topology, certificate: Path, damage: str, reason: str
) -> None:
    """In status, JSON, metrics, and in the log once; the backend that never was probed is not
    called up. With the file in place all is well, without a reload."""
    first, second = topology.addresses.backend_endpoints[:2]
    serve_tls(topology, "b1", certificate)
    serve_tls(topology, "b2", certificate)
    text = certificate.with_name("ca.pem").read_text()
    write_file(topology, CA, text)
    topology.balancer.run("sh", "-c", damage)
    agent = topology.start_agent(config=make_config(topology, HTTPS))
    said = agent.until(reason)
    assert f"default: cannot probe {first}: " in said or f"default: cannot probe {second}: " in said
    for backend in (first, second):
        found = until(lambda it: bool(it["check_error"]), agent, backend)
        assert reason in found["check_error"]
        assert (found["health"], found["share_percent"]) == ("unknown", 100)
        assert metric(agent, "backend_up", backend) == "0"
        assert metric(agent, "backend_check_error", backend) == "1"
    assert "cannot be probed for " in agent.order("status")
    assert until(lambda it: it["check_error_for_s"] > 1, agent, first)
    write_file(topology, f"{CA}.new", text)  # and moved: half of it would be another error
    topology.balancer.run("sh", "-c", f"test ! -d {CA} || rmdir {CA}; mv {CA}.new {CA}")
    agent.until("default: probing works again")
    until(lambda it: it["health"] == "up" and it["check_error"] is None, agent, first)
    assert metric(agent, "backend_check_error", first) == "0"
    assert agent.said.count("cannot probe") == 1


@pytest.mark.parametrize(("damage", "reason"), _BROKEN)
def test_check_and_start_warn_of_an_authority_that_the_prober_cannot_read(
    topology: Topology, certificate: Path, damage: str, reason: str
) -> None:
    """With the rights that the prober has; a right one is no warning."""
    config = make_config(topology, HTTPS)
    write_file(topology, CA, certificate.with_name("ca.pem").read_text())
    assert "https" not in topology.balancer.paraglider("check", config=config).stderr
    topology.balancer.run("sh", "-c", damage)
    for command in ("check", "start"):
        done = topology.balancer.paraglider(command, config=config)
        warnings = [line for line in done.stderr.splitlines() if "https" in line]
        assert len(warnings) == 1
        assert "warning: default: its https check cannot be made: " in warnings[0]
        assert reason in warnings[0]
    assert topology.balancer.paraglider("check", "--strict", config=config).returncode == 78


def test_a_reload_to_a_check_that_cannot_be_made_keeps_health_and_says_why(
    topology: Topology,
) -> None:
    """Backends that were up stay up: they were probed before."""
    first, second = topology.addresses.backend_endpoints[:2]
    agent = topology.start_agent(config=make_config(topology, CHECK))
    for backend in (first, second):
        until(lambda it: it["health"] == "up", agent, backend)
    agent.write(make_config(topology, HTTPS.replace("port: 8443, ", "")))
    agent.until(f"cannot read ca {CA}: No such file or directory")
    found = until(lambda it: bool(it["check_error"]), agent, first)
    assert (found["health"], metric(agent, "backend_up", first)) == ("up", "1")
    assert topology.connect(10).by_backend == {"b1": 5, "b2": 5}


def test_a_local_failure_is_shown_and_never_takes_a_backend_down(topology: Topology) -> None:
    """Here a route of this host forbids the connection."""
    first, address = topology.addresses.backend_endpoints[0], topology.addresses.backends[0]
    agent = topology.start_agent(config=make_config(topology, CHECK))
    until(lambda it: it["health"] == "up", agent, first)
    topology.balancer.run("ip", "route", "add", "prohibit", address)
    agent.until(f"default: cannot probe {first}: cannot connect: permission denied")
    until(lambda it: (it["check_error_for_s"] or 0) > 2, agent, first)
    assert agent.backends()[first]["health"] == "up"
    topology.balancer.run("ip", "route", "del", "prohibit", address)
    agent.until("default: probing works again")
    assert " is down" not in agent.said


def test_a_prober_that_does_not_last_is_an_error_of_every_check(topology: Topology) -> None:
    """It is restarted later each time, and logged once; the first that lasts mends all."""
    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=make_config(topology, CHECK))
    until(lambda it: it["health"] == "up", agent, first)
    pid = agent.prober()
    for _ in range(3):
        os.kill(pid, signal.SIGKILL)
        found = until(lambda it: bool(it["check_error"]), agent, first)
        assert (found["check_error"], found["health"]) == ("prober exited", "up")
        until(lambda it: it["check_error"] is None, agent, first)
        pid, before = agent.prober(), pid
        assert pid != before
    agent.order("reload")
    agent.until("rules are in iptables")
    assert agent.said.count("prober exited; restarting it, health states unchanged") == 1


def test_only_a_prober_with_an_https_check_loads_ssl(topology: Topology) -> None:
    """It takes 5 MiB: not the agent, and no prober before the file asks for it."""

    def has_ssl(pid: int) -> bool:
        return "libssl" in Path(f"/proc/{pid}/maps").read_text()

    first = topology.addresses.backend_endpoints[0]
    agent = topology.start_agent(config=make_config(topology, CHECK))
    until(lambda it: it["health"] == "up", agent, first)
    before = agent.prober()
    assert not has_ssl(before)
    agent.write(make_config(topology, HTTPS.replace("port: 8443, ", "")))
    until(lambda it: bool(it["check_error"]), agent, first)
    after = agent.prober()
    assert before != after
    assert has_ssl(after)
    assert not has_ssl(agent.running.pid)
    agent.write(make_config(topology, HTTPS.replace("port: 8443, ", "").replace("400ms", "500ms")))
    agent.order("reload")
    assert agent.prober() == after
