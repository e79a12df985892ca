"""Changes of rules, as the kernel tells them."""

from __future__ import annotations

import socket
import struct

import pytest

from paraglider.kernel.changes import Changes
from paraglider.kernel.iptables import Variant

NEW_RULE, NEW_SET_ELEMENT, NEW_GENERATION = 6, 12, 15  # linux/netfilter/nf_tables.h


def message(kind: int, size_bytes: int = 21) -> bytes:
    """Return a netlink message of nftables, padded as the kernel does."""
    padding = -size_bytes % 4
    header = struct.pack("=IHHII", 16 + size_bytes, 10 << 8 | kind, 0, 0, 0)
    return header + bytes(size_bytes + padding)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The end at which the kernel would be; what is sent there is heard."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    monkeypatch.setattr("paraglider.kernel.changes._open_feed", lambda: here)
    return there


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([NEW_RULE, NEW_GENERATION], True),
        ([NEW_SET_ELEMENT, NEW_RULE], True),
        ([NEW_SET_ELEMENT, NEW_GENERATION], False),
        ([], False),
    ],
)
def test_only_what_may_move_a_rule_is_a_change(
    told: socket.socket, kinds: list[int], expected: bool
) -> None:
    """Some hosts change elements of sets all the time."""
    changes = Changes(Variant.NFT)
    assert changes.seen(), "what was before it listened, nobody knows"
    if kinds:
        told.send(b"".join(map(message, kinds)))
    assert changes.seen() is expected
    assert changes.seen() is False
    changes.close()
    told.close()


def test_a_feed_that_fails_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on it looks every few seconds, as with legacy."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr("paraglider.kernel.changes._open_feed", lambda: here)
    now = [0.0]
    changes = Changes(Variant.NFT, clock=lambda: now[0])
    here.close()
    there.close()
    assert changes.seen() is False
    now[0] = 5.0
    assert changes.seen() is True
