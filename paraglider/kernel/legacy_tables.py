"""Legacy tables: whether what iptables-legacy's tables hold is still what they held.

The kernel tells nobody when somebody replaces such a table, so it has to be asked: what iptables
asks before it writes (getsockopt, linux/netfilter_ipv4/ip_tables.h), without a program. Needs
NET_ADMIN, and no raw socket. It writes nothing, and makes no table by looking at it.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

LOOK_S = 0.5
# When the kernel lets nobody look, the rules themselves are read: every few seconds.
BLIND_S = 5.0

# Of a core, for looks at the heads of large tables and for all of them: a quarter percent in all.
_HEAD_SHARE = 0.0015
_WHOLE_SHARE = 0.001
# Of a table; its built-in chains and some 300 rules, as most hosts have in all.
HEAD_BYTES = 1 << 16

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("@32sI5I5III")  # struct ipt_getinfo; the last one is the size of all entries
_REQUEST = struct.Struct("@32sI0Q")  # struct ipt_get_entries, without the entries
_COUNTERS_BYTES = 16
_NO_COUNTERS = bytes(_COUNTERS_BYTES)
_NEXT = struct.Struct("@H")
_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a family has its tables, and where struct ipt_entry (ip6t_entry) has what matters."""

    names_path: str
    domain: int
    level: int
    next_at: int
    counters_at: int


_LAYOUTS = (
    _Layout(
        "/proc/net/ip_tables_names",
        socket.AF_INET,
        socket.IPPROTO_IP,
        struct.calcsize("@84sIH"),
        struct.calcsize("@84sIHHI0Q"),
    ),
    _Layout(
        "/proc/net/ip6_tables_names",
        socket.AF_INET6,
        socket.IPPROTO_IPV6,
        struct.calcsize("@136sIH"),
        struct.calcsize("@136sIHHI0Q"),
    ),
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one content of all tables from another: number and size of rules, the offsets of
    the built-in chains, the rules at the heads of the tables; `whole`, all rules, where asked for.
    """

    heads: tuple[object, ...]
    whole: tuple[object, ...] | None


class LegacyTables:
    """The tables of iptables-legacy in this network namespace, both families."""

    def __init__(self) -> None:
        import ctypes  # a megabyte that a host with nftables does not need

        self._ctypes = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)

    def read(self, *, is_whole: bool) -> Fingerprint:
        """Return the fingerprint of all tables that there are. Raises OSError.

        The head of a large table costs a thirtieth of the whole.
        """
        heads, whole = list[object](), list[object]()
        for layout in _LAYOUTS:
            names = _read_names(layout.names_path)
            if not names:
                continue
            with socket.socket(layout.domain, socket.SOCK_DGRAM) as asking:
                for name in names:
                    head, all_entries = self._read_table(asking, layout, name, is_whole=is_whole)
                    heads.append((layout.names_path, name, head))
                    whole.append(all_entries)
        return Fingerprint(tuple(heads), tuple(whole) if is_whole else None)

    def _read_table(
        self, asking: socket.socket, layout: _Layout, name: bytes, *, is_whole: bool
    ) -> tuple[object, int]:
        for _ in range(_TRIES):
            info = bytearray(name.ljust(_INFO.size, b"\0"))
            self._ask(asking, layout, _GET_INFO, info)
            size = _INFO.unpack(info)[-1]
            length = _REQUEST.size + size
            end = length if is_whole else min(HEAD_BYTES, length)
            memory = self._memory(length, end)
            _REQUEST.pack_into(memory, 0, name, size)
            try:
                self._ask(asking, layout, _GET_ENTRIES, memory)
            except OSError as error:
                if error.errno == errno.EAGAIN:  # replaced by one of another size since
                    continue
                # It is how the kernel ends where it may write the head alone.
                if error.errno != errno.EFAULT or end == length:
                    raise
            head, whole = sum_entries(
                memory, _REQUEST.size, end, next_at=layout.next_at, counters_at=layout.counters_at
            )
            return (bytes(info), head), whole
        raise OSError(errno.EAGAIN, f"the table {name.decode()} is being replaced all the time")

    def _memory(self, length: int, end: int) -> bytearray | mmap.mmap:
        """Return memory for an answer of which the kernel can write what is before `end` alone."""
        if length <= HEAD_BYTES:
            return bytearray(length)
        memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if end < length:
            behind = self._ctypes.byref(self._ctypes.c_char.from_buffer(memory), end)
            if self._libc.mprotect(behind, self._ctypes.c_size_t(length - end), 0):
                raise self._error()
        return memory

    def _ask(
        self,
        asking: socket.socket,
        layout: _Layout,
        option: int,
        buffer: bytearray | mmap.mmap,
    ) -> None:
        place = self._ctypes.c_char.from_buffer(buffer)
        length = self._ctypes.c_uint32(len(buffer))
        if self._libc.getsockopt(
            asking.fileno(),
            layout.level,
            option,
            self._ctypes.byref(place),
            self._ctypes.byref(length),
        ):
            raise self._error()

    def _error(self) -> OSError:
        number = self._ctypes.get_errno()
        return OSError(number, os.strerror(number))


def _read_names(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return sorted(file.read().split())
    except FileNotFoundError:  # the kernel has none of this family, or not this family
        return []


def sum_entries(
    data: bytearray | mmap.mmap, start: int, end: int, *, next_at: int, counters_at: int
) -> tuple[int, int]:
    """Return the checksums of the entries (struct ipt_entry) that end before HEAD_BYTES, and of
    all that end before `end`, without their packet counters, which become 0 in `data`.

    Each begins at `start`, or where the one before says that the next does, at `next_at`.
    """
    at = head_end = start
    while at + counters_at + _COUNTERS_BYTES <= end:
        size = _NEXT.unpack_from(data, at + next_at)[0]
        if not size or at + size > end:  # what is behind was not written
            break
        data[at + counters_at : at + counters_at + _COUNTERS_BYTES] = _NO_COUNTERS
        at += size
        if at <= HEAD_BYTES:
            head_end = at
    with memoryview(data) as view:
        head = zlib.crc32(view[start:head_end])
        return head, zlib.crc32(view[head_end:at], head)


class Tables(Protocol):
    """Who reads fingerprints: LegacyTables, but for tests."""

    def read(self, *, is_whole: bool) -> Fingerprint: ...


class LegacyWatch:
    """Looks at the tables as often as may be for what it costs.

    Twice a second at number and size of all rules, where the built-in chains are, and the first
    rules of each table, the built-in chains' as a rule: that is where rules go, are taken away or
    moved. At every rule as often where there are some hundreds, every twenty seconds where
    there are 20,000: what it finds later is a rule that became another one of the same size.
    """

    def __init__(
        self,
        open_tables: Callable[[], Tables] = LegacyTables,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._open_tables = open_tables
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._tables: Tables | None = None
        self._known = Fingerprint((), None)
        self._next_s = self._whole_s = clock()

    def next_s(self) -> float:
        """Return when to look next, on the clock."""
        return self._next_s

    def look(self) -> bool:
        """Return whether somebody, this process included, may have changed a table since the last
        look; False before it is time for one."""
        if self._clock() < self._next_s:
            return False
        try:
            return self._look()
        except (OSError, ImportError):
            self._next_s = self._clock() + BLIND_S
            return True

    def _look(self) -> bool:
        is_whole = self._clock() >= self._whole_s
        found = self._read(is_whole=is_whole)
        is_changed = found.heads != self._known.heads
        if is_changed and not is_whole:
            # Or the next look at all of them would find the same change once more.
            found = Fingerprint(found.heads, self._read(is_whole=True).whole)
        if found.whole is None:
            found = Fingerprint(found.heads, self._known.whole)
        is_changed |= found.whole != self._known.whole
        self._known = found
        return is_changed

    def _read(self, *, is_whole: bool) -> Fingerprint:
        if self._tables is None:
            self._tables = self._open_tables()
        began_s = self._cpu_clock()
        found = self._tables.read(is_whole=is_whole)
        cost_s = self._cpu_clock() - began_s
        now_s = self._clock()
        if is_whole:
            self._whole_s = now_s + max(LOOK_S, cost_s / _WHOLE_SHARE)
            self._next_s = now_s + LOOK_S
        else:
            self._next_s = now_s + max(LOOK_S, cost_s / _HEAD_SHARE)
        return found
