"""Entries: those of the kernel's table of connections that belong to some services.

Reads them whole or not at all, and deletes some. It speaks to the kernel itself (ctnetlink), which
needs NET_ADMIN and no program.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from paraglider.config.model import Family, Protocol
from paraglider.errors import UnavailableError
from paraglider.health.service import Service
from paraglider.kernel.conntrack_entry import (
    Entry,
    Form,
    Phase,
    has_translation,
    read_name,
    read_status,
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
_K = TypeVar("_K", bound=Hashable)

_GET, _DELETE = (NFNL_SUBSYS_CTNETLINK << 8 | n for n in (1, 2))  # enum cntl_msg_types
_TRIES = 4
_BATCH = 64
_READING, _CUTTING = "read the connections", "cut connections"


class Cut(NamedTuple):
    """How many live connections were cut, and how many the kernel did not let go of, because they
    are in a flow table."""

    cut: int = 0
    not_cut: int = 0


class _Named(NamedTuple, Generic[_K]):
    """An entry to be deleted, counted under `key`; `name` tells the kernel which, and never a later
    one."""

    key: _K
    is_live: bool
    name: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of one family and one protocol, to some places."""

    form: Form
    places: Places
    open_netlink: Callable[[], Netlink]

    def read(
        self, keep: Callable[[Entry], _T | None], *, is_translated: bool = True
    ) -> Sequence[_T]:
        """Return what `keep` makes of each entry, but for None; `is_translated` leaves out those
        whose destination nobody has translated. Read again where the table changed under the
        reader. Raises UnavailableError where the kernel does not tell of all, or PermissionDenied.
        """
        request = self.form.filter(self.places.binds, is_translated=is_translated)
        for _ in range(_TRIES):
            failure, is_whole, kept = self._dump(request, keep, is_translated=is_translated)
            if failure and not request:
                raise explain(_READING, failure, NFNL_SUBSYS_CTNETLINK)
            if failure:
                request = b""  # it does not sort out what is wanted
            elif is_whole:
                return kept
        raise UnavailableError(
            f"cannot {_READING}: the kernel's table changed while it was read, {_TRIES} times in a "
            "row"
        )

    def _dump(
        self, request: bytes, keep: Callable[[Entry], _T | None], *, is_translated: bool
    ) -> tuple[int, bool, Sequence[_T]]:
        """Return an errno, whether the table stayed as it was, and what `keep` made of it."""
        kept, is_whole = list[_T](), True
        read_ends, find_services = self.form.read_ends, self.places.services
        with closing(self.open_netlink()) as netlink:
            netlink.send(message(_GET, NLM_F_DUMP, 1, self.form.number, request))
            for data, kind, flags, _, start, end in netlink.receive(_READING):
                is_whole &= not flags & NLM_F_DUMP_INTR
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return error_number(data, start), is_whole, kept
                ends = read_ends(data, start, end)
                if ends is None or not find_services(ends):
                    continue
                status = read_status(data, start, end)
                if not is_translated or has_translation(status):
                    it = keep(Entry(data, start, end, ends, status))
                    if it is not None:
                        kept.append(it)
        raise UnavailableError(f"cannot {_READING}: the kernel's answer ended too early")

    def forget(self, is_wanted: Callable[[Entry], bool], *, is_translated: bool = True) -> Cut:
        """Delete the entries that `is_wanted` says; raises as `read` does."""
        found = self.forget_by(lambda entry: is_wanted(entry) or None, is_translated=is_translated)
        return found.get(True, Cut())

    def forget_by(
        self, key_of: Callable[[Entry], _K | None], *, is_translated: bool = True
    ) -> Mapping[_K, Cut]:
        """Delete the entries that `key_of` returns a key for; return what became of those of each
        key. The table is read once. Raises as `read` does."""

        def keep(entry: Entry) -> _Named[_K] | None:
            key = key_of(entry)
            if key is None:
                return None
            return _Named(key, self.form.read_phase(entry) is not Phase.ENDED, read_name(entry))

        entries = self.read(keep, is_translated=is_translated)
        cut, left = Counter[_K](), Counter[_K]()
        for entry, failure in self._delete(entries):
            cut[entry.key] += entry.is_live and not failure
            left[entry.key] += failure == errno.EBUSY
        return {key: Cut(cut[key], left[key]) for key in cut}

    def _delete(self, entries: Sequence[_Named[_K]]) -> Iterator[tuple[_Named[_K], int]]:
        """Delete `entries`; yield each with the errno that came of it: 0, ENOENT where it had ended
        by itself, EBUSY where the kernel does not let go of it (ctnetlink_del_conntrack)."""
        if not entries:
            return
        with closing(self.open_netlink()) as netlink:
            for first in range(0, len(entries), _BATCH):
                yield from self._delete_batch(netlink, entries[first : first + _BATCH])

    def _delete_batch(
        self, netlink: Netlink, batch: Sequence[_Named[_K]]
    ) -> Iterator[tuple[_Named[_K], int]]:
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
                    raise explain(_CUTTING, failure, NFNL_SUBSYS_CTNETLINK)
                yield batch[sequence], failure
                left -= 1
                if not left:
                    return


def entries_of(
    services: Collection[Service],
    open_netlink: Callable[[], Netlink],
    *,
    protocols: Iterable[Protocol] = Protocol,
) -> Iterator[Entries]:
    """Yield the entries of `services`, of each family and protocol that they have."""
    protocols = tuple(protocols)
    for family in Family:
        own = [service for service in services if service.family is family]
        for protocol in protocols:
            places = Places(own, protocol)
            if places.binds:
                yield Entries(Form(family, protocol), places, open_netlink)


def add_up(parts: Iterable[Cut]) -> Cut:
    """Return how many were cut, and were not, in all."""
    each = list(parts)
    return Cut(sum(part.cut for part in each), sum(part.not_cut for part in each))
