"""Lengths of time: how they are written, and that nobody has to guess a unit."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraglider.config.address import Refused
from paraglider.config.duration import parse_duration, render_duration

WRITE = "is not a duration; write a number and ms, s, m, h or d, such as 500ms"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1m", 60.0),
        ("1h", 3600.0),
        ("0.01d", 864.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("2.3s", 2.3),
        ("0.5h", 1800.0),
        ("0s", 0.0),
        ("0.000001s", 0.000001),
    ],
)
def test_a_number_and_its_unit_become_seconds(text: str, expected: float) -> None:
    assert expected == parse_duration(text, 0, 3600)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", "'2' has no unit; write 2s (or ms, m, h, d)"),
        ("0", "'0' has no unit; write 0s (or ms, m, h, d)"),
        ("1.5", "'1.5' has no unit; write 1.5s (or ms, m, h, d)"),
        *(
            (text, f"{text!r} {WRITE}")
            for text in (
                "", "s", "soon", "2 s", " 2s", "2S", "2w", "2D", "2sec", "-2s", "+2s", "02s", "2.s",
                ".5s", "1m30s", "1e3s", "2s\n", "0x2s", "1_0s", "1.0000001s",
            )
        ),
        (
            "\uff12s",
            rf"'\uff12s' {WRITE}",
        ),
        ("99ms", "99ms is out of range; allowed is 100ms to 1m"),
        ("0s", "0s is out of range; allowed is 100ms to 1m"),
        ("61s", "61s is out of range; allowed is 100ms to 1m"),
        ("1234567890s", "'1234567890s' is out of range; allowed is 100ms to 1m"),
        ("999999999h", "999999999h is out of range; allowed is 100ms to 1m"),
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_to_write(text: str, expected: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_duration(text, 0.1, 60)
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.01, "10ms"),
        (1.5, "1500ms"),
        (60, "1m"),
        (90, "90s"),
        (7200, "2h"),
        (864e3, "10d"),
    ],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds: float, expected: str) -> None:
    assert expected == render_duration(seconds)


@given(st.integers(0, 3_600_000_000))
def test_what_is_shown_is_read_as_the_same(micros: int) -> None:
    seconds = micros / 1e6
    assert seconds == parse_duration(render_duration(seconds), 0, 3600)


@given(st.integers(0, 9999), st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_duration_is_what_it_says(whole: int, thousandths: int, unit: str) -> None:
    """To the microsecond, whatever floating point makes of its parts."""
    worth = Fraction({"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[unit], 1000)
    exact = (whole + Fraction(thousandths, 1000)) * worth
    assert round(exact * 10**6) / 1e6 == parse_duration(f"{whole}.{thousandths:03}{unit}", 0, 1e9)
