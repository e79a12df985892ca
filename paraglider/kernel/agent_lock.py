"""The agent's lock: one agent for each network namespace.

It tells commands that there is an agent, and which process. Who may write rules is for the rules
lock (lock.py) to say, which the agent holds as well.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from paraglider.errors import LockHeldError
from paraglider.kernel.name_row import HeldName, Holder, NameRow
from paraglider.kernel.unix_peer import connect_within

_ROW = NameRow("paraglider/agent")
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """Who holds the lock: `pid` is None where its process cannot be seen from here, `uid` where
    nothing can be told of it."""

    holder: Holder

    @property
    def pid(self) -> int | None:
        return None if self.holder.peer is None else self.holder.peer.pid

    @property
    def uid(self) -> int | None:
        return None if self.holder.peer is None else self.holder.peer.uid

    @property
    def is_known(self) -> bool:
        """Whether it is known to be a process of ours."""
        return self.holder.peer is not None

    def __str__(self) -> str:
        return str(self.holder) if self.holder.peer is None else f"an agent {self.holder}"

    def is_responsive(self, wait_s: float) -> bool:
        """Return whether its loop runs: it closes the connection of who asks for the holder."""
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking,
        ):
            connect_within(asking, f"\0{self.holder.name}", wait_s)
            asking.settimeout(wait_s)
            return not asking.recv(1)
        return False


@contextmanager
def hold_agent_lock(*, report: Callable[[str], None]) -> Iterator[HeldName]:
    """Hold the lock inside the `with`; LockHeldError, which says who has it, where another does."""
    with _ROW.hold(wait_s=0.0, report=report, refuse=_refuse) as held:
        yield held


def _refuse(holder: Holder) -> Exception | None:
    if holder.peer is None:
        return None
    return LockHeldError(
        f"{AgentProcess(holder)} already manages the rules of this host, and only one agent may: "
        "stop it first ('paraglider stop', or stop its container)"
    )


def find_agent(*, wait_s: float = 0.0) -> AgentProcess | None:
    """Return the agent of this network namespace, None where there is none; look again for `wait_s`
    where a flood of connections hides who holds the lock."""
    until_s = time.monotonic() + wait_s
    while True:
        holder = _ROW.find()
        if holder is None:
            return None
        agent = AgentProcess(holder)
        if agent.is_known or time.monotonic() >= until_s:
            return agent
        time.sleep(_POLL_S)
