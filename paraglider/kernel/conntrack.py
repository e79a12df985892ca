"""Conntrack: the connections that are balanced now, counted and cut.

Speaks to the kernel itself, which needs NET_ADMIN and no program. A connection is balanced if its
destination was translated, from a bind; the backend that it goes to is the source of its answers.
It never touches another entry, but for flows of UDP to a bind that nobody has translated.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from paraglider.config.model import Address, Family, Protocol
from paraglider.errors import UnavailableError
from paraglider.health.service import Health, Pair, Service
from paraglider.kernel.conntrack_entry import (
    Ends,
    Form,
    endpoint_of,
    has_translation,
    read_name,
)
from paraglider.kernel.conntrack_places import Places
from paraglider.kernel.netlink import (
    NFNL_SUBSYS_CTNETLINK,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Netlink,
    error_number,
    explain,
    message,
)

_T = TypeVar("_T")
# Makes what is wanted of an entry, or None: the data, where it starts and ends there, and its ends.
_Keep = Callable[[bytes, int, int, Ends], _T | None]

_GET, _DELETE = (NFNL_SUBSYS_CTNETLINK << 8 | n for n in (1, 2))  # enum cntl_msg_types
# Who keeps no flow of UDP, as there is no end to wait for; a deadline ends those of who drains.
_OUT = (Health.DOWN, Health.DISABLED)
_TRIES = 4
_BATCH = 64
_READING, _CUTTING = "read the connections", "cut connections"


def count_connections(
    services: Collection[Service],
    *,
    with_ended: bool = False,
    open_netlink: Callable[[], Netlink] = Netlink,
) -> Mapping[Pair, int]:
    """Return how many live connections each (bind, backend) of `services` has: of TCP, from the
    first packet until both ends have closed; of UDP, while the kernel remembers them. Pairs without
    any are left out, backends that the services do not know are not. `with_ended` counts those of
    TCP, too, that the kernel has not forgotten yet.

    Raises UnavailableError or PermissionDenied.
    """
    counts = Counter[Pair]()
    for table in _tables(services, open_netlink):
        places = table.places

        def keep(
            data: bytes, start: int, end: int, ends: Ends, table: _ConnectionTable = table
        ) -> Ends | None:
            is_ours = table.places.find(ends) is not None
            is_counted = with_ended or table.form.is_live(data, start, end)
            return ends if is_ours and is_counted else None

        for ends, number in Counter(table.read(keep)).items():
            if pair := places.pair(ends):
                counts[pair] += number
    return counts


def count_tracked(services: Collection[Service]) -> Mapping[Pair, int]:
    """Return how many connections each pair has, with those of TCP that have ended and that the
    kernel has not forgotten yet. Raises as `count_connections` does."""
    return count_connections(services, with_ended=True)


def cut_connections(
    services: Collection[Service],
    pairs: Collection[Pair],
    *,
    open_netlink: Callable[[], Netlink] = Netlink,
) -> int:
    """Forget all connections of each (bind, backend) of `services`, over ones too; return how many
    were live.

    The next packet of such a connection is a stranger's, and is answered with a reset. Raises
    UnavailableError or PermissionDenied.
    """
    binds = {bind for bind, _ in pairs}
    concerned = [service for service in services if service.bind in binds]
    return _forget(
        _tables(concerned, open_netlink), lambda places, ends: places.pair(ends) in pairs
    )


def forget_stale(
    services: Collection[Service],
    *,
    is_local: Callable[[Address], bool],
    open_netlink: Callable[[], Netlink] = Netlink,
) -> int:
    """Forget flows of UDP that go where they should not any more: to a backend that is down (and
    does not serve all the same) or disabled or has left, or of a frontend that has; and those that
    began before there was a frontend, and are translated by nobody. Return how many.

    A sender that does not stop would keep them alive for ever. Raises UnavailableError or
    PermissionDenied.
    """
    able = {
        (service.bind, backend)
        for service in services
        if not service.is_leaving
        for backend in (
            *(share.backend for share in service.serving),
            *(m.backend for m in service.members if not (m.is_leaving or m.health in _OUT)),
        )
    }

    def is_stale(places: Places, ends: Ends) -> bool:
        if ends[:2] != ends[2:]:
            return places.pair(ends) not in able
        # As it was sent: to this host itself, or, if a bind is of any address, just through it.
        service = places.find(ends)
        is_ours = service is not None and not service.is_leaving
        to = endpoint_of(*ends[:2]).address
        return is_ours and not to.is_loopback and is_local(to)

    tables = _tables(services, open_netlink, only=Protocol.UDP)
    return _forget(tables, is_stale, is_translated=False)


def _forget(
    tables: Iterable[_ConnectionTable],
    is_wanted: Callable[[Places, Ends], bool],
    *,
    is_translated: bool = True,
) -> int:
    number = left = 0
    for table in tables:

        def keep(
            data: bytes, start: int, end: int, ends: Ends, table: _ConnectionTable = table
        ) -> _Entry | None:
            if table.places.find(ends) is None or not is_wanted(table.places, ends):
                return None
            return _Entry(table.form.is_live(data, start, end), read_name(data, start, end))

        for _ in range(_TRIES):
            left = 0
            for entry, failure in table.delete(table.read(keep, is_translated=is_translated)):
                number += entry.is_live and not failure
                left += failure == errno.EBUSY
            if not left:
                break
        if left:
            raise UnavailableError(
                f"{number} connections were cut, {left} cannot be: their packets pass the rules "
                "by, in a flow table that somebody has set up"
            )
    return number


@dataclass(frozen=True, slots=True)
class _Entry:
    """One balanced connection; `name` tells the kernel which, and never a later one."""

    is_live: bool
    name: bytes


def _tables(
    services: Collection[Service],
    open_netlink: Callable[[], Netlink],
    *,
    only: Protocol | None = None,
) -> Iterator[_ConnectionTable]:
    for family in Family:
        own = [service for service in services if service.family is family]
        for protocol in Protocol if only is None else (only,):
            places = Places(own, protocol)
            if places.binds:
                yield _ConnectionTable(Form(family, protocol), places, open_netlink)


@dataclass(frozen=True, slots=True)
class _ConnectionTable:
    """The kernel's table of connections, as far as they are of one family and one protocol and to
    some places."""

    form: Form
    places: Places
    open_netlink: Callable[[], Netlink]

    def read(self, keep: _Keep[_T], *, is_translated: bool = True) -> list[_T]:
        """Return what `keep` makes of the entries, and of others where the kernel did not sort them
        out; read again where the table changed under the reader."""
        request = self.form.filter(self.places.binds, is_translated=is_translated)
        kept = list[_T]()
        for _ in range(_TRIES):
            failure, is_whole, kept = self._dump(request, keep, is_translated=is_translated)
            if failure and not request:
                raise explain(_READING, failure)
            if failure:
                request = b""
            elif is_whole:
                break
        return kept

    def _dump(
        self, request: bytes, keep: _Keep[_T], *, is_translated: bool
    ) -> tuple[int, bool, list[_T]]:
        """Return an errno, whether the table stayed as it was, and what `keep` made of it."""
        kept, is_whole = list[_T](), True
        read_ends = self.form.read_ends
        with closing(self.open_netlink()) as netlink:
            netlink.send(message(_GET, NLM_F_DUMP, 1, self.form.number, request))
            for data, kind, flags, _, start, end in netlink.receive(_READING):
                is_whole &= not flags & NLM_F_DUMP_INTR
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return error_number(data, start), is_whole, kept
                ends = read_ends(data, start, end)
                if ends is None:
                    continue
                if not is_translated or has_translation(data, start, end):
                    it = keep(data, start, end, ends)
                    if it is not None:
                        kept.append(it)
        return errno.EIO, False, kept

    def delete(self, entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, int]]:
        """Delete `entries`; yield each with the errno that came of it: 0, ENOENT where it had ended
        by itself, EBUSY where the kernel does not let go of it."""
        if not entries:
            return
        with closing(self.open_netlink()) as netlink:
            for first in range(0, len(entries), _BATCH):
                yield from self._delete_batch(netlink, entries[first : first + _BATCH])

    def _delete_batch(
        self, netlink: Netlink, batch: Sequence[_Entry]
    ) -> Iterator[tuple[_Entry, int]]:
        requests = (
            message(_DELETE, NLM_F_ACK, sequence, self.form.number, entry.name)
            for sequence, entry in enumerate(batch)
        )
        netlink.send(b"".join(requests))
        left = len(batch)
        for data, kind, _, sequence, start, _ in netlink.receive(_CUTTING):
            if kind == NLMSG_ERROR:
                failure = error_number(data, start)
                if failure not in (0, errno.ENOENT, errno.EBUSY):
                    raise explain(_CUTTING, failure)
                yield batch[sequence], failure
                left -= 1
                if not left:
                    return
