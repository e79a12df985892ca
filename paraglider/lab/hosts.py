"""Throwaway hosts: network namespaces with wires between them, and nothing that leads out.

    with Lab() as lab:
        for name in ("client", "balancer"):
            lab.add_host(name)
        lab.add_network("clients", {"client": "166.1.101.10/24", "balancer": "166.1.101.2/24"})
        lab.run("client", ["ip", "route"])

Owns the namespaces and every process in them. Nothing has a name outside (no `ip netns`, no file):
a host is a `cat` that waits on a pipe, so the kernel takes everything back when the owner of the
lab ends, however it ends (see reaper.py). A host has loopback, the links it was given and no
default route. /run is the lab's own, and with it the lock of legacy iptables.

It must never touch the machine's own network namespace, and never hand a host a way out.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import paraglider
from paraglider.errors import ParagliderError, UsageError
from paraglider.lab import reaper
from paraglider.lab.refusal import explain_refusal, require_programs

Addresses = str | Sequence[str]

# The warden's own network namespace: it holds the bridges, and no address.
SWITCH = "switch"

DEFAULT_TIMEOUT_S = 60.0
# How long the kernel may take to end the lab's processes; the warden gives up a little earlier.
CLOSE_TIMEOUT_S = 15.0

# Where iptables lives on systems that keep it out of the path of ordinary users.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


class CommandFailed(ParagliderError):
    """A command in the lab ended with another code than 0, or not in time (`returncode` None)."""

    def __init__(
        self, host: str, argv: Sequence[str], *, returncode: int | None, output: str
    ) -> None:
        self.host = host
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output
        end = "did not end in time" if returncode is None else f"ended with code {returncode}"
        super().__init__(f"On the lab's host {host}, `{' '.join(argv)}` {end}: {output.strip()}")


class Lab:
    """Hosts and networks that exist until `close` or the end of this process.

    Raises PermissionDenied where namespaces are refused and UnavailableError where a program is
    missing. `user_namespace` None takes one where the process is not root.
    """

    def __init__(self, *, user_namespace: bool | None = None) -> None:
        self._is_root = os.geteuid() == 0
        self._user_namespace = not self._is_root if user_namespace is None else user_namespace
        self._environment = make_environment(os.environ)
        # The process whose network namespace is the host, by name.
        self._holders: dict[str, subprocess.Popen[str]] = {}
        self._started: list[subprocess.Popen[str]] = []
        self._port_count = 0
        require_programs(["unshare", "nsenter", "ip", "mount"], path=self._environment["PATH"])
        try:
            self._start_reaper()
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

    def add_host(self, name: str) -> None:
        """Make a host with loopback up, no other link and no route."""
        if name in self._holders:
            raise UsageError(f"The lab has a host {name} already")
        argv = [*self._enter(SWITCH), "unshare", "--net", "--", "cat"]
        holder = self._hold(name, argv)
        # What cat sends back proves that unshare has done its work.
        print("ready", file=holder.stdin, flush=True)
        self._expect_ready(name, holder)
        self._prepare(name)

    def add_network(self, name: str, members: Mapping[str, Addresses]) -> None:
        """Make a segment (at most 15 characters) and put hosts on it.

        `members` gives each host one address with its prefix length, or several, IPv4 or IPv6. The
        host's interface is named like the network.
        """
        self._ip(SWITCH, [f"link add name {name} type bridge", f"link set dev {name} up"])
        for host, addresses in members.items():
            self.attach(name, host, addresses)

    def attach(self, network: str, host: str, addresses: Addresses) -> None:
        """Put one more host on a network."""
        interfaces = [
            ip_interface(text)
            for text in ([addresses] if isinstance(addresses, str) else addresses)
        ]
        self._port_count += 1
        port = f"port{self._port_count}"
        peer = f"peer name {network} netns {self._holder(host).pid}"
        self._ip(SWITCH, [f"link add name {port} type veth {peer}"])
        lines = [f"address add {it} dev {network}" for it in interfaces if it.version == 4]
        lines += [f"address add {it} dev {network} nodad" for it in interfaces if it.version == 6]
        self._ip(host, [*lines, f"link set dev {network} up"])
        # Up before it becomes a port of the bridge: it then forwards from the first packet on.
        self._ip(SWITCH, [f"link set dev {port} up", f"link set dev {port} master {network}"])

    def add_route(self, host: str, destination: str, via: str) -> None:
        """Give a host a route; `destination` is a prefix, `via` an address on one of its links."""
        self._ip(host, [f"route add {destination} via {via}"])

    def set_sysctl(self, host: str, name: str, value: str) -> None:
        """Write one of the host's own settings, e.g. ``net.ipv4.ip_forward``, ``1``."""
        self.run(host, ["tee", f"/proc/sys/{name.replace('.', '/')}"], input=value)

    def run(  # noqa: PLR0913 - the options of subprocess.run, by keyword
        self,
        host: str,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - the word of subprocess.run
        timeout_s: float = DEFAULT_TIMEOUT_S,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host and return what it said; its directory is /.

        `env` is added to this process's environment. Raises CommandFailed when it does not end
        in time and, with `check`, when it ends with another code than 0.
        """
        try:
            done = subprocess.run(
                [*self._enter(host), *argv],
                input="" if input is None else input,
                env={**self._environment, **(env or {})},
                timeout=timeout_s,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            output = f"more than {timeout_s:g} s"
            raise CommandFailed(host, argv, returncode=None, output=output) from error
        if check and done.returncode != 0:
            output = done.stderr or done.stdout
            raise CommandFailed(host, argv, returncode=done.returncode, output=output)
        return done

    def start(
        self,
        host: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stderr: int | IO[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command on a host; the lab's end is its end.

        Its standard input and output are pipes. The process id is the command's own, so signals
        reach it; those of the terminal (Ctrl-C) do not.
        """
        process = subprocess.Popen(
            [*self._enter(host), *argv],
            env={**self._environment, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End every process of the lab, and so its namespaces; may be called twice."""
        holders = list(self._holders.values())
        # The switch's is the warden: the end of its input ends everybody else.
        for process in holders:
            close_quietly(process.stdin)
        for process in [*holders, *self._started]:
            try:
                process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                close_quietly(stream)
        self._holders.clear()
        self._started.clear()

    def _start_reaper(self) -> None:
        namespaces = ["--user", "--map-root-user"] if self._user_namespace else []
        owner = reaper.read_mount_namespace("self") or ""
        argv = ["unshare", *namespaces, "--mount", "--net", "--"]
        # Without site and user packages: what it needs is the standard library.
        argv += [sys.executable, "-I", "-S", reaper.__file__, owner]
        self._expect_ready(SWITCH, self._hold(SWITCH, argv))
        self.run(SWITCH, ["mount", "-t", "tmpfs", "-o", "mode=0755", "lab", "/run"])
        self._prepare(SWITCH)

    def _hold(self, name: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._holders[name] = process
        return process

    def _expect_ready(self, name: str, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None and process.stdout.readline() == "ready\n":
            return
        answer = process.stderr.read() if process.stderr is not None else ""
        if name == SWITCH:
            raise explain_refusal(
                answer, user_namespace=self._user_namespace, is_root=self._is_root
            )
        raise CommandFailed(name, ["unshare"], returncode=process.wait(), output=answer)

    def _prepare(self, host: str) -> None:
        self._ip(host, ["link set dev lo up"])
        # A kernel without IPv6 has no such setting, and needs none.
        if Path("/proc/sys/net/ipv6").exists():
            # Addresses are usable at once: nobody else can have them here.
            self.set_sysctl(host, "net.ipv6.conf.default.accept_dad", "0")

    def _ip(self, host: str, lines: Sequence[str]) -> None:
        """Run ip(8) commands on a host, in one process."""
        self.run(host, ["ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines))

    def _holder(self, host: str) -> subprocess.Popen[str]:
        if host not in self._holders:
            raise UsageError(f"The lab has no host {host}; it has {', '.join(self._holders)}")
        return self._holders[host]

    def _enter(self, host: str) -> list[str]:
        user = ["--user", "--preserve-credentials"] if self._user_namespace else []
        target = str(self._holder(host).pid)
        return ["nsenter", "--target", target, *user, "--mount", "--net", "--"]


def make_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the lab's commands: iptables on the path, this very paraglider."""
    root = str(Path(paraglider.__file__).parent.parent)
    path = own.get("PATH", os.defpath)
    python_path = own.get("PYTHONPATH")
    return {
        **own,
        "PATH": f"{path}:{SYSTEM_PATH}",
        "PYTHONPATH": f"{root}:{python_path}" if python_path else root,
        "LC_ALL": "C.UTF-8",
    }


def close_quietly(stream: IO[str] | None) -> None:
    """Close a pipe whose other end may be gone."""
    if stream is not None:
        with contextlib.suppress(BrokenPipeError):
            stream.close()
