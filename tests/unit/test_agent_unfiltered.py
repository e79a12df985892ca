"""A prober whose system calls cannot be filtered says so once, and probes."""

from __future__ import annotations

import os
import signal
import socket
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from paraglider.agent.probing import _be_prober
from paraglider.config.model import Check
from paraglider.health.probe import Target
from paraglider.health.wire import MAX_REPORTS_BYTES, LineBuffer, decode_reports, encode_orders
from paraglider.kernel import seccomp

_NOTE = "the prober runs without a system call filter: {}"
_UNKNOWN = "the system calls of ppc64le are not known here"
_NO_FILTER = "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"


def start_prober(*, is_first: bool) -> tuple[socket.socket, int]:
    """Return the agent's end of the socket to a prober, and its process."""
    ours, theirs = socket.socketpair()
    agent = os.getpid()
    child = os.fork()
    if child == 0:
        ours.close()
        _be_prober(theirs, agent, needs_tls=False, is_first=is_first)
    theirs.close()
    ours.settimeout(10)
    return ours, child


def read_notes(*, is_first: bool) -> list[str]:
    """Return the notes of a prober until the result of its first probe."""
    ours, child = start_prober(is_first=is_first)
    notes: list[str] = []
    try:
        target = Target("web", "", IPv4Address("127.0.0.1"), 9, Check(timeout_s=1.0))
        ours.sendall(encode_orders([target], {}))
        buffer = LineBuffer(MAX_REPORTS_BYTES)
        while True:
            for reports in map(decode_reports, buffer.feed(ours.recv(65536))):
                notes += reports.notes
                assert not reports.failure
                if reports.results:
                    return notes
    finally:
        ours.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_machine_whose_calls_are_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first prober; a later one is silent."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="ppc64le"))
    assert read_notes(is_first=True) == [_NOTE.format(_UNKNOWN)]
    assert read_notes(is_first=False) == []


def test_a_kernel_without_filters_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked, and refuses a program that it cannot read."""
    monkeypatch.setattr(seccomp, "plan_filter", lambda *_: b"\xff" * 8)
    assert read_notes(is_first=True) == [_NOTE.format(_NO_FILTER)]


def test_a_filtered_prober_notes_nothing() -> None:
    """So the tests above can fail."""
    assert read_notes(is_first=True) == []
