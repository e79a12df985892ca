"""Checks as the file has them, against servers of binary protocols, and of HTTPS with headers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from paraglider.config.model import Check
from paraglider.config.parse import parse_config
from paraglider.health.probe import Target
from paraglider.health.prober import Result
from paraglider.lab.actors import READY_TIMEOUT_S, read_line
from paraglider.lab.hosts import Lab
from tests.netns.harness import IPV4, Topology, Variant
from tests.netns.prober import probe_from

# Each server answers the one thing that it knows, byte for byte, and closes at anything else. That
# of HTTPS says what it was asked by which name.
SERVER = r"""
import socket, ssl, sys, threading

certificate = sys.argv[1]
GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00" + b"\x00" * 62
STATUS = b"\x1d\x00\x1b" + b'{"version":{"name":"1.21"}}'

def answer(wanted, said):
    def speak(connection):
        data = b""
        while wanted.startswith(data) and len(data) < len(wanted):
            part = connection.recv(len(wanted) - len(data))
            if not part:
                return
            data += part
        if data == wanted:
            connection.sendall(said)
            connection.recv(1)
    return speak

def speak_https(connection):
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: names.append(name)
    with context.wrap_socket(connection, server_side=True) as stream:
        lines = stream.recv(65536).decode().split("\r\n")[1:]
        body = f"name {names[0]};{';'.join(lines)}".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        stream.sendall(head.encode() + body)

SERVERS = {
    6379: answer(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    3306: answer(b"", GREETING),
    25565: answer(b"\x0e\x00\xff\xff\xff\xff\x0f\x04host\x63\xdd\x01\x01\x00", STATUS),
    1883: answer(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02pg", b"\x20\x02\x00\x00"),
    8443: speak_https,
}

def speak(connection, how):
    try:
        with connection:
            how(connection)
    except OSError:
        pass

def serve(listener, how):
    while True:
        threading.Thread(target=speak, args=(listener.accept()[0], how), daemon=True).start()

for port, how in SERVERS.items():
    listener = socket.create_server(("10.9.0.2", port), backlog=100)
    threading.Thread(target=serve, args=(listener, how), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

REDIS = r"send: '*1\r\n$4\r\nPING\r\n', expect: +PONG, port: 6379"
MINECRAFT = r"send: '\x0e\x00\xff\xff\xff\xff\x0f\x04host\x63\xdd\x01\x01\x00', port: 25565"
MQTT = r"send: '\x10\x0e\x00\x04MQTT\x04\x02\x00<\x00\x02pg', port: 1883"
HTTPS = "type: https, ca: CA, port: 8443"

# Keys of a check, whether it is good, and what is told of it (or the beginning).
CASES = {
    "redis": (REDIS, True, "answered '+PONG'"),
    "redis-in-double-quotes": (
        r'send: "*1\r\n$4\r\nPING\r\n", expect: "+PONG\r\n", port: 6379',
        True,
        r"answered '+PONG\r\n'",
    ),
    "mysql": (r"expect: '\x00\x0a8.0', port: 3306", True, r"answered '\x00\n8.0'"),
    "mysql-another-version": (r"expect: '\x00\x0a5.7', port: 3306", False, "answer lacks "),
    "minecraft": (f"{MINECRAFT}, expect: '\"version\":'", True, "answered '\"version\":'"),
    "mqtt": (rf"{MQTT}, expect: ' \x02\x00\x00'", True, r"answered ' \x02\x00\x00'"),
    "mqtt-refused": (rf"{MQTT}, expect: '\x20\x02\x00\x05'", False, "answer lacks "),
    "mqtt-asked-wrongly": (
        MQTT.replace(r"\x3c", "").replace("<", r"\x3d") + r", expect: '\x20'",
        False,
        "no answer: ",
    ),
    "sni": (f"{HTTPS}, sni: sni.test, host: host.test, body: 'name sni.test;'", True, "HTTP 200"),
    "host-beside-sni": (
        f"{HTTPS}, sni: sni.test, host: h.test, body: 'Host: h.test;'",
        True,
        "HTTP",
    ),
    "host-is-the-name": (f"{HTTPS}, host: 'sni.test:9', body: 'name sni.test;'", True, "HTTP 200"),
    "sni-must-be-in-the-certificate": (
        f"{HTTPS}, sni: other.test, host: sni.test",
        False,
        "certificate: hostname mismatch",
    ),
    "headers": (
        f"{HTTPS}, sni: sni.test, headers: {{Authorization: Bearer x, Accept: a/b}},"
        " body: 'Accept: a/b;Connection:'",
        True,
        "HTTP 200",
    ),
    "headers-first": (
        f"{HTTPS}, sni: sni.test, headers: {{Authorization: Bearer x}}, body: ';Authorization:"
        " Bearer x;'",
        True,
        "HTTP 200",
    ),
}


def check_of(keys: str, authority: Path) -> Check:
    """Return the check that these keys of a file come to."""
    text = (
        f"frontend: {{bind: 10.9.0.1:80, privateip: 10.9.0.1, backends: [10.9.0.2:80],"
        f" check: {{{keys}}}}}"
    )
    check = parse_config(text.encode(), source="f").frontends[0].backends[0].check
    return replace(check, http=replace(check.http, ca=str(authority))) if check.http.ca else check


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for sni.test that is its own authority; its key is in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing; on Debian and Ubuntu: apt install openssl")
    directory = tmp_path_factory.mktemp("authority")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    rest = "-subj /CN=sni.test -addext subjectAltName=DNS:sni.test -keyout key -out certificate"
    subprocess.run([*make.split(), *rest.split()], cwd=directory, check=True, capture_output=True)
    both = directory / "both.pem"
    both.write_text((directory / "certificate").read_text() + (directory / "key").read_text())
    return both


@pytest.fixture(scope="module")
def results(lab_reason: str | None, authority: Path) -> Iterator[dict[str, Result]]:
    """What the probes of all cases found, side by side."""
    if lab_reason is not None:
        pytest.skip(lab_reason)
    with Lab() as lab:
        for host in ("a", "b"):
            lab.add_host(host)
        lab.add_network("wire", {"a": "10.9.0.1/24", "b": "10.9.0.2/24"})
        server = lab.start("b", [sys.executable, "-c", SERVER, str(authority)])
        assert read_line(server, timeout_s=READY_TIMEOUT_S) == "ready\n"
        checks = {
            key: check_of(case[0].replace("CA", "/ca"), authority) for key, case in CASES.items()
        }
        targets = [
            Target(key, "", ip_address("10.9.0.2"), 80, check) for key, check in checks.items()
        ]
        yield probe_from(lab, "a", targets).results


@pytest.mark.parametrize("key", CASES)
def test_a_check_of_the_file_is_what_the_server_is_asked(
    results: dict[str, Result], key: str
) -> None:
    """Bytes come through as they were written, in either kind of quotes."""
    _, is_good, reason = CASES[key]
    assert results[key].is_good == is_good, results[key]
    assert results[key].reason.startswith(reason), results[key]


@pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])
@pytest.mark.parametrize("variant", [Variant.NFT], indirect=True)
def test_a_header_is_sent_and_shown_nowhere(topology: Topology) -> None:
    """Not in the log, where a wrong file is told too, and in no command's output."""
    backends = topology.addresses.backend_endpoints
    check = "check: {type: http, interval: 400ms, timeout: 400ms, headers: {X-Token: s3cret}}"
    config = topology.addresses.make_config(backends, check)
    agent = topology.start_agent(config=config)
    agent.until(f"{backends[0]} is down")
    asked = ("status", "status --json", "metrics")
    said = [topology.balancer.paraglider(*command.split()).stdout for command in asked]
    agent.write(config.replace("s3cret", r'"s3cret\n"'))
    said += [topology.balancer.paraglider("reload").stderr]
    assert "frontend.check.headers.X-Token" in said[-1]
    agent.until("the value holds what a header cannot")
    for command in ("diff", "render"):
        said.append(topology.balancer.paraglider(command, config=config).stdout)
    agent.running.terminate()
    agent.until("removing the rules")
    assert [text for text in (agent.said, *said) if "s3cret" in text] == []
