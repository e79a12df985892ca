"""The work of the board grows with what changes: twice the backends take twice the steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from types import FrameType

import pytest

from paraglider.config.model import Backend, Check, Config, Endpoint, Frontend, OnDown, Quorum
from paraglider.health.board import Board
from paraglider.health.service import Pair
from tests.unit.config_files import frontend_at
from tests.unit.health_boards import PRIVATEIP

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


def make_board(frontends: Iterable[Frontend]) -> tuple[Board, list[Pair]]:
    """Return a board that knows them, and all of their backends."""
    board, frontends = Board(), tuple(frontends)
    board.configure(Config("test", frontends), {}, 0.0)
    return board, [pair for pair, _ in board.probed()]


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


def go_down(board: Board, pairs: Iterable[Pair]) -> None:
    """Let a probe of each fail; ask what the agent asks then, and what is served in the end."""
    for pair in pairs:
        change = board.note(pair, is_good=False, told="refused", now_s=1.0)
        assert change is not None
        assert board.on_down(change.key) is OnDown.CUT
        assert board.name_of(pair)
    board.services(1.0)


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
        board, _ = make_board([frontend])
        rest = Config("test", (replace(frontend, backends=frontend.backends[::2]),))
        return count_steps(lambda: board.configure(rest, {}, 1.0))

    assert leave(2 * COUNT) / leave(COUNT) < LINEAR


def test_the_quorum_is_the_one_that_a_count_of_all_finds() -> None:
    """Whatever happened to its members; it is kept by adding up, not counted anew."""
    board, pairs = make_board(make_frontends(1, 4))
    for pair in pairs[:3]:
        board.note(pair, is_good=False, told="refused", now_s=1.0)
    (view,) = board.views()
    assert not view.is_quorate
    board.note(pairs[0], is_good=True, told="connected", now_s=2.0)
    board.note(pairs[0], is_good=True, told="connected", now_s=2.0)
    assert board.views()[0].is_quorate
    board.drain(pairs[0], None, 3.0)
    assert not board.views()[0].is_quorate
    board.undrain(pairs[0], 4.0)
    assert board.copy().views()[0].is_quorate
