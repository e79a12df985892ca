"""The admin socket: who may ask."""

from __future__ import annotations

import pytest

from paraglider.agent.admin import is_welcome


@pytest.mark.parametrize(
    ("peer_uid", "own_uid", "expected"),
    [(0, 65532, True), (1000, 65532, True), (65532, 65532, False), (0, 0, True), (1000, 0, True)],
)
def test_root_and_the_group_may_ask_and_the_prober_may_not(
    peer_uid: int, own_uid: int, expected: bool
) -> None:
    """In the container the prober has the agent's own user; the mode keeps out all others."""
    assert is_welcome(peer_uid, own_uid) is expected
