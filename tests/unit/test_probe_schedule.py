"""When targets are probed: by a clock that the test turns, over pairs of sockets."""

from __future__ import annotations

import errno
import itertools
import random
import selectors
from collections.abc import Iterator

import pytest

from paraglider.config.model import Check, CheckKind
from paraglider.health.probe import Target
from paraglider.health.prober import ProbeError, Prober, Result
from tests.unit.probe_sockets import Network, make_target

TALK = Check(send=b"PING", expect=b"+PONG")


class Setup:
    """A prober, its clock and its network."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.selector = selectors.DefaultSelector()
        self.network = Network()
        self.prober = Prober(
            self.selector,
            random=random.Random(7).random,
            clock=lambda: self.now_s,
            open_=self.network.open,
        )

    def set(self, *targets: Target) -> None:
        self.prober.set_targets(targets, self.now_s)

    def run(self, duration_s: float, *, step_s: float = 0.01) -> list[tuple[float, Result]]:
        """Turn the clock; return each result with its time."""
        found = []
        for _ in range(round(duration_s / step_s)):
            self.now_s += step_s
            # Whatever is ready is taken before the clock goes on.
            while results := self.prober.poll(0) + self.prober.poll(0):
                found += [(self.now_s, result) for result in results]
        return found


@pytest.fixture
def setup() -> Iterator[Setup]:
    """Nothing to probe yet."""
    setup = Setup()
    yield setup
    setup.prober.close()
    assert not setup.selector.get_map()
    setup.selector.close()
    setup.network.close()


def test_first_probes_come_soon_and_not_all_at_once(setup: Setup) -> None:
    setup.set(*(make_target(f"b{number}") for number in range(100)))
    found = setup.run(1.0, step_s=0.1)
    assert sorted(result.key for _, result in found) == sorted(f"b{n}" for n in range(100))
    times = [at for at, _ in found]
    assert max(times.count(at) for at in set(times)) < 25


def test_first_probe_of_a_short_interval_comes_within_it(setup: Setup) -> None:
    setup.set(*(make_target(f"b{n}", Check(interval_s=0.2)) for n in range(20)))
    assert {result.key for _, result in setup.run(0.2)} == {f"b{n}" for n in range(20)}


def test_interval_is_kept_within_five_percent(setup: Setup) -> None:
    setup.set(make_target())
    times = [at for at, _ in setup.run(60.0)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(gaps) >= 27
    assert min(gaps) >= 1.89
    assert max(gaps) <= 2.12
    assert max(gaps) - min(gaps) > 0.05


def test_result_tells_what_was_found_and_how_long_it_took(setup: Setup) -> None:
    setup.set(make_target("web", Check(timeout_s=0.5, expect=b"+PONG")))
    (at, result), *_ = setup.run(2.0)
    assert (result.key, result.is_good, result.reason) == (
        "web",
        False,
        "no answer: timed out after 0.5 s",
    )
    assert result.took_s == pytest.approx(0.5, abs=0.02)
    assert at > 100.5


def test_target_that_hangs_delays_no_other(setup: Setup) -> None:
    """And is not probed twice at once, though it hangs for longer than its interval."""
    hanging = Check(interval_s=1.0, timeout_s=5.0, expect=b"+PONG")
    setup.set(make_target("hangs", hanging), *(make_target(f"b{n}") for n in range(3)))
    found = [result.key for _, result in setup.run(21.0)]
    assert found.count("hangs") in (3, 4)
    assert all(found.count(f"b{n}") >= 10 for n in range(3))


def test_unchanged_target_keeps_its_schedule_and_its_probe(setup: Setup) -> None:
    setup.set(make_target("web", TALK))
    while not setup.network.opened:
        setup.run(0.01)
    setup.run(0.1)
    setup.set(make_target("web", TALK), make_target("new"))
    setup.network.servers[0].send(b"+PONG")
    (_, result), *_ = setup.run(0.01)
    assert result.reason == "answered '+PONG'"
    assert result.took_s == pytest.approx(0.12, abs=0.011)


def test_changed_target_is_probed_anew(setup: Setup) -> None:
    setup.set(make_target("web", TALK))
    setup.run(1.0)
    setup.set(make_target("web", Check()))
    assert [result.reason for _, result in setup.run(1.0)] == ["connected"]
    assert setup.network.opened[0].fileno() == -1


def test_target_that_is_gone_is_heard_of_no_more(setup: Setup) -> None:
    setup.set(make_target("web"), make_target("old", TALK))
    setup.run(1.5)
    setup.set(make_target("web"))
    assert {result.key for _, result in setup.run(10.0)} == {"web"}


def test_target_without_a_check_is_not_probed(setup: Setup) -> None:
    setup.set(make_target("web", Check(kind=CheckKind.NONE)))
    assert setup.run(5.0) == []


def test_target_given_twice_is_probed_once(setup: Setup) -> None:
    """The last one counts."""
    setup.set(make_target("web", TALK), make_target("web"))
    setup.set(make_target("web", TALK), make_target("web"))
    assert len(setup.run(19.0)) in (9, 10)


def test_answer_that_is_there_counts_though_we_are_late(setup: Setup) -> None:
    """A process that was held up must not call its backends down."""
    setup.set(make_target("web", TALK))
    while not setup.network.opened:
        setup.run(0.01)
    setup.run(0.01)
    setup.network.servers[0].send(b"+PONG")
    setup.now_s += 30.0
    assert [result.reason for result in setup.prober.poll(0)] == ["answered '+PONG'"]


def test_lost_time_is_not_made_up_for(setup: Setup) -> None:
    setup.set(make_target("web"))
    setup.run(3.0)
    setup.now_s += 3600.0
    assert len(setup.run(4.0)) in (2, 3)


def test_want_of_sockets_is_an_error_of_each_target_and_no_result(
    setup: Setup,
) -> None:
    setup.network.refuses_to_open = OSError(errno.EMFILE, "too many")
    setup.set(make_target("web"), make_target("db"))
    assert setup.run(50.0) == []
    reason = "cannot open a socket: too many open files"
    assert set(setup.prober.take_errors()) == {
        ProbeError("web", reason),
        ProbeError("db", reason),
    }
    assert setup.prober.take_errors() == []
    setup.network.refuses_to_open = None
    assert {result.key for _, result in setup.run(3.0)} == {"web", "db"}


def test_target_that_no_socket_takes_costs_itself_alone(setup: Setup) -> None:
    """Whatever goes wrong with it."""
    bad = Target("bad", "", make_target().address, 80, Check(expect="text"))  # type: ignore[arg-type]
    setup.set(bad, make_target("web"))
    assert {result.key for _, result in setup.run(3.0)} == {"web"}
    errors = setup.prober.take_errors()
    assert {error.key for error in errors} == {"bad"}
    assert errors[0].reason.startswith("error in the prober (AttributeError: ")
    assert errors[0].reason.endswith("): please report it")


def test_poll_calls_what_else_is_on_the_selector(setup: Setup) -> None:
    calls: list[str] = []
    setup.network.open(-1)  # type: ignore[arg-type]
    ours, theirs = setup.network.opened[0], setup.network.servers[0]
    setup.selector.register(ours, selectors.EVENT_READ, lambda: calls.append(ours.recv(9).decode()))
    theirs.send(b"orders")
    setup.prober.poll(10)
    setup.selector.unregister(ours)
    assert calls == ["orders"]
