"""Conntrack: the connections that are balanced now, counted and cut.

A connection is balanced if its destination was translated, from a bind; the backend that it goes to
is the source of its answers. It never touches another entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from paraglider.health.service import Pair, Service
from paraglider.kernel.conntrack_entries import Cut, Entries, add_up, entries_of
from paraglider.kernel.conntrack_entry import Ends, Entry, Phase
from paraglider.kernel.netlink import Netlink


class Count(NamedTuple):
    """How many connections there are. Half-open are those that are `unanswered` (the backend has
    sent nothing) and those in `syn_recv` (it has, and the client has not confirmed). The kernel has
    not forgotten those that have `ended` yet."""

    established: int = 0
    unanswered: int = 0
    syn_recv: int = 0
    ended: int = 0

    @property
    def half_open(self) -> int:
        """How many have begun and are not established."""
        return self.unanswered + self.syn_recv

    @property
    def live(self) -> int:
        """How many have not ended."""
        return self.established + self.half_open

    @property
    def tracked(self) -> int:
        """How many the kernel knows."""
        return self.live + self.ended


def count_by_phase(
    services: Collection[Service], *, open_netlink: Callable[[], Netlink] = Netlink
) -> Mapping[Pair, Count]:
    """Return the connections of each (bind, backend) of `services`. Pairs without any are left out,
    backends that the services do not know are not. Of UDP, those count that the kernel remembers.

    Raises UnavailableError, also where the kernel does not tell of all, or PermissionDenied.
    """
    found: dict[Pair, Counter[Phase]] = {}
    for entries in entries_of(services, open_netlink):
        for (ends, phase), number in Counter(entries.read(_phase_reader(entries))).items():
            if pair := entries.places.pair(ends):
                found.setdefault(pair, Counter())[phase] += number
    return {pair: _count(phases) for pair, phases in found.items()}


def _phase_reader(entries: Entries) -> Callable[[Entry], tuple[Ends, Phase]]:
    read_phase = entries.form.read_phase
    return lambda entry: (entry.ends, read_phase(entry))


def _count(phases: Mapping[Phase, int]) -> Count:
    return Count(
        phases.get(Phase.ESTABLISHED, 0),
        phases.get(Phase.UNANSWERED, 0),
        phases.get(Phase.SYN_RECV, 0),
        phases.get(Phase.ENDED, 0),
    )


def count_connections(
    services: Collection[Service], *, open_netlink: Callable[[], Netlink] = Netlink
) -> Mapping[Pair, int]:
    """Return how many connections each pair has that have not ended, pairs without any left out.
    Raises as `count_by_phase` does."""
    counts = count_by_phase(services, open_netlink=open_netlink)
    return {pair: count.live for pair, count in counts.items() if count.live}


def cut_connections(
    services: Collection[Service],
    pairs: Collection[Pair],
    *,
    open_netlink: Callable[[], Netlink] = Netlink,
) -> Mapping[Pair, Cut]:
    """Forget all connections of each (bind, backend) of `services`, over ones too, but for those
    that the kernel does not let go of; return how many of each, pairs without any left out. The
    table is read once, however many pairs there are.

    The next packet of such a connection is a stranger's, and is answered with a reset. Raises
    UnavailableError or PermissionDenied.
    """
    binds = {bind for bind, _ in pairs}
    concerned = [service for service in services if service.bind in binds]
    found: dict[Pair, Cut] = {}
    for entries in entries_of(concerned, open_netlink):  # a frontend may have TCP and UDP
        for pair, cut in entries.forget_by(_pair_reader(entries, pairs)).items():
            found[pair] = add_up((found.get(pair, Cut()), cut))
    return found


def _pair_reader(entries: Entries, pairs: Collection[Pair]) -> Callable[[Entry], Pair | None]:
    def read_pair(entry: Entry) -> Pair | None:
        pair = entries.places.pair(entry.ends)
        return pair if pair in pairs else None

    return read_pair
