"""The work of the board grows with what changes: twice the backends take twice the steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from types import FrameType

import pytest

from paraglider.config.model import Backend, Check, Config, Endpoint, Frontend, OnDown, Quorum
from paraglider.health.health_state import HealthState
from paraglider.health.service import Pair
from tests.unit.config_files import frontend_at
from tests.unit.health_states import PRIVATEIP

CHECK = Check(fall=1)
COUNT = 100
# Twice the work, and a bit for what does not depend on it.
LINEAR = 2.2


def make_frontends(frontends: int, backends: int) -> list[Frontend]:
    """Return so many frontends, each with so many backends of its own."""
    found = []
    for number in range(frontends):
        first = int(IPv4Address("10.0.0.1")) + number * backends
        servers = [Backend(IPv4Address(first + n), 80, check=CHECK) for n in range(backends)]
        port = 1000 + number
        frontend = frontend_at(f"f{number}", Endpoint(PRIVATEIP, port), PRIVATEIP, tuple(servers))
        found.append(replace(frontend, quorum=Quorum(2)))
    return found


def make_board(frontends: Iterable[Frontend]) -> tuple[HealthState, list[Pair]]:
    """Return a board that knows them, and all of their backends."""
    health_state, frontends = HealthState(), tuple(frontends)
    health_state.configure(Config("test", frontends), {}, 0.0)
    return health_state, [pair for pair, _ in health_state.probed()]


def count_steps(work: Callable[[], object]) -> int:
    """Return how many functions, generators and built-ins are entered while `work` runs."""
    steps = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return steps


def go_down(health_state: HealthState, pairs: Iterable[Pair]) -> None:
    """Let a probe of each fail; ask what the agent asks then, and what is served in the end."""
    for pair in pairs:
        change = health_state.note(pair, is_good=False, reason="refused", now_s=1.0)
        assert change is not None
        assert health_state.on_down(change.key) is OnDown.CUT
        assert health_state.name_of(pair)
    health_state.services(1.0)


@pytest.mark.parametrize("shape", [(1, COUNT), (COUNT, 1)], ids=["one frontend", "many"])
def test_backends_that_go_down_together_take_steps_in_proportion(shape: tuple[int, int]) -> None:
    """In one frontend, whose quorum they count for, or in as many frontends."""
    frontends, backends = shape
    small = make_board(make_frontends(frontends, backends))
    large = make_board(make_frontends(*(n * 2 if n > 1 else n for n in shape)))
    assert len(large[1]) == 2 * len(small[1])
    ratio = count_steps(lambda: go_down(*large)) / count_steps(lambda: go_down(*small))
    assert ratio < LINEAR


def test_backends_that_leave_together_take_steps_in_proportion() -> None:
    """Half of them, while the others stay."""

    def leave(backends: int) -> int:
        (frontend,) = make_frontends(1, backends)
        health_state, _ = make_board([frontend])
        rest = Config("test", (replace(frontend, backends=frontend.backends[::2]),))
        return count_steps(lambda: health_state.configure(rest, {}, 1.0))

    assert leave(2 * COUNT) / leave(COUNT) < LINEAR


def test_the_quorum_is_the_one_that_a_count_of_all_finds() -> None:
    """Whatever happened to its members; it is kept by adding up, not counted anew."""
    health_state, pairs = make_board(make_frontends(1, 4))
    for pair in pairs[:3]:
        health_state.note(pair, is_good=False, reason="refused", now_s=1.0)
    (view,) = health_state.views()
    assert not view.is_quorate
    health_state.note(pairs[0], is_good=True, reason="connected", now_s=2.0)
    health_state.note(pairs[0], is_good=True, reason="connected", now_s=2.0)
    assert health_state.views()[0].is_quorate
    health_state.drain(pairs[0], None, 3.0)
    assert not health_state.views()[0].is_quorate
    health_state.undrain(pairs[0], 4.0)
    assert health_state.copy().views()[0].is_quorate
