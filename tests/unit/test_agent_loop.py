"""The loop: signals are answered in their order, and none is lost."""

from __future__ import annotations

import os
import signal

import pytest

from paraglider.agent.loop import MEANINGLESS, Loop


def test_signals_come_in_their_order_from_the_first_wait() -> None:
    """Also those that came before it."""
    loop = Loop()
    with loop.holding_signals():
        signal.raise_signal(signal.SIGHUP)
        assert loop.wait(loop.clock()) == [signal.SIGHUP]
    loop.close()


def test_signals_that_somebody_could_not_answer_come_again() -> None:
    """At the next wait, which does not wait for anything else."""
    loop = Loop()
    with loop.holding_signals():
        signal.raise_signal(signal.SIGTERM)
        loop.keep(loop.wait(loop.clock() + 60))
        assert loop.wait(loop.clock() + 60) == [signal.SIGTERM]
    loop.close()


def test_who_was_let_go_of_is_not_called_any_more() -> None:
    """Though its file was readable when the wait ended."""
    loop = Loop()
    called = []
    pipes = [os.pipe() for _ in range(2)]
    for reading, writing in pipes:
        others = [other for other, _ in pipes if other != reading]

        def call(reading: int = reading, others: list[int] = others) -> None:
            called.append(reading)
            for other in others:
                loop.forget(other)

        loop.watch(reading, call)
        os.write(writing, b"x")
    loop.wait(loop.clock())
    assert len(called) == 1
    loop.close()
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)


def test_signals_without_a_meaning_are_ignored_and_reported_once() -> None:
    """Each that would end the agent; those that it answers still arrive."""
    loop, said = Loop(), list[str]()
    with loop.ignoring_signals(said.append), loop.holding_signals():
        for number in (*MEANINGLESS, *MEANINGLESS, signal.SIGTTIN, signal.SIGTTOU):
            os.kill(os.getpid(), number)
        assert loop.wait(loop.clock()) == []
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.raise_signal(signal.SIGHUP)
        assert loop.wait(loop.clock() + 60) == [signal.SIGHUP]
    loop.close()
    assert len(said) == len(set(said)) == len(MEANINGLESS)
    assert "ignored SIGUSR1, which has no meaning here; not logged again" in said
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.fixture
def readable() -> int:
    """A file that is always readable."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def test_a_file_that_is_always_ready_is_called_once_a_rest(readable: int) -> None:
    """Whatever wakes the loop meanwhile."""
    now_s = [100.0]
    loop, called = Loop(clock=lambda: now_s[0]), list[float]()
    loop.watch(readable, lambda: called.append(now_s[0]), rest_s=0.5)
    for _ in range(16):
        loop.wait(now_s[0])
        now_s[0] += 0.125
    assert called == [100.0, 100.5, 101.0, 101.5]
    loop.close()
    os.close(readable)


def test_a_file_that_rests_can_be_forgotten(readable: int) -> None:
    """It is not called again."""
    now_s = [100.0]
    loop, called = Loop(clock=lambda: now_s[0]), list[float]()
    loop.watch(readable, lambda: called.append(now_s[0]), rest_s=0.5)
    loop.wait(now_s[0])
    loop.forget(readable)
    now_s[0] += 1
    loop.wait(now_s[0])
    assert called == [100.0]
    loop.close()
    os.close(readable)


def test_what_the_kernel_does_not_watch_can_be_forgotten() -> None:
    """epoll refuses a regular file (EPERM); the error is the caller's, and nothing is left."""
    loop = Loop()
    with open(__file__) as file:
        with pytest.raises(PermissionError):
            loop.watch(file.fileno(), lambda: None)
        loop.forget(file.fileno())
        loop.forget(file.fileno())
    loop.close()
