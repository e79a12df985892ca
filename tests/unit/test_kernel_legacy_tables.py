"""What tells that a table of iptables-legacy is another, and how often somebody looks."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from paraglider.kernel.legacy_tables import (
    BLIND_S,
    HEAD_BYTES,
    LOOK_S,
    Fingerprint,
    LegacyWatch,
    sum_entries,
)

START, NEXT_AT, COUNTERS_AT = 40, 90, 96  # of struct ipt_get_entries and struct ipt_entry


def entry(rule: bytes = b"", counters: tuple[int, int] = (0, 0)) -> bytes:
    """Return a rule as the kernel has it: `rule` is its matches and its target."""
    head = bytes(NEXT_AT) + struct.pack("=HI", 112 + len(rule), 0)
    return head + struct.pack("=QQ", *counters) + rule


def sums(entries: Sequence[bytes]) -> tuple[int, int]:
    """Return the checksums of the head and of all."""
    data = bytearray(START) + b"".join(entries)
    return sum_entries(data, START, len(data), next_at=NEXT_AT, counters_at=COUNTERS_AT)


def test_packets_change_nothing() -> None:
    """Their counters are not part of what is compared."""
    assert sums([entry(b"a"), entry(b"b", (7, 420))]) == sums([entry(b"a", (1, 60)), entry(b"b")])


@pytest.mark.parametrize(
    "other",
    [[b"b", b"a"], [b"a", b"c"], [b"a"], [b"a", b"b", b"b"]],
    ids=["moved", "another", "one less", "one more"],
)
def test_another_rule_is_another_content(other: list[bytes]) -> None:
    """Of the same size as well."""
    assert sums([entry(b"a"), entry(b"b")]) != sums([entry(rule) for rule in other])


def test_a_change_far_down_is_not_in_the_head() -> None:
    """It is in the checksum of all."""
    rules = [entry(bytes(400))] * (HEAD_BYTES // 400)
    one, other = sums([*rules, entry(b"a")]), sums([*rules, entry(b"b")])
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_the_head_is_the_same_whether_or_not_the_rest_was_read() -> None:
    """What was written in part, and what was not, is left out of it."""
    rules = [entry(bytes([index % 7]) * 400) for index in range(HEAD_BYTES // 400)]
    data = bytearray(START) + b"".join(rules)
    whole = sum_entries(data, START, len(data), next_at=NEXT_AT, counters_at=COUNTERS_AT)
    data[HEAD_BYTES:] = bytes(len(data) - HEAD_BYTES)
    head = sum_entries(data, START, HEAD_BYTES, next_at=NEXT_AT, counters_at=COUNTERS_AT)
    assert head == (whole[0], whole[0])


class FakeTables:
    """Tables of which a look takes as long as the test says."""

    def __init__(self) -> None:
        self.now_s = self.cpu_s = 0.0
        self.cost_s = {False: 0.0, True: 0.0}
        self.head, self.rest = "head", "rest"
        self.reads = list[bool]()
        self.error: Exception | None = None

    def read(self, *, is_whole: bool) -> Fingerprint:
        """Take so long and return what there is."""
        if self.error is not None:
            raise self.error
        self.reads.append(is_whole)
        self.cpu_s += self.cost_s[is_whole]
        return Fingerprint((self.head,), (self.head, self.rest) if is_whole else None)

    def watch(self) -> LegacyWatch:
        """Return a watch that has looked once."""
        watch = LegacyWatch(lambda: self, clock=lambda: self.now_s, cpu_clock=lambda: self.cpu_s)
        assert watch.look()
        return watch

    def look_next(self, watch: LegacyWatch) -> bool:
        """Look when it is time to."""
        assert watch.next_s() > self.now_s
        self.now_s = watch.next_s()
        return watch.look()


@pytest.fixture
def tables() -> FakeTables:
    """Tables that cost nothing to look at."""
    return FakeTables()


def test_it_looks_at_everything_while_that_costs_little(tables: FakeTables) -> None:
    """Twice a second, and not in between."""
    watch = tables.watch()
    assert not tables.look_next(watch)
    assert not watch.look()
    assert (tables.reads, tables.now_s) == ([True, True], LOOK_S)


@pytest.mark.parametrize("part", ["head", "rest"])
def test_a_change_is_told_once(tables: FakeTables, part: str) -> None:
    """At the next look, wherever it is."""
    watch = tables.watch()
    setattr(tables, part, "other")
    assert tables.look_next(watch)
    assert not tables.look_next(watch)


def test_large_tables_are_looked_at_whole_less_often(tables: FakeTables) -> None:
    """The head as often as ever; 20 ms for all are allowed every 20 s."""
    tables.cost_s[True] = 0.020
    watch = tables.watch()
    while len(tables.reads) < 2 or not tables.reads[-1]:
        tables.look_next(watch)
    assert tables.now_s == 20.0
    assert tables.reads == [True, *[False] * 39, True]


def test_a_change_of_a_large_table_is_told_once(tables: FakeTables) -> None:
    """What the head showed is not found again when all is looked at."""
    tables.cost_s[True] = 0.020
    watch = tables.watch()
    tables.head = "other"
    assert tables.look_next(watch)
    while tables.now_s < 20:
        assert not tables.look_next(watch)


def test_a_look_at_a_huge_table_is_rarer(tables: FakeTables) -> None:
    """3 ms for the head are allowed every 2 s."""
    tables.cost_s = {False: 0.003, True: 1.0}
    watch = tables.watch()
    tables.look_next(watch)
    assert watch.next_s() - tables.now_s == pytest.approx(2.0)


@pytest.mark.parametrize("error", [PermissionError(), ImportError()])
def test_where_nobody_can_look_it_says_yes_every_few_seconds(
    tables: FakeTables, error: Exception
) -> None:
    """And goes on as before when the kernel answers again."""
    watch = tables.watch()
    tables.error = error
    assert tables.look_next(watch)
    assert watch.next_s() - tables.now_s == BLIND_S
    assert tables.look_next(watch)
    tables.error = None
    assert not tables.look_next(watch)
