"""Connections that lead nowhere: one end is the probe's, the other one the test's."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address

from paraglider.config.model import Check
from paraglider.health.probe import Target

ADDRESS = IPv4Address("192.0.2.1")


class FakeSocket(socket.socket):
    """One end of a pair that takes itself for a TCP socket."""

    connects_with = errno.EINPROGRESS
    ends_with = 0
    endpoint: object = None
    is_reset = False

    def connect_ex(self, endpoint: object, /) -> int:
        self.endpoint = endpoint
        return self.connects_with

    def getsockopt(self, level: int, option: int, /) -> int:  # type: ignore[override]
        is_error = (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.ends_with if is_error else super().getsockopt(level, option)

    def setsockopt(self, level: int, option: int, _value: object, /) -> None:  # type: ignore[override]
        # TCP's own options are not for a pair.
        self.is_reset |= (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)


class Network:
    """Opens sockets for probes; `servers` are the other ends, in order."""

    def __init__(self, *, connects_with: int = errno.EINPROGRESS, ends_with: int = 0) -> None:
        self.connects_with = connects_with
        self.ends_with = ends_with
        self.refuses_to_open: OSError | None = None
        self.opened: list[FakeSocket] = []
        self.servers: list[socket.socket] = []

    def open(self, _family: socket.AddressFamily) -> socket.socket:
        if self.refuses_to_open is not None:
            raise self.refuses_to_open
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        fake = FakeSocket(fileno=ours.detach())
        fake.setblocking(False)
        fake.connects_with, fake.ends_with = self.connects_with, self.ends_with
        self.opened.append(fake)
        self.servers.append(theirs)
        return fake

    def close(self) -> None:
        for end in (*self.opened, *self.servers):
            end.close()


def make_target(key: str = "web", check: Check | None = None) -> Target:
    """Return a target on port 80 of an address that is nobody's."""
    return Target(key, "", ADDRESS, 80, check or Check())
