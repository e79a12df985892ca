"""HAProxy and nginx, set up as for production: a thread or worker a processor, nothing logged.

Where a setting makes a difference here, they have the better one: buffers of 64 KiB double what
both carry, splicing and pinned workers do not help them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.command import DidNotRun
from bench.compare.stage import BACKEND_ENDPOINTS, BALANCER, BIND, Stage

HAPROXY, NGINX = "haproxy", "nginx"

# Where distributions put what is not built in.
_STREAM_MODULES = (
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LISTENS_WITHIN_S = 10.0
_POLL_S = 0.02

_HAPROXY_CONFIG = f"""\
global
    maxconn 4000
    tune.bufsize 65536
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen bench
    bind {BIND} backlog 4096
    balance roundrobin
"""

_NGINX_CONFIG = """\
worker_processes auto;
worker_rlimit_nofile 8192;
daemon off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8000; }}
stream {{
    upstream backends {{
        {servers}
    }}
    server {{
        listen {bind} reuseport backlog=4096;
        proxy_pass backends;
        proxy_buffer_size 64k;
    }}
}}
"""


def find_program(name: str) -> str | None:
    """Return the path of a program, looked for where servers are, too."""
    return shutil.which(name, path=_PATH)


def start_haproxy(stage: Stage) -> subprocess.Popen[str]:
    """Start it on the balancer, all of it in one process."""
    servers = (f"    server b{n} {at}\n" for n, at in enumerate(BACKEND_ENDPOINTS))
    config = stage.directory / "haproxy.cfg"
    config.write_text(_HAPROXY_CONFIG + "".join(servers), encoding="ascii")
    return _start(stage, [find_program(HAPROXY) or HAPROXY, "-db", "-f", str(config)])


def start_nginx(stage: Stage) -> subprocess.Popen[str]:
    """Start it on the balancer; return its master, whose children the workers are."""
    modules = [f"load_module {path};\n" for path in _STREAM_MODULES if Path(path).exists()]
    servers = "\n        ".join(f"server {endpoint};" for endpoint in BACKEND_ENDPOINTS)
    text = _NGINX_CONFIG.format(directory=stage.directory, servers=servers, bind=BIND)
    config = stage.directory / "nginx.conf"
    config.write_text("".join(modules[:1]) + text, encoding="ascii")
    return _start(stage, [find_program(NGINX) or NGINX, "-e", "stderr", "-c", str(config)])


def _start(stage: Stage, argv: Sequence[str]) -> subprocess.Popen[str]:
    process = stage.start(BALANCER, argv, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + _LISTENS_WITHIN_S
    while f" {BIND} " not in stage.run(BALANCER, ["ss", "-Hltn"]):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            said = process.communicate()[0].strip().splitlines()[-1:] or ["nothing"]
            raise DidNotRun(f"{argv[0]} does not listen on {BIND}, and says: {said[0]}")
        # Neither program tells when it listens.
        time.sleep(_POLL_S)
    return process
