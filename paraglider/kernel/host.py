"""The host: what it allows, what it has, and the one switch that a balancer needs.

Owns /proc and the sockets that ask the kernel about addresses. It reads; the one thing it may write
is the forwarding switch.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from paraglider.config.model import Address, Endpoint, Family
from paraglider.errors import UnavailableError

# Bits of the capability mask in /proc/self/status (linux/capability.h).
NET_ADMIN = 12
NET_RAW = 13

_FORWARDING = {
    Family.IPV4: "net/ipv4/ip_forward",
    Family.IPV6: "net/ipv6/conf/all/forwarding",
}
_RTF_ADDRCONF = 0x00040000  # a route learned from a router's advertisement (linux/ipv6_route.h)
_TCP_LISTEN = "0A"  # include/net/tcp_states.h, as /proc/net/tcp prints it


@dataclass(frozen=True, slots=True)
class Conntrack:
    """How many connections the kernel tracks, and how many it can."""

    entries: int
    limit: int


@dataclass(frozen=True, slots=True)
class Host:
    """This host as /proc shows it; `proc` is where that is, `write` changes a file there."""

    proc: Path = Path("/proc")
    write: Callable[[Path, str], object] = Path.write_text

    def has_capability(self, number: int) -> bool:
        """Return whether this process has the capability in its effective set."""
        for line in (self.proc / "self/status").read_text().split("\n"):
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
        return False

    def enable_forwarding(self, family: Family) -> bool:
        """Make the host forward packets; return whether it had to be switched on.

        Raises UnavailableError where it is off and cannot, or must not, be switched on.
        """
        setting = _FORWARDING[family]
        path = self.proc / "sys" / setting
        mend = f"on the host, run: sysctl -w {setting.replace('/', '.')}=1"
        try:
            if path.read_text().strip() != "0":
                return False
        except OSError as error:
            raise UnavailableError(
                f"cannot read {path}: {error.strerror}; the kernel has no IPv{family.value}"
            ) from error
        if family is Family.IPV6 and (device := self._advertised_route_device()):
            # The kernel stops listening to advertisements when it forwards; the route would run
            # out, and a remote device with it.
            raise UnavailableError(
                f"IPv6 forwarding is off, and {device} has its default route from a router's "
                f"advertisement, which forwarding would end: {mend} "
                f"net.ipv6.conf.{device}.accept_ra=2"
            )
        try:
            self.write(path, "1")
        except OSError as error:
            raise UnavailableError(
                f"IPv{family.value} forwarding is off and cannot be switched on from here "
                f"({error.strerror}): {mend}"
            ) from error
        return True

    def is_forwarding(self, family: Family) -> bool:
        """Return whether the host forwards packets of `family`."""
        try:
            return (self.proc / "sys" / _FORWARDING[family]).read_text().strip() != "0"
        except OSError:
            return False

    def has_legacy_tables(self, family: Family) -> bool:
        """Return whether iptables-legacy has tables here, without creating any by looking."""
        name = "net/ip_tables_names" if family is Family.IPV4 else "net/ip6_tables_names"
        try:
            return bool((self.proc / name).read_text().strip())
        except OSError:
            return False

    def is_local(self, address: Address) -> bool:
        """Return whether an interface of this host has `address` (or one may be bound without)."""
        kind = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((str(address), 0))
            except OSError as error:
                return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        return True

    def is_listened_on(self, bind: Endpoint) -> bool:
        """Return whether a program of this host listens on `bind`, by address or on all."""
        return any(
            port == bind.port and (address == bind.address or address.is_unspecified)
            for address, port in self._listening(bind.family)
        )

    def read_conntrack(self) -> Conntrack | None:
        """Return the use of the connection table; None where conntrack is not loaded."""
        base = self.proc / "sys/net/netfilter"
        try:
            entries = int((base / "nf_conntrack_count").read_text())
            return Conntrack(entries, int((base / "nf_conntrack_max").read_text()))
        except OSError:
            return None

    def _listening(self, family: Family) -> Iterator[tuple[Address, int]]:
        # A socket on [::] usually takes IPv4 connections too.
        names = ("tcp", "tcp6") if family is Family.IPV4 else ("tcp6",)
        for name in names:
            for fields in self._table(f"net/{name}")[1:]:
                if fields[3] == _TCP_LISTEN:
                    address, port = fields[1].split(":")
                    yield _kernel_address(address), int(port, 16)

    def _advertised_route_device(self) -> str | None:
        #   0000...0000 00 0000...0000 00 fe80...0001 00000400 00000001 00000000 00450003 eth0
        for fields in self._table("net/ipv6_route"):
            if fields[1] == "00" and int(fields[8], 16) & _RTF_ADDRCONF:
                return fields[9]
        return None

    def _table(self, name: str) -> list[list[str]]:
        try:
            text = (self.proc / name).read_text()
        except OSError:
            return []
        return [line.split() for line in text.split("\n") if line]


def _kernel_address(text: str) -> Address:
    """Return the address of a hexadecimal dump of 32-bit words in host order (proc(5))."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return ip_address(raw)
