"""The prober of the image, with the libraries of the image: HTTPS to a backend by name, under the
filter of system calls."""

from __future__ import annotations

import json
import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.compose.engine import HARDENED, IMAGE, WITH_USER, Container, Engine
from tests.waiting import until

BACKENDS = IPv4Network("198.18.108.0/24")
CONFIG = f"""\
frontend:
  bind: {BACKENDS[4]}:4444
  privateip: {BACKENDS[4]}
  backends: [shop:8443]
  resolve: 1s
  check: {{type: https, host: shop, ca: /etc/paraglider/ca.pem, interval: 500ms}}
"""
SERVE = """
import http.server, ssl

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/paraglider/ca.pem", "/etc/paraglider/key.pem")
server = http.server.ThreadingHTTPServer(("", 8443), http.server.BaseHTTPRequestHandler)
http.server.BaseHTTPRequestHandler.do_GET = lambda self: self.send_response(204) or (
    self.end_headers()
)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to mount: the file, and a certificate of `shop` with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing; on Debian and Ubuntu: apt install openssl")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    named = ("-subj", "/CN=shop", "-addext", "subjectAltName=DNS:shop")
    files = ("-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.pem")
    subprocess.run([*make.split(), *named, *files], check=True, capture_output=True)
    (tmp_path / "glider.yaml").write_text(CONFIG)
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    "powers", [HARDENED, WITH_USER], ids=["a prober that is root", "a prober that is nobody"]
)
def test_a_name_is_looked_up_and_probed_over_tls(
    engine: Engine, folder: Path, powers: tuple[str, ...]
) -> None:
    """The check finds the backend up, and the log complains of nothing."""
    network = f"--network={engine.network('backends', BACKENDS)}"
    mount = f"--volume={folder}:/etc/paraglider:ro"
    serve = ("--cap-drop=ALL", "--network-alias=shop", "--entrypoint=python3")
    server = engine.start(*serve, network, mount, IMAGE, "-c", SERVE)
    server.wait_until_it_says("ready")
    place = (network, f"--ip={BACKENDS[4]}", "--sysctl=net.ipv4.ip_forward=1")
    container = engine.start(*powers, *place, mount, IMAGE)
    until(lambda: "up" in healths(container), what="the backend is up")
    assert [one for one in read_backends(container) if one["check_error"]] == []
    log = container.logs()
    assert "without a system call filter" not in log
    assert "prober exited" not in log
    # Docker gives every process one filter; the prober alone has one of its own beside it.
    show = "grep -h Seccomp_filters /proc/[0-9]*/status"
    filters = container.execute("sh", "-c", show).split()[1::2]
    assert filters.count(max(filters)) == 1
    assert len(set(filters)) == 2


def read_backends(container: Container) -> list[dict[str, Any]]:
    """Return the backends of the only frontend; none before the agent answers."""
    if "balancing" not in container.logs():
        return []
    document = json.loads(container.execute("paraglider", "status", "--json"))
    backends: list[dict[str, Any]] = document["frontends"][0]["backends"]
    return backends


def healths(container: Container) -> list[str]:
    """Return the health of each backend."""
    return [backend["health"] for backend in read_backends(container)]
