"""A row of names: one process of ours holds it at a time (tests/netns has other users)."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager

import pytest

from image.agent_user import USER_ID
from paraglider.errors import LockHeldError
from paraglider.kernel import name_row
from paraglider.kernel.name_row import HeldName, Holder, NameRow
from paraglider.kernel.unix_peer import AGENT_UID

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only a process with NET_ADMIN can hold names"
)


def refuse(holder: Holder) -> LockHeldError:
    """What a second holder gets."""
    return LockHeldError(f"{holder.name} is held {holder}")


@pytest.fixture
def row() -> NameRow:
    """A row of this test alone."""
    return NameRow(f"paraglider-test/{os.getpid()}")


def hold(row: NameRow, said: list[str] | None = None) -> AbstractContextManager[HeldName]:
    """Hold the row without waiting; note reports in `said`."""
    report = (said if said is not None else []).append
    return row.hold(wait_s=0, report=report, refuse=refuse)


def test_one_holds_it_at_a_time(row: NameRow) -> None:
    """The other waits, and then learns who has it."""
    with hold(row), pytest.raises(LockHeldError, match=f"process {os.getpid()}"), hold(row):
        raise AssertionError


def test_it_is_free_again_afterwards(row: NameRow) -> None:
    """Also when what was done under it failed."""
    with pytest.raises(ValueError, match="failed"), hold(row):
        raise ValueError("failed")
    with hold(row):
        pass


def test_the_holder_is_found_at_whichever_name(row: NameRow) -> None:
    """Not at the first alone: that may have been a stranger's before."""
    assert row.find() is None
    with NameRow(row.names[3], 1).hold(wait_s=0, report=print, refuse=refuse):
        found = row.find()
        assert found is not None
        assert found.name == row.names[3]


def test_two_at_once_are_impossible_at_different_names(row: NameRow) -> None:
    """Who takes a free name before that of the holder sees the holder, and gives it back."""
    with (
        NameRow(row.names[3], 1).hold(wait_s=0, report=print, refuse=refuse),
        pytest.raises(LockHeldError, match=row.names[3]),
        hold(row),
    ):
        raise AssertionError
    with hold(row):
        pass


def test_a_name_without_a_listener_is_passed_over(row: NameRow) -> None:
    """Its process holds nothing: it has not looked at the others."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(f"\0{row.names[0]}")
        with hold(row):
            found = row.find()
            assert found is not None
            assert found.name == row.names[1]


def test_a_full_queue_counts_for_a_short_time(
    row: NameRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its process is not visible; then it is reported and passed over."""
    monkeypatch.setattr(name_row, "find_keeper", lambda _: None)
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as full:
        full.bind(f"\0{row.names[0]}")
        full.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(f"\0{row.names[0]}")
            with hold(row, said) as held:
                assert held.fileno() >= 0
    assert len(said) == 1
    assert said[0].startswith(f"ignored the process that holds @{row.names[0]}: an unknown process")


def test_the_agents_user_is_that_of_the_image() -> None:
    """Process 1 imports nothing of the program: the number is in two places."""
    assert AGENT_UID == USER_ID
