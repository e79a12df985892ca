"""Decisions: logged as plans when they were tried in vain, as facts once the rules hold them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

import pytest

from paraglider.agent.decision import Decisions
from paraglider.config.model import Endpoint
from paraglider.health.health_state import Change
from paraglider.health.service import Health
from tests.services import bind_at
from tests.unit.test_health_steps import LINEAR, count_steps

_BIND = bind_at(Endpoint(ip_address("192.0.2.10"), 80))


def _down(number: int) -> Change:
    backend = Endpoint(ip_address(int(ip_address("10.0.0.0")) + number), 80)
    return Change((_BIND, backend), "web", Health.UP, Health.DOWN, "refused")


def test_a_change_is_a_fact_once_the_rules_hold_it() -> None:
    """Not before; what was decided later stays open."""
    said: list[str] = []
    decisions = Decisions(said.append)
    decisions.add(_down(1), 1)
    decisions.add(_down(2), 2)
    decisions.settle(1)
    assert said == ["web: 10.0.0.1:80 is down: refused"]
    assert decisions.promised(1) == ["web: 10.0.0.2:80 will be taken out of service (refused)"]


def test_what_was_tried_in_vain_is_told_once() -> None:
    """And again as a fact."""
    said: list[str] = []
    decisions = Decisions(said.append)
    decisions.add(_down(1), 1)
    for _ in range(3):
        decisions.promise("no room")
    assert said == [
        "web: 10.0.0.1:80 will be taken out of service (refused); not done yet: no room"
    ]
    decisions.settle(1)
    assert said[1:] == ["web: 10.0.0.1:80 is down: refused"]


def _settle(decisions: Decisions) -> None:
    decisions.settle(1)


def _promise(decisions: Decisions) -> None:
    decisions.promise("no room")


@pytest.mark.parametrize("action", [_settle, _promise])
def test_twice_the_decisions_take_twice_the_steps(action: Callable[[Decisions], None]) -> None:
    """Of a whole network that fails, all backends go down together."""
    steps = []
    for size in (500, 1000):
        decisions = Decisions(lambda _: None)
        for number in range(size):
            decisions.add(_down(number), 1)
        steps.append(count_steps(partial(action, decisions)))
    assert steps[1] <= LINEAR * steps[0]
