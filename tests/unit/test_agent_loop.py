"""The loop: signals are answered in their order, and none is lost."""

from __future__ import annotations

import os
import signal

from paraglider.agent.loop import Loop


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
