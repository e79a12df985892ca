"""Orders: what a command answers when the order is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import cast

import pytest

from paraglider.agent.agent import Agent
from paraglider.agent.orders import Orders
from paraglider.agent.protocol import Answer, Request
from paraglider.agent.status import Status
from paraglider.config.model import Endpoint
from paraglider.errors import UnavailableError
from paraglider.health.service import Pair
from tests.services import bind_at

_BACKEND = Endpoint(ip_address("10.0.0.11"), 80)
_PAIR = bind_at(Endpoint(ip_address("192.0.2.10"), 80)), _BACKEND


@dataclass
class _Agent:
    """An agent that does what is ordered; `lack` is why it cannot count connections."""

    lack: Exception | None = None
    done: list[tuple[str, float | None]] = field(default_factory=list)

    def find(self, _text: str, _frontend: str) -> Sequence[Pair]:
        return [_PAIR]

    def order(self, command: str, _pairs: Sequence[Pair], *, deadline_s: float | None) -> None:
        self.done.append((command, deadline_s))

    def count(self, _pairs: Collection[Pair]) -> Mapping[Pair, int]:
        if self.lack is not None:
            raise self.lack
        return {_PAIR: 12}

    def name_of(self, _pair: Pair) -> str:
        return "web"


def _answer(agent: _Agent, command: str, deadline_s: float | None = None) -> Answer:
    orders = Orders(cast("Agent", agent), view=_no_status, reload=lambda why: why)
    return orders.answer(Request(command=command, backend=str(_BACKEND), deadline_s=deadline_s))


def _no_status() -> Status:
    raise AssertionError("nobody asked for the status")


def test_an_order_says_how_many_connections_run_on() -> None:
    """And for how long at most."""
    agent = _Agent()
    said = "web: 10.0.0.11:80 is draining; 12 connections left, cut in 2.5 s"
    assert _answer(agent, "drain", 2.5) == Answer(0, said)
    assert agent.done == [("drain", 2.5)]


@pytest.mark.parametrize("lack", [UnavailableError("it changed"), OSError(24, "no files")])
def test_an_order_is_done_though_its_connections_cannot_be_counted(lack: Exception) -> None:
    """It answers success, and why there is no number."""
    agent = _Agent(lack)
    answer = _answer(agent, "disable")
    assert answer.exit_code == 0
    first, second = answer.text.split("\n")
    assert first == "web: 10.0.0.11:80 is disabled; its connections continue"
    assert second.startswith("the connections could not be counted: ")
    assert agent.done == [("disable", None)]


def test_an_order_that_brings_back_counts_nothing() -> None:
    """Nobody asked how many there are, so nothing can fail."""
    answer = _answer(_Agent(UnavailableError("it changed")), "enable")
    assert answer == Answer(0, "web: 10.0.0.11:80 enabled; its checks decide its health")
