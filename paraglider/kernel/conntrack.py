"""Conntrack: the connections that are balanced now, counted and cut.

Speaks to the kernel itself, which needs NET_ADMIN and no program. A connection is balanced if its
destination was translated, from a bind; the backend that it goes to is the source of its answers.
It never touches another entry.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from paraglider.config.model import Endpoint, Family
from paraglider.errors import UnavailableError
from paraglider.health.service import Pair
from paraglider.kernel.conntrack_entry import (
    Ends,
    Form,
    endpoint_of,
    is_live,
    is_translated,
    raw_end,
    read_name,
)
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
_TRIES = 4
_BATCH = 64
_READING, _CUTTING = "read the connections", "cut connections"


def count_connections(
    binds: Collection[Endpoint], *, open_netlink: Callable[[], Netlink] = Netlink
) -> Mapping[Pair, int]:
    """Return how many live connections each (bind, backend) has: from the first packet until both
    ends have closed. Pairs without any are left out.

    Raises UnavailableError or PermissionDenied.
    """
    wanted = {raw_end(bind): bind for bind in binds}

    def keep(data: bytes, start: int, end: int, ends: Ends) -> Ends | None:
        return ends if ends[:2] in wanted and is_live(data, start, end) else None

    return {
        (wanted[ends[:2]], endpoint_of(*ends[2:])): number
        for table in _tables(binds, open_netlink)
        for ends, number in Counter(table.read(keep)).items()
    }


def cut_connections(
    pairs: Collection[Pair], *, open_netlink: Callable[[], Netlink] = Netlink
) -> int:
    """Forget all connections of each (bind, backend), over ones too; return how many were live.

    The next packet of such a connection is a stranger's, and is answered with a reset. Raises
    UnavailableError or PermissionDenied.
    """
    wanted = {(*raw_end(bind), *raw_end(backend)) for bind, backend in pairs}

    def keep(data: bytes, start: int, end: int, ends: Ends) -> _Entry | None:
        if ends not in wanted:
            return None
        return _Entry(is_live(data, start, end), read_name(data, start, end))

    number = left = 0
    for _ in range(_TRIES):
        left = 0
        for table in _tables([bind for bind, _ in pairs], open_netlink):
            for entry, failure in table.delete(table.read(keep)):
                number += entry.is_live and not failure
                left += failure == errno.EBUSY
        if not left:
            return number
    raise UnavailableError(
        f"{number} connections were cut, {left} cannot be: their packets pass the rules by, in a "
        "flow table that somebody has set up"
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One balanced connection; `name` tells the kernel which, and never a later one."""

    is_live: bool
    name: bytes


def _tables(
    binds: Collection[Endpoint], open_netlink: Callable[[], Netlink]
) -> Iterator[_ConnectionTable]:
    for family in Family:
        own = [bind for bind in binds if bind.family is family]
        if own:
            yield _ConnectionTable(Form(family), own, open_netlink)


@dataclass(frozen=True, slots=True)
class _ConnectionTable:
    """The kernel's table of connections, as far as they are of one family and to some binds."""

    form: Form
    binds: Sequence[Endpoint]
    open_netlink: Callable[[], Netlink]

    def read(self, keep: _Keep[_T]) -> list[_T]:
        """Return what `keep` makes of the entries, and of others where the kernel did not sort them
        out; read again where the table changed under the reader."""
        request, kept = self.form.filter(self.binds), list[_T]()
        for _ in range(_TRIES):
            failure, is_whole, kept = self._dump(request, keep)
            if failure and not request:
                raise explain(_READING, failure)
            if failure:
                request = b""
            elif is_whole:
                break
        return kept

    def _dump(self, request: bytes, keep: _Keep[_T]) -> tuple[int, bool, list[_T]]:
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
                if ends is not None and is_translated(data, start, end):
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
