"""A row of names, of which one process at a time holds one: the lock of a network namespace.

The names are abstract unix sockets. The kernel keeps them apart by network namespace and frees them
with the last process that has the socket open: a container on the host's network and the host share
them, no file is left over, and nothing has to be writable.

Anybody can bind such a name. So a holder counts only if the kernel says that it is a process of
ours (`Peer.may_keep_rules`), and names that others took are passed over: there are several. Nobody
without rights can therefore keep a process of ours from its work.

Two holders at once are impossible, because each process listens at its name before it looks at the
others, and holds the row only if it then sees no other process of ours. Of two that listen, the one
that looks later sees the other. A name that is bound but has no listener yet is nobody's: its
process has not looked.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from paraglider.errors import UnavailableError
from paraglider.kernel.unix_peer import Peer, connect_within, find_keeper, read_peer

Report = Callable[[str], None]

# Connections of those who asked for the holder, which it has not accepted yet.
_BACKLOG = 4096
# How many of them a holder closes at once; the rest wait for the next time.
_SEEN_OFF_AT_ONCE = 32
# For a place in that queue. Where it stays full, the holder is unknown; for so long it counts.
_CONNECT_WAIT_S = 0.1
_FULL_WAIT_S = 2.0
# For a program that a process of ours has started, which holds the name after it. What a user other
# than root left behind counts for so long: anybody may be that user in a container.
_ORPHAN_WAIT_S = 2.0
# For two of ours that gave back their names because of each other, until one is first.
_CONTEST_S = 1.0
_POLL_S = 0.02
# For another process of ours between bind and listen.
_LISTEN_WAIT_S = 0.001
_LISTEN_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens at `name`; `peer` is None where its queue is full and /proc does not show it."""

    name: str
    peer: Peer | None

    def __str__(self) -> str:
        if self.peer is None:
            return f"an unknown process (too many connections wait at @{self.name})"
        return str(self.peer)


class HeldName:
    """A name that this process holds; `fileno` is readable when somebody asked who does, and -1
    where every name was a stranger's."""

    def __init__(self, listening: socket.socket | None) -> None:
        self._socket = listening

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def see_off(self) -> None:
        """Close connections of those who asked; the kernel has told them. To be called again while
        `fileno` is readable, not at once: a flood of them must not cost a core."""
        for _ in range(_SEEN_OFF_AT_ONCE):
            try:
                if self._socket is not None:
                    self._socket.accept()[0].close()
            except OSError:
                return

    def close(self) -> None:
        """Give the name back, unless a program that was started meanwhile has it open as well."""
        if self._socket is not None:
            self._socket.close()


class NameRow:
    """The names `first`, `first`/1 and so on.

    With `is_inherited`, programs that a holder starts hold the row too, for as long as they run.
    Without it, the row is free when its process has ended.
    """

    def __init__(self, first: str, count: int = 8, *, is_inherited: bool = False) -> None:
        self._is_inherited = is_inherited
        self.names = (first, *(f"{first}/{number}" for number in range(1, count)))

    def find(self) -> Holder | None:
        """Return the process of ours that holds the row, else one that is unknown, else None."""
        unknown = None
        for name in self.names:
            holder = read_holder(name)
            if holder is None:
                continue
            if holder.peer is None:
                unknown = unknown or holder
            elif holder.peer.may_keep_rules() and (self._is_inherited or not holder.peer.is_ended):
                return holder
        return unknown

    @contextmanager
    def hold(
        self,
        *,
        wait_s: float,
        report: Report,
        refuse: Callable[[Holder], Exception | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[HeldName]:
        """Hold the row inside the `with`.

        Waits `wait_s` for another process of ours; then raises what `refuse` returns, or goes on
        without the row where that is None.
        """
        orphan_wait_s = _ORPHAN_WAIT_S if self._is_inherited else None
        held = _Taking(self.names, report, clock, orphan_wait_s).take(wait_s, refuse)
        if self._is_inherited and held.fileno() >= 0:
            os.set_inheritable(held.fileno(), True)
        try:
            yield held
        finally:
            held.close()


class _InTheWay(Exception):
    """`is_contest`: it may be about to give its name back, as this process does."""

    def __init__(self, holder: Holder, *, is_contest: bool) -> None:
        super().__init__(str(holder))
        self.holder = holder
        self.is_contest = is_contest


class _Taking:
    """One process's way to a name of the row. `orphan_wait_s` is None where a name whose process
    has ended is free."""

    def __init__(
        self,
        names: Sequence[str],
        report: Report,
        clock: Callable[[], float],
        orphan_wait_s: float | None,
    ) -> None:
        self._orphan_wait_s = orphan_wait_s
        self._names = names
        self._report = report
        self._clock = clock
        self._began_s = clock()
        self._ignored: set[str] = set()

    def take(self, wait_s: float, refuse: Callable[[Holder], Exception | None]) -> HeldName:
        while True:
            try:
                return self._try()
            except _InTheWay as found:
                patience_s = max(wait_s, _CONTEST_S) if found.is_contest else wait_s
                if found.holder.peer is None:  # passed over before that
                    patience_s = max(patience_s, 2 * _FULL_WAIT_S)
                if self._clock() - self._began_s > patience_s:
                    error = refuse(found.holder)
                    if error is not None:
                        raise error from None
                    return HeldName(None)
            # Not all at the same moment: two that meet again and again would both give back.
            time.sleep(_POLL_S * (1 + os.urandom(1)[0] / 256))

    def _try(self) -> HeldName:
        own = None
        for name in self._names:
            own = _listen(name)
            if own is not None:
                own_name = name
                break
            self._pass_over(name, is_contest=False)
        if own is None:
            self._report(
                f"all names from @{self._names[0]} to @{self._names[-1]} are taken by processes "
                "that may not keep rules: going on without this lock; end those processes"
            )
            return HeldName(None)
        try:
            for name in self._names:
                if name != own_name:
                    self._pass_over(name, is_contest=True)
        except BaseException:
            own.close()
            raise
        return HeldName(own)

    def _pass_over(self, name: str, *, is_contest: bool) -> None:
        """Return where nobody who counts holds `name`; raise _InTheWay else."""
        holder = read_holder(name)
        for _ in range(0 if is_contest else _LISTEN_LOOKS):
            if holder is not None:
                break
            time.sleep(_LISTEN_WAIT_S)
            holder = read_holder(name)
        if holder is None:
            return
        if holder.peer is not None and self._is_ours(holder.peer):
            raise _InTheWay(holder, is_contest=is_contest)
        if holder.peer is None and self._clock() - self._began_s <= _FULL_WAIT_S:
            raise _InTheWay(holder, is_contest=is_contest)
        if name not in self._ignored:
            self._ignored.add(name)
            self._report(
                f"ignored the process that holds @{name}: {holder}" + _why_ignored(holder.peer)
            )

    def _is_ours(self, peer: Peer) -> bool:
        """Return whether a holder counts. Root's orphan counts as long as it runs: a killed start
        leaves an iptables-restore that writes."""
        if not peer.may_keep_rules() or not peer.is_ended:
            return peer.may_keep_rules()
        if self._orphan_wait_s is None:
            return False
        return peer.uid == 0 or self._clock() - self._began_s <= self._orphan_wait_s


def _why_ignored(peer: Peer | None) -> str:
    if peer is None:
        return ""
    if peer.may_keep_rules():
        return ": end that child if it is not of a paraglider that was killed"
    return ", which may not keep rules"


def read_holder(name: str) -> Holder | None:
    """Return who listens at a name, None where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            connect_within(asking, f"\0{name}", _CONNECT_WAIT_S)
        except BlockingIOError:
            return Holder(name, find_keeper(name))
        except OSError:  # nobody, or a socket of another type, which is none of ours
            return None
        peer = read_peer(asking)
    if peer is not None and peer.is_ended:
        keeper = find_keeper(name)
        peer = replace(peer, has_net_admin=keeper is None or keeper.has_net_admin)
    return Holder(name, peer)


def _listen(name: str) -> socket.socket | None:
    """Return a socket that listens at a name; None where another has it."""
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    listening = socket.socket(socket.AF_UNIX, kind)
    try:
        listening.bind(f"\0{name}")
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise UnavailableError(
            f"cannot bind the unix socket @{name}, which keeps a second paraglider away: "
            f"{error.strerror}"
        ) from error
    return listening
