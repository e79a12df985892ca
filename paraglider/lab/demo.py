"""The demonstration: the sample configuration balances real connections on throwaway hosts.

Owns the story that is told. The balancing is done by the `paraglider` command itself, run on the
lab's balancer as on any host; nothing of the machine that the lab is on is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from paraglider.errors import INTERRUPTED_EXIT_CODE
from paraglider.lab.actors import connect_from, start_backend
from paraglider.lab.hosts import Lab
from paraglider.lab.results import render_table

# The sample of the first Paraglider's manual, to the byte.
SAMPLE_CONFIG = """\
frontend:
  bind: 166.1.101.2:4444
  privateip: 172.19.0.4
  backends:
    - 172.19.0.2:5555
    - 172.19.0.3:5555
    - 172.19.0.6:5555
"""

BIND = "166.1.101.2:4444"
CLIENTS = {"client": "166.1.101.10/24", "balancer": "166.1.101.2/24"}
BACKENDS = {
    "balancer": "172.19.0.4/16",
    "backend1": "172.19.0.2/16",
    "backend2": "172.19.0.3/16",
    "backend3": "172.19.0.6/16",
}
BACKEND_PORT = 5555
CONNECTION_COUNT = 300

INTRODUCTION = """\
Five hosts, each a network namespace of its own, with no way out:
  client    166.1.101.10
  balancer  166.1.101.2 and 172.19.0.4
  backends  172.19.0.2, 172.19.0.3 and 172.19.0.6, port 5555
"""

DEFAULT_COMMAND = (sys.executable, "-m", "paraglider")


def run_demo(*, out: TextIO, paraglider: Sequence[str] = DEFAULT_COMMAND) -> int:
    """Balance 300 connections over three backends, show who answered, leave nothing behind.

    Returns 0; 1 where a connection failed; the code of a `paraglider` command that failed; 130
    after Ctrl-C. Raises what `Lab` raises where there can be none.
    """
    try:
        with Lab() as lab:
            code = Demo(lab, out=out, paraglider=paraglider).play()
    except KeyboardInterrupt:
        print("\nInterrupted: everything has been taken down.", file=out, flush=True)
        return INTERRUPTED_EXIT_CODE
    print("The hosts are gone, and with them every link and rule.", file=out, flush=True)
    return code


class Demo:
    """The scenes of the demonstration, in one lab."""

    def __init__(self, lab: Lab, *, out: TextIO, paraglider: Sequence[str]) -> None:
        self._lab = lab
        self._out = out
        self._paraglider = tuple(paraglider)

    def play(self) -> int:
        """Play all scenes; return the exit code."""
        self._say(INTRODUCTION)
        build_topology(self._lab)
        code = self._run_paraglider("-config", "-", "start", config=SAMPLE_CONFIG)
        if code != 0:
            return code
        failed = self._connect()
        # After the connections, so that it has something to count.
        status = self._run_paraglider("status")
        stop = self._run_paraglider("stop")
        return failed or status or stop

    def _connect(self) -> int:
        self._say(f"client$ {CONNECTION_COUNT} connections to {BIND}, one after another")
        results = connect_from(self._lab, "client", to=BIND, count=CONNECTION_COUNT)
        self._say_indented(render_table(results).splitlines())
        return 1 if results.failures else 0

    def _run_paraglider(self, *arguments: str, config: str | None = None) -> int:
        shown = " ".join(("paraglider", *arguments))
        self._say(f"balancer$ {shown}")
        given = [f"< {line}" for line in (config or "").splitlines()]
        command = [*self._paraglider, *arguments]
        done = self._lab.run("balancer", command, input=config, check=False)
        self._say_indented([*given, *(done.stdout + done.stderr).splitlines()])
        if done.returncode != 0:
            self._say(f"{shown} ended with code {done.returncode}")
        return done.returncode

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def _say_indented(self, lines: Sequence[str]) -> None:
        self._say("".join(f"  {line}\n" for line in lines))


def build_topology(lab: Lab) -> None:
    """Make the hosts and networks of the sample configuration, and serve on its backends."""
    for host in dict.fromkeys([*CLIENTS, *BACKENDS]):
        lab.add_host(host)
    lab.add_network("clients", CLIENTS)
    lab.add_network("backends", BACKENDS)
    lab.set_sysctl("balancer", "net.ipv4.ip_forward", "1")
    for host, interface in BACKENDS.items():
        if host != "balancer":
            address = interface.partition("/")[0]
            start_backend(lab, host, listen=f"{address}:{BACKEND_PORT}")
