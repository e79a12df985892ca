"""Host names: when they are looked up, and which answers are news."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import pytest

from paraglider.config.model import Family
from paraglider.health.resolver import MAX_ADDRESSES, Name, Resolved, Resolver, judge_answer

WEB: Name = ("web", Family.IPV4)
DB: Name = ("db", Family.IPV6)


class Setup:
    """A resolver whose threads run when the test says so."""

    def __init__(self) -> None:
        self.answers: dict[Name, Sequence[str] | Exception] = {WEB: ["10.0.0.1"], DB: ["fd00::1"]}
        self.waiting: list[Callable[[], None]] = []
        self.asked: list[Name] = []
        self.wakes = 0
        self.has_threads = True
        self.resolver = Resolver(wake=self.wake, look_up=self.look_up, start=self.start)

    def wake(self) -> None:
        self.wakes += 1

    def start(self, run: Callable[[], None]) -> None:
        if not self.has_threads:
            raise RuntimeError("can't start new thread")
        self.waiting.append(run)

    def look_up(self, name: Name) -> Sequence[str]:
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, now: float) -> list[Resolved]:
        """Begin what is due, let all threads end, and collect."""
        found = self.resolver.poll(now)
        while self.waiting:
            self.waiting.pop(0)()
        return found + self.resolver.poll(now)


@pytest.fixture
def setup() -> Setup:
    """No names yet."""
    return Setup()


def test_first_lookup_is_at_once_and_told(setup: Setup) -> None:
    setup.resolver.set_names({WEB: 5.0, DB: 5.0}, 100.0)
    assert setup.answer(100.0) == [
        Resolved("web", Family.IPV4, (ip_address("10.0.0.1"),)),
        Resolved("db", Family.IPV6, (ip_address("fd00::1"),)),
    ]
    assert setup.wakes == 2


def test_same_answer_is_no_news_in_whatever_order(setup: Setup) -> None:
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    setup.answers[WEB] = ["10.0.0.1", "10.0.0.2"]
    setup.answer(100.0)
    setup.answers[WEB] = ["10.0.0.2", "10.0.0.1", "10.0.0.1"]
    assert setup.answer(105.0) == []
    assert len(setup.asked) == 2


def test_another_answer_is_news(setup: Setup) -> None:
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    setup.answer(100.0)
    setup.answers[WEB] = ["10.0.0.2"]
    assert setup.answer(104.9) == []
    assert setup.resolver.due_s == 105.0
    assert setup.answer(105.0) == [Resolved("web", Family.IPV4, (ip_address("10.0.0.2"),))]


def test_failure_is_news_once_and_tried_again(setup: Setup) -> None:
    setup.answers[WEB] = socket.gaierror(-2, "Name or service not known")
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    failed = Resolved("web", Family.IPV4, None, "name or service not known")
    assert setup.answer(100.0) == [failed]
    assert setup.answer(105.0) == []
    setup.answers[WEB] = ["10.0.0.1"]
    assert setup.answer(110.0) == [Resolved("web", Family.IPV4, (ip_address("10.0.0.1"),))]


def test_another_reason_for_no_answer_is_news(setup: Setup) -> None:
    """The status has the last one."""
    setup.answers[WEB] = socket.gaierror(-2, "Name or service not known")
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    setup.answer(100.0)
    setup.answers[WEB] = socket.gaierror(-3, "Temporary failure in name resolution")
    failed = Resolved("web", Family.IPV4, None, "temporary failure in name resolution")
    assert setup.answer(105.0) == [failed]


def test_slow_lookup_holds_nobody_up_and_is_not_asked_twice(setup: Setup) -> None:
    setup.resolver.set_names({WEB: 5.0, DB: 5.0}, 100.0)
    assert setup.resolver.poll(100.0) == []
    slow = setup.waiting.pop(0)
    setup.waiting.pop(0)()
    assert [it.name for it in setup.resolver.poll(100.0)] == ["db"]
    for now in (105.0, 110.0, 115.0):
        setup.answer(now)
    assert setup.asked == [DB] * 4
    slow()
    assert [it.name for it in setup.resolver.poll(116.0)] == ["web"]


def test_name_that_is_gone_is_told_no_more(setup: Setup) -> None:
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    setup.resolver.poll(100.0)
    setup.resolver.set_names({}, 101.0)
    assert setup.answer(101.0) == []
    assert setup.resolver.due_s == float("inf")


def test_name_that_stays_keeps_its_schedule_unless_it_is_to_come_sooner(
    setup: Setup,
) -> None:
    setup.resolver.set_names({WEB: 60.0}, 100.0)
    setup.answer(100.0)
    setup.resolver.set_names({WEB: 60.0}, 110.0)
    assert setup.resolver.due_s == 160.0
    setup.resolver.set_names({WEB: 5.0}, 110.0)
    assert setup.resolver.due_s == 115.0


def test_want_of_threads_is_a_failed_lookup(setup: Setup) -> None:
    setup.has_threads = False
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    reason = [it.reason for it in setup.answer(100.0)]
    assert reason == ["can't start new thread"]
    setup.has_threads = True
    assert [it.reason for it in setup.answer(105.0)] == [""]


def test_name_that_cannot_be_asked_for_is_a_failed_lookup(setup: Setup) -> None:
    setup.answers[WEB] = UnicodeError("label too long")
    setup.resolver.set_names({WEB: 5.0}, 100.0)
    assert [it.reason for it in setup.answer(100.0)] == ["label too long"]


@pytest.mark.parametrize(
    ("name", "answer", "kept", "reason"),
    [
        (WEB, ["127.0.0.1", "10.0.0.2"], ["10.0.0.2"], "127.0.0.1 is a loopback address"),
        (
            WEB,
            ["169.254.169.254"],
            [],
            "169.254.169.254 is the metadata service of cloud hosts",
        ),
        (WEB, ["0.0.0.0", "10.0.0.2"], ["10.0.0.2"], "0.0.0.0 is not an address of a server"),
        (WEB, ["224.0.0.1"], [], "224.0.0.1 is a multicast address"),
        (DB, ["fe80::1%eth0"], [], "'fe80::1%eth0' names an interface after '%'"),
        (DB, ["fe80::1", "fd00::2"], ["fd00::2"], "fe80::1 is link-local"),
        (DB, ["::1"], [], "::1 is a loopback address"),
    ],
)
def test_address_that_no_backend_can_have_is_left_out(
    name: Name, answer: list[str], kept: list[str], reason: str
) -> None:
    resolved = judge_answer(name, answer)
    assert resolved.addresses == tuple(ip_address(text) for text in kept)
    assert resolved.reason == f"left out: {reason}"


def test_addresses_come_in_ascending_order_and_not_without_end() -> None:
    answer = [f"10.0.{n >> 8}.{n & 255}" for n in reversed(range(1000))]
    resolved = judge_answer(WEB, answer)
    assert resolved.addresses is not None
    assert len(resolved.addresses) == MAX_ADDRESSES
    assert resolved.addresses[0] == ip_address("10.0.0.0")
    assert resolved.reason == "1000 addresses, of which the first 256 are used"
