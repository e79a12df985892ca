"""The rules lock."""

from __future__ import annotations

import pytest

from paraglider.errors import UnavailableError
from paraglider.kernel.lock import hold_rules_lock


def test_one_holds_it_at_a_time() -> None:
    """The other waits, and then says how to find who has it."""
    with (
        hold_rules_lock(),
        pytest.raises(UnavailableError, match="lslocks"),
        hold_rules_lock(wait_s=0),
    ):
        raise AssertionError


def test_it_is_free_again_afterwards() -> None:
    """Also when what was done under it failed."""
    with pytest.raises(ValueError, match="failed"), hold_rules_lock():
        raise ValueError("failed")
    with hold_rules_lock(wait_s=0):
        pass
