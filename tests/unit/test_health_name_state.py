"""A name's state: which addresses it stands for while answers differ, fail and come back."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from paraglider.config.model import Address
from paraglider.health.name_state import NameState
from paraglider.health.resolver import MAX_ADDRESSES

_A, _B, _C = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))
_HOLD_S = 30.0


def _addresses(first: int, count: int) -> tuple[Address, ...]:
    return tuple(ip_address("10.0.0.0") + first + number for number in range(count))


def test_an_address_that_is_missing_from_an_answer_stays_for_a_while() -> None:
    """From the first answer without it on; then it leaves."""
    state = NameState().answer((_A, _B), 0.0).answer((_A,), 100.0)
    assert state.expire(_HOLD_S, 129.9).addresses == (_A, _B)
    assert state.next_s(_HOLD_S) == 130.0
    gone = state.expire(_HOLD_S, 130.0)
    assert (gone.addresses, gone.next_s(_HOLD_S)) == ((_A,), None)


def test_answers_that_rotate_are_one_set() -> None:
    """Each address is in every other answer."""
    state = NameState()
    for number in range(100):
        found = (_A,) if number % 2 else (_B, _C)
        state = state.answer(found, number * 5.0).expire(_HOLD_S, number * 5.0)
        assert number == 0 or state.addresses == (_A, _B, _C)


def test_without_a_hold_an_address_leaves_at_once() -> None:
    state = NameState().answer((_A, _B), 0.0).answer((_B,), 5.0)
    assert state.expire(0.0, 5.0).addresses == (_B,)


def test_without_an_answer_no_address_leaves() -> None:
    """The time of it does not count afterwards either: no answer could have had the address."""
    state = NameState().answer((_A, _B), 0.0).answer((_A,), 10.0).fail("timed out", 20.0)
    assert state.expire(_HOLD_S, 1000.0).addresses == (_A, _B)
    assert state.next_s(_HOLD_S) is None
    back = state.fail("no such name", 500.0).answer((_A,), 1020.0)
    assert (back.error, back.next_s(_HOLD_S)) == ("", 1040.0)


def test_why_there_is_no_answer_is_the_last_reason_and_since_when_the_first() -> None:
    state = NameState().answer((_A,), 0.0).fail("timed out", 20.0).fail("no such name", 50.0)
    assert (state.error, state.error_since_s) == ("no such name", 20.0)


def test_an_address_that_comes_back_begins_anew() -> None:
    """It was not missing at all then."""
    state = NameState().answer((_A, _B), 0.0).answer((_A,), 10.0).answer((_A, _B), 20.0)
    assert state.next_s(_HOLD_S) is None
    assert state.answer((_A,), 35.0).next_s(_HOLD_S) == 65.0


def test_answers_without_end_do_not_make_backends_without_end() -> None:
    """The answer comes first, and then those that were missed last."""
    state = NameState()
    for number in range(20):
        state = state.answer(_addresses(number * 100, 100), float(number))
        assert len(state.addresses) <= MAX_ADDRESSES
    assert set(_addresses(1800, 200)) <= set(state.addresses)


@given(
    st.lists(st.sets(st.sampled_from([_A, _B, _C]), min_size=1), min_size=1, max_size=20),
    st.integers(0, 8),
)
def test_it_stands_for_what_was_in_an_answer_within_the_hold(
    answers: list[set[Address]], hold: int
) -> None:
    """Answers come every second; an address leaves `hold` seconds after the first one without."""
    state = NameState()
    for now, found in enumerate(answers):
        state = state.answer(tuple(sorted(found, key=int)), float(now)).expire(hold, float(now))
        recent = answers[max(0, now - hold) : now + 1]
        assert set(state.addresses) == set().union(*recent)
