"""The host: what it allows, what it has, and the one switch that a balancer needs.

Owns /proc and the sockets that ask the kernel about addresses. It reads; the one thing it writes
itself is the forwarding switch.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from paraglider.config.model import Address, Family, Ports, Protocol
from paraglider.errors import UnavailableError
from paraglider.kernel.process import Run, run_program

# Bits of the capability mask in /proc/self/status (linux/capability.h).
NET_ADMIN = 12
NET_RAW = 13

FORWARDING = {
    Family.IPV4: "net/ipv4/ip_forward",
    Family.IPV6: "net/ipv6/conf/all/forwarding",
}
_RTF_ADDRCONF = 0x00040000  # a route learned from a router's advertisement (linux/ipv6_route.h)
# The states of sockets that anybody may send to (include/net/tcp_states.h, as /proc/net/tcp and
# udp print them): LISTEN; and CLOSE, which is UDP's of those that are connected to nobody.
_LISTENING = {Protocol.TCP: "0A", Protocol.UDP: "07"}


class Listener(NamedTuple):
    """Where a program takes connections, or datagrams of anybody."""

    protocol: Protocol
    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class OutgoingPorts:
    """The ports that the host's own connections may leave from: those of `span` but the
    `reserved`."""

    span: range
    reserved: tuple[Ports, ...] = ()

    def has(self, port: int) -> bool:
        """Return whether `port` is one of them."""
        return port in self.span and not any(first <= port <= last for first, last in self.reserved)

    def count(self) -> int:
        """Return how many there are."""
        return sum(map(self.has, self.span))

    def among(self, wanted: Iterable[Ports]) -> list[Ports]:
        """Return those of the `wanted` ports that are, ascending; ports side by side are one."""
        low, high = self.span.start, self.span.stop - 1
        # Joined first: many ranges may be nearly the same, and each is as long as it likes.
        within = (range(max(first, low), min(last, high) + 1) for first, last in _join(wanted))
        return _join(Ports(port, port) for ports in within for port in ports if self.has(port))


def _join(wanted: Iterable[Ports]) -> list[Ports]:
    """Return the same ports in as few ranges as can be, ascending."""
    joined: list[Ports] = []
    for first, last in sorted(wanted):
        if joined and first <= joined[-1].last + 1:
            joined[-1] = Ports(joined[-1].first, max(last, joined[-1].last))
        else:
            joined.append(Ports(first, last))
    return joined


def grant_mend(*capabilities: str) -> str:
    """Return the words that say how a process gets these: ``NET_ADMIN``."""
    flags = " ".join(f"--cap-add={capability}" for capability in capabilities)
    return f"run as root, or docker run {flags}"


# Not pathlib, whose import is a twentieth of what `paraglider check` takes.
def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


@dataclass(frozen=True, slots=True)
class Host:
    """This host as /proc shows it; `proc` is where that is, `write` changes a file there, and `run`
    starts the programs that read and change rules."""

    proc: str | os.PathLike[str] = "/proc"
    write: Callable[[str, str], object] = _write
    run: Run = run_program

    def has_capability(self, number: int) -> bool:
        """Return whether this process has the capability in its effective set."""
        for line in self.read("self/status").split("\n"):
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
        return False

    def enable_forwarding(self, families: Iterable[Family], report: Callable[[str], None]) -> None:
        """Make the host forward packets of `families`, and report each that it did not.

        Raises UnavailableError, before anything is switched, where one is off and cannot, or must
        not, be switched on.
        """
        off = [family for family in families if self._is_switchable(family)]
        for family in off:
            path = self._forwarding_path(family)
            try:
                self.write(path, "1")
            except OSError as error:
                raise self._cannot_forward(family, error.strerror) from error
            report(f"IPv{family.value} forwarding was off; switched it on for the whole host")

    def forwarding_obstacles(self, families: Iterable[Family]) -> list[str]:
        """Return why `enable_forwarding` would fail, for each family where it would."""
        found = []
        for family in sorted(families):
            try:
                self._is_switchable(family)
            except UnavailableError as error:
                found.append(str(error))
        return found

    def forwarding_mend(self, family: Family) -> str:
        """Return the command that switches forwarding on, and keeps a default route that a router
        advertises."""
        device = self._advertised_route_device() if family is Family.IPV6 else ""
        keep = f"net/ipv6/conf/{device}/accept_ra=2 " if device else ""
        return f"sysctl -w {keep}{FORWARDING[family].replace('/', '.')}=1"

    def _is_switchable(self, family: Family) -> bool:
        path = self._forwarding_path(family)
        try:
            if _read(path).strip() != "0":
                return False
        except OSError as error:
            raise UnavailableError(
                f"cannot read {path} ({error.strerror}); does the kernel have IPv{family.value}?"
            ) from error
        if family is Family.IPV6 and (device := self._advertised_route_device()):
            # The kernel stops listening to advertisements when it forwards; the route would go,
            # and a remote device with it. In this order, or the route goes in between.
            raise UnavailableError(
                f"IPv6 forwarding is off, and {device} has its default route from a router's "
                "advertisement, which forwarding would end: on the host, run: "
                f"{self.forwarding_mend(family)}"
            )
        if not os.access(path, os.W_OK, effective_ids=True):
            raise self._cannot_forward(family, "read-only")
        return True

    def _cannot_forward(self, family: Family, reason: str | None) -> UnavailableError:
        return UnavailableError(
            f"IPv{family.value} forwarding is off and cannot be switched on from here ({reason}): "
            f"on the host, run: {self.forwarding_mend(family)}"
        )

    def _forwarding_path(self, family: Family) -> str:
        return self.path(f"sys/{FORWARDING[family]}")

    def is_forwarding(self, family: Family) -> bool:
        """Return whether the host forwards packets of `family`."""
        try:
            return _read(self._forwarding_path(family)).strip() != "0"
        except OSError:
            return False

    def is_off(self, setting: str) -> bool:
        """Return whether a setting (``net/ipv4/ip_forward``) is there, and is 0."""
        try:
            return self.read(f"sys/{setting}").strip() == "0"
        except OSError:
            return False

    def has_legacy_tables(self, family: Family) -> bool:
        """Return whether iptables-legacy has tables here, without creating any by looking."""
        name = "net/ip_tables_names" if family is Family.IPV4 else "net/ip6_tables_names"
        try:
            return bool(self.read(name).strip())
        except OSError:
            return False

    def is_local(self, address: Address) -> bool:
        """Return whether an interface of this host has `address` (or one may be bound without)."""
        kind = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            with socket.socket(kind, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))
        except OSError as error:
            return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        return True

    def has_interface(self, name: str) -> bool:
        """Return whether this host has a network interface of that name now."""
        return name in (found for _, found in socket.if_nameindex())

    def source_for(self, address: Address, *, interface: str = "") -> Address | None:
        """Return the address that this host has in the network through which it reaches `address`,
        by a given `interface` if one is; None where there is no way there. Nothing is sent."""
        kind = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            with socket.socket(kind, socket.SOCK_DGRAM) as probe:
                if interface:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                probe.connect((str(address), 9))
                return ip_address(probe.getsockname()[0])
        except OSError:
            return None

    def read_listeners(self) -> frozenset[Listener]:
        """Return what programs of this host listen on."""
        return frozenset(
            Listener(protocol, _kernel_address(address), int(port, 16))
            for protocol, state in _LISTENING.items()
            for suffix in ("", "6")
            for fields in self.table(f"net/{protocol.value}{suffix}")[1:]
            if fields[3] == state
            for address, port in [fields[1].split(":")]
        )

    def read_outgoing_ports(self) -> OutgoingPorts:
        """Return the ports that the host's own connections may leave from (ip-sysctl)."""
        try:
            first, last = self.read("sys/net/ipv4/ip_local_port_range").split()
            reserved = self.read("sys/net/ipv4/ip_local_reserved_ports").strip()
        except OSError:
            return OutgoingPorts(range(0))
        # As the kernel prints them: 8080,35000-35010
        spans = (span.partition("-") for span in reserved.split(",") if span)
        kept = tuple(Ports(int(low), int(high or low)) for low, _, high in spans)
        return OutgoingPorts(range(int(first), int(last) + 1), kept)

    def _advertised_route_device(self) -> str | None:
        #   0000...0000 00 0000...0000 00 fe80...0001 00000400 00000001 00000000 00450003 eth0
        for fields in self.table("net/ipv6_route"):
            is_default = fields[1] == "00" and int(fields[8], 16) & _RTF_ADDRCONF
            if is_default and not self._accepts_while_forwarding(fields[9]):
                return fields[9]
        return None

    def _accepts_while_forwarding(self, device: str) -> bool:
        try:
            return self.read(f"sys/net/ipv6/conf/{device}/accept_ra").strip() == "2"
        except OSError:
            return False

    def path(self, name: str) -> str:
        """Return where a file of /proc is."""
        return os.path.join(self.proc, name)

    def read(self, name: str) -> str:
        """Return a file of /proc. Raises OSError."""
        return _read(self.path(name))

    def table(self, name: str) -> list[list[str]]:
        """Return the fields of each line of a file of /proc; none where it is not there."""
        try:
            text = self.read(name)
        except OSError:
            return []
        return [line.split() for line in text.split("\n") if line]


def _kernel_address(text: str) -> Address:
    """Return the address of a hexadecimal dump of 32-bit words in host order (proc(5))."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return ip_address(raw)
