"""Probes of real servers, over a real network: what is told of each, and what they notice of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from paraglider.config.model import Address, Check, CheckKind, Family, HttpRequest
from paraglider.health.probe import Target
from paraglider.lab.actors import READY_TIMEOUT_S, read_line
from paraglider.lab.hosts import Lab
from tests.netns.prober import Found, probe_from

# Serves until its input ends; answers each line there with how many connections it has accepted on
# COUNTED. What it says over HTTP is named by the path.
SERVER = """\
import itertools, socket, ssl, sys, threading

address, certificate = sys.argv[1:]
COUNTED, count = 7001, 0
OK = b"HTTP/1.1 200 OK\\r\\n"
ANSWERS = {
    "/": OK + b"Content-Length: 5\\r\\n\\r\\nhello",
    "/busy": b"HTTP/1.1 503 Busy\\r\\nContent-Length: 0\\r\\n\\r\\n",
    "/chunked": OK + b"Transfer-Encoding: chunked\\r\\n\\r\\n"
    b"2\\r\\nhe\\r\\n3\\r\\nllo\\r\\n0\\r\\n\\r\\n",
    "/early": b"HTTP/1.1 103 Early Hints\\r\\n\\r\\n" + OK + b"\\r\\n",
    "/large": OK + b"\\r\\n" + b"x" * 1000000,
    "/none": b"",
}

def speak_http(connection):
    path = connection.recv(4096).split()[1].decode()
    connection.sendall(ANSWERS[path])
    while path == "/none" and connection.recv(4096):
        pass

def speak_redis(connection):
    if connection.recv(4096) == b"PING\\r\\n":
        connection.sendall(b"+PONG\\r\\n")
        connection.recv(4096)

def stay_silent(connection):
    connection.recv(4096)
    connection.recv(4096)

def speak(connection, how, context):
    try:
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            how(connection)
    except OSError:
        pass

def serve(port, how, context=None):
    global count
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=100) as listener:
        ready.release()
        while True:
            connection = listener.accept()[0]
            count += port == COUNTED
            threading.Thread(target=speak, args=(connection, how, context), daemon=True).start()

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
ready = threading.Semaphore(0)
servers = [(8000, speak_http), (8443, speak_http, context), (6379, speak_redis)]
servers += [(7000, stay_silent), (COUNTED, stay_silent)]
for server in servers:
    threading.Thread(target=serve, args=server, daemon=True).start()
for server in servers:
    ready.acquire()
print("ready", flush=True)
for line in sys.stdin:
    print(count, flush=True)
"""

PROBES = 40
PING = Check(send=b"PING\r\n", expect=b"+PONG", timeout_s=0.5)


@dataclass(frozen=True, slots=True)
class Site:
    """A host `a` that probes, and `b` that serves, at `address`."""

    lab: Lab
    address: Address
    server: subprocess.Popen[str]
    authority: Path

    def probe(
        self, targets: list[Target], names: dict[tuple[str, Family], float] | None = None
    ) -> Found:
        """Probe each of them at least once; return the first result of each."""
        return probe_from(self.lab, "a", targets, names)

    def accepted(self) -> int:
        """Return how many connections the server has accepted on port 7001."""
        print("how many", file=self.server.stdin, flush=True)
        return int(read_line(self.server, timeout_s=READY_TIMEOUT_S))

    def time_waits(self, host: str) -> int:
        """Return how many connections of `host` wait for late packets (proc_pid_net(5))."""
        words = self.lab.run(host, ["grep", "^TCP:", "/proc/net/sockstat"]).stdout.split()
        return int(words[words.index("tw") + 1])


@pytest.fixture(scope="module", params=["10.9.0.2", "fd09::2"], ids=["ipv4", "ipv6"])
def site(
    request: pytest.FixtureRequest, lab_reason: str | None, certificate: Path
) -> Iterator[Site]:
    """Two hosts and their server, once for each family."""
    if lab_reason is not None:
        pytest.skip(lab_reason)
    with Lab() as lab:
        for host in ("a", "b"):
            lab.add_host(host)
        members = {"a": ["10.9.0.1/24", "fd09::1/64"], "b": ["10.9.0.2/24", "fd09::2/64"]}
        lab.add_network("wire", members)
        argv = [sys.executable, "-c", SERVER, request.param, str(certificate)]
        server = lab.start("b", argv)
        assert read_line(server, timeout_s=READY_TIMEOUT_S) == "ready\n"
        yield Site(lab, ip_address(request.param), server, certificate.parent / "ca.pem")


@dataclass(frozen=True, slots=True)
class Case:
    """What is probed at the server, and how it turns out; `told` may be the beginning."""

    port: int
    check: Check
    is_good: bool
    reason: str
    host_name: str = ""


def http(path: str = "/", *, body: str = "") -> Check:
    """Return a check that asks for `path`."""
    return Check(kind=CheckKind.HTTP, http=HttpRequest(path=path, body=body), timeout_s=0.5)


def https(*, is_trusted: bool = False, is_verified: bool = True) -> Check:
    """Return a check over TLS; CA stands for the file of the authority."""
    ca = "CA" if is_trusted else ""
    return Check(kind=CheckKind.HTTPS, http=HttpRequest(is_verified=is_verified, ca=ca))


CASES = {
    "refused": Case(7999, Check(), False, "refused"),
    "connected": Case(7000, Check(), True, "connected"),
    "pong": Case(6379, PING, True, "answered '+PONG'"),
    "another-answer": Case(6379, replace(PING, expect=b"+PENG"), False, "answer lacks '+PENG'"),
    "silent": Case(7000, PING, False, "no answer: timed out after 0.5 s"),
    "http": Case(8000, http(), True, "HTTP 200"),
    "http-busy": Case(8000, http("/busy"), False, "HTTP 503"),
    "http-body": Case(8000, http("/", body="hello"), True, "HTTP 200"),
    "http-chunked": Case(8000, http("/chunked", body="hello"), True, "HTTP 200"),
    "http-early": Case(8000, http("/early"), True, "HTTP 200"),
    "http-other-body": Case(8000, http("/", body="bye"), False, "HTTP 200, body lacks 'bye'"),
    "http-large": Case(8000, http("/large"), True, "HTTP 200"),
    "http-silent": Case(8000, http("/none"), False, "no answer: timed out after 0.5 s"),
    "http-of-redis": Case(6379, http(), False, "no answer: closed"),
    "https": Case(8443, https(is_trusted=True), True, "HTTP 200", "shop.test"),
    "https-address": Case(8443, https(is_trusted=True), True, "HTTP 200"),
    "https-name": Case(
        8443, https(is_trusted=True), False, "certificate: hostname mismatch", "other.test"
    ),
    "https-stranger": Case(8443, https(), False, "certificate: ", "shop.test"),
    "https-anybody": Case(8443, https(is_verified=False), True, "HTTP 200"),
    "https-of-http": Case(8000, https(is_verified=False), False, "TLS handshake: "),
}


@pytest.fixture(scope="module")
def found(site: Site) -> Found:
    """What the probes of all cases found, side by side; and those of two names."""
    nobody, elsewhere = ("10.9.0.77", "10.99.0.1")
    if site.address.version == 6:
        nobody, elsewhere = ("fd09::77", "fd99::1")
    targets = [
        Target("nobody", "", ip_address(nobody), 80, Check(timeout_s=0.5)),
        Target("elsewhere", "", ip_address(elsewhere), 80, Check(timeout_s=0.5)),
    ]
    for key, case in CASES.items():
        ca = str(site.authority) if case.check.http.ca else ""
        check = replace(case.check, http=replace(case.check.http, ca=ca))
        targets.append(Target(key, case.host_name, site.address, case.port, check))
    family = Family(site.address.version)
    names = {("localhost", family): 5.0, ("no-such-host.invalid", family): 5.0}
    return site.probe(targets, names)


@pytest.mark.parametrize("key", CASES)
def test_each_server_is_told_for_what_it_is(found: Found, key: str) -> None:
    result = found.results[key]
    assert result.is_good == CASES[key].is_good, result
    assert result.reason.startswith(CASES[key].reason)


def test_nobody_at_the_address_is_told_in_time(found: Found) -> None:
    assert found.results["nobody"].reason == "timed out after 0.5 s"


def test_a_network_without_a_route_is_told(found: Found) -> None:
    assert found.results["elsewhere"].reason == "no route to its network"


def test_a_name_of_the_hosts_own_is_no_backend(found: Found) -> None:
    """Loopback addresses are left out (there may be none of IPv6 in /etc/hosts)."""
    resolved = found.resolved["localhost"]
    assert not resolved.addresses
    assert resolved.reason


def test_a_name_that_nobody_knows_has_no_addresses(found: Found) -> None:
    assert found.resolved["no-such-host.invalid"].addresses is None


def test_a_connection_alone_leaves_nothing_behind(site: Site) -> None:
    """No TIME_WAIT on either side; and the server's accept() does not return, unless the prober
    was held up for so long that its kernel sent the ACK after all."""
    before = {host: site.time_waits(host) for host in ("a", "b")}
    accepted = site.accepted()
    targets = [Target(f"b{n}", "", site.address, 7001, Check()) for n in range(PROBES)]
    found = site.probe(targets)
    assert {result.reason for result in found.results.values()} == {"connected"}
    assert all(site.time_waits(host) <= before[host] for host in ("a", "b"))
    assert site.accepted() - accepted < PROBES / 2
