"""The table of connections that the kernel tracks: how full it is, and what lets it fill.

Every balanced connection is an entry, and stays one for a while after it has ended, 120 s unless
somebody says otherwise: at 15,000 new ones a second the table of most hosts is full in 18 s, and
then no new connection passes at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from paraglider.kernel.host import Host

# How long an entry outlives its connection: long enough for the last packets to find it.
TIME_WAIT_S = 10
_TIME_WAIT = "net/netfilter/nf_conntrack_tcp_timeout_time_wait"

_LOOK_S = 5.0
_FULL_PERCENT, _ROOM_PERCENT = 80, 70


@dataclass(frozen=True, slots=True)
class Conntrack:
    """How many connections the kernel tracks, and how many it can; how long it keeps those of TCP
    that have ended, and how many packets of new ones it has dropped for want of room."""

    entries: int
    limit: int
    time_wait_s: int = 0
    dropped: int = 0


def read_conntrack(host: Host) -> Conntrack | None:
    """Return the use of the table; None where conntrack is not loaded."""
    try:
        return Conntrack(
            int(host.read("sys/net/netfilter/nf_conntrack_count")),
            int(host.read("sys/net/netfilter/nf_conntrack_max")),
            int(host.read(f"sys/{_TIME_WAIT}")),
            _count_dropped(host),
        )
    except OSError:
        return None


def _count_dropped(host: Host) -> int:
    #   entries  clashres found new invalid ... insert_failed drop early_drop ...
    #   0000001a 00000000 00000000 ...                                   one line for each processor
    try:
        names, *rows = host.table("net/stat/nf_conntrack")
    except ValueError:
        return 0
    at = names.index("drop")
    return sum(int(row[at], 16) for row in rows)


def shorten_time_wait(host: Host, report: Callable[[str], None]) -> None:
    """Let ended connections go sooner, where that may be set; `report` is told if it was."""
    path = host.path(f"sys/{_TIME_WAIT}")
    try:
        before_s = int(host.read(f"sys/{_TIME_WAIT}"))
        if before_s <= TIME_WAIT_S or not os.access(path, os.W_OK, effective_ids=True):
            return
        host.write(path, str(TIME_WAIT_S))
    except OSError:
        return  # no reason not to balance; FillWatch warns when the table fills
    report(
        f"the conntrack table kept ended connections for {before_s} s; set to {TIME_WAIT_S} s for "
        "the whole host"
    )


class FillWatch:
    """Tells when the table is about to be full, and when it has room again; once each time."""

    def __init__(
        self,
        *,
        read: Callable[[], Conntrack | None],
        report: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._report = report
        self._clock = clock
        self._next_s = 0.0
        self._is_told = False

    def next_s(self) -> float:
        """Return when to look next."""
        return self._next_s

    def look(self) -> None:
        """Look, when it is time."""
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + _LOOK_S
        found = self._read()
        if found is None or not found.limit:
            return
        percent = 100 * found.entries // found.limit
        if percent >= _FULL_PERCENT and not self._is_told:
            self._is_told = True
            self._report(_filling(found, percent))
        elif percent < _ROOM_PERCENT and self._is_told:
            self._is_told = False
            self._report(f"the conntrack table has room again: {percent} % in use")


def _filling(found: Conntrack, percent: int) -> str:
    mend = f"sysctl -w net.netfilter.nf_conntrack_max={2 * found.limit}"
    if found.time_wait_s > TIME_WAIT_S:
        mend = f"sysctl -w {_TIME_WAIT.replace('/', '.')}={TIME_WAIT_S}, or {mend}"
    return (
        f"the conntrack table is {percent} % full ({found.entries} of {found.limit}); at 100 % no "
        f"new connection passes: on the host, run: {mend}"
    )
