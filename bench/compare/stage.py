"""Where one subject is measured: a client, a balancer and backends, and nothing that leads out.

Three network namespaces of a lab, in a row, with one pair of virtual Ethernet devices between each
two. The balancer forwards and has neither rules nor processes: a subject brings them, and they are
taken away again before the next one comes, with every connection that conntrack knows.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from paraglider.lab.actors import READY_TIMEOUT_S, read_line
from paraglider.lab.hosts import Lab, close_quietly

CLIENT, BALANCER, BACKENDS = "client", "balancer", "backends"

# RFC 2544 has these two for benchmarks.
BIND_ADDRESS, PRIVATEIP = "198.18.0.1", "198.19.0.1"
BIND_PORT = 4444
BIND = f"{BIND_ADDRESS}:{BIND_PORT}"
BACKEND_PORT = 5555
BACKEND_ADDRESSES = tuple(f"198.19.0.{number}" for number in (11, 12, 13))
BACKEND_ENDPOINTS = tuple(f"{address}:{BACKEND_PORT}" for address in BACKEND_ADDRESSES)
# One for each turn of a subject, with 64,512 ports: more than a turn has connections. The client
# keeps a port for a minute, and would have to search.
SOURCES = tuple(f"198.18.0.{number}" for number in range(2, 66))

# Above a measurement's length: what a connection leaves behind is not forgotten in it, by chance
# more of one subject's than of another's, but counted after it (load.py).
TIME_WAIT_S = 10

# Legacy tables that there once were stay, without rules: so they are there from the start, and cost
# each subject the same.
_NO_RULES = (("nft", "flush", "ruleset"), ("iptables-legacy-restore",))
_NO_LEGACY_RULES = "".join(f"*{table}\nCOMMIT\n" for table in ("nat", "mangle", "filter"))

_TIME_WAIT = "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
_EVERY_HOST = {
    # Nothing is lost here, so it decides nothing; and it is in every kernel, and keeps no timers.
    "net.ipv4.tcp_congestion_control": "reno",
}
_BALANCER = {
    "net.ipv4.ip_forward": "1",
    # For subjects that connect to backends themselves.
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.ipv4.tcp_tw_reuse": "1",
}


class Stage:
    """The three hosts, and a directory for files; `source` is the client's address,
    another one after each `clear`."""

    def __init__(self) -> None:
        self._files = TemporaryDirectory(prefix="bench-")
        self.directory = Path(self._files.name)
        self._sources = cycle(SOURCES)
        self.source = next(self._sources)
        self._lab = Lab()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process on the hosts, and with them the hosts."""
        self._lab.close()
        self._files.cleanup()

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - the word of subprocess.run
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command on a host; return what it printed."""
        return self._lab.run(host, argv, input=input, env=env).stdout

    def start(
        self, host: str, argv: Sequence[str], *, stderr: int | None = None
    ) -> subprocess.Popen[str]:
        """Start a command on a host; it ends with the stage."""
        return self._lab.start(host, argv, stderr=stderr)

    @contextmanager
    def serve(self, server: str, placement: str) -> Iterator[int]:
        """Have the backends' server run inside the `with`; return its process id.

        `placement` says which of its processes gets a connection (server.c).
        """
        process = self.start(BACKENDS, [server, placement, *BACKEND_ENDPOINTS])
        read_line(process, timeout_s=READY_TIMEOUT_S)
        try:
            yield process.pid
        finally:
            close_quietly(process.stdin)
            process.wait(READY_TIMEOUT_S)

    def clear(self, process: subprocess.Popen[str] | None) -> None:
        """Take away what a subject brought: its `process`, and whatever rules there are."""
        self.source = next(self._sources)
        if process is not None:
            process.terminate()
            process.wait(READY_TIMEOUT_S)
        for argv in _NO_RULES:
            if shutil.which(argv[0]):
                self.run(BALANCER, argv, input=_NO_LEGACY_RULES)

    def limit_time_wait(self) -> None:
        """Let conntrack, where it is there by now, forget what has ended after `TIME_WAIT_S`."""
        if Path("/proc/sys", *_TIME_WAIT.split(".")).exists():
            self._lab.set_sysctl(BALANCER, _TIME_WAIT, str(TIME_WAIT_S))

    def _build(self) -> None:
        for host in (CLIENT, BALANCER, BACKENDS):
            self._lab.add_host(host)
            for name, value in _EVERY_HOST.items():
                self._lab.set_sysctl(host, name, value)
        for name, value in _BALANCER.items():
            self._lab.set_sysctl(BALANCER, name, value)
        self._wire(CLIENT, SOURCES, BIND_ADDRESS)
        self._wire(BACKENDS, BACKEND_ADDRESSES, PRIVATEIP)
        self._lab.add_route(CLIENT, "198.19.0.0/24", BIND_ADDRESS)
        self._lab.add_route(BACKENDS, "198.18.0.0/24", PRIVATEIP)
        self.clear(None)

    def _wire(self, host: str, addresses: Sequence[str], balancer_address: str) -> None:
        """Join a host and the balancer; a link has the name of who is at its other end."""
        there = self.start(host, ["cat"])
        print("here", file=there.stdin, flush=True)
        # What it sends back proves that it is on that host, and no more on ours.
        read_line(there, timeout_s=READY_TIMEOUT_S)
        peer = f"peer name {BALANCER} netns {there.pid}"
        lines = [f"link add name {host} type veth {peer}"]
        lines += [f"address add {balancer_address}/24 dev {host}", f"link set dev {host} up"]
        self._ip(BALANCER, lines)
        lines = [f"address add {address}/24 dev {BALANCER}" for address in addresses]
        self._ip(host, [*lines, f"link set dev {BALANCER} up"])

    def _ip(self, host: str, lines: Sequence[str]) -> None:
        self._lab.run(host, ["ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines))
