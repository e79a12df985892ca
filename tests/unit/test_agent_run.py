"""The agent: what it does at each signal."""

from __future__ import annotations

import signal

import pytest

from paraglider.agent.run import run_agent
from paraglider.errors import ConfigError, Problem, UnavailableError


class _Calls:
    """Records what the agent calls, and sends this process its next signal at each start."""

    def __init__(self, *signals: signal.Signals, error: Exception | None = None) -> None:
        self.signals = list(signals)
        self.error = error
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")
        self.send()
        if self.error and len(self.done) > 1:
            raise self.error

    def send(self) -> None:
        signal.raise_signal(self.signals.pop(0))

    def look(self) -> None:
        self.done.append("look")
        self.send()

    def stop(self) -> None:
        self.done.append("stop")

    def report(self, text: str) -> None:
        self.done.append(text.split(":", maxsplit=1)[0])


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_rules_go_when_it_is_told_to_end(ending: signal.Signals) -> None:
    """Also when the signal came before the rules were in place."""
    calls = _Calls(ending)
    run_agent(start=calls.start, look=calls.look, stop=calls.stop, report=calls.report)
    assert calls.done == ["start", ending.name, "stop"]


def test_a_hangup_reads_the_configuration_again() -> None:
    """Applied again, and nothing taken away in between."""
    calls = _Calls(signal.SIGHUP, signal.SIGTERM)
    run_agent(start=calls.start, look=calls.look, stop=calls.stop, report=calls.report)
    assert calls.done == ["start", "SIGHUP", "start", "SIGTERM", "stop"]


@pytest.mark.parametrize(
    "error", [ConfigError([Problem("f", 1, 1, "", "wrong")]), UnavailableError("lock held")]
)
def test_a_reload_that_fails_changes_nothing(error: Exception) -> None:
    """It says so, and goes on with what was in force."""
    calls = _Calls(signal.SIGHUP, signal.SIGTERM, error=error)
    run_agent(start=calls.start, look=calls.look, stop=calls.stop, report=calls.report)
    told = "nothing was changed, the rules in force stay"
    assert calls.done == ["start", "SIGHUP", "start", told, "SIGTERM", "stop"]


def test_it_looks_when_nobody_tells_it_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on listening for signals."""
    monkeypatch.setattr("paraglider.agent.run.LOOK_S", 0.01)
    calls = _Calls(signal.SIGTERM)
    run_agent(start=nothing, look=calls.look, stop=calls.stop, report=calls.report)
    assert calls.done == ["look", "SIGTERM", "stop"]


def nothing() -> None:
    """Do nothing."""


def test_a_first_start_that_fails_is_an_error() -> None:
    """Whoever runs it learns why."""

    def start() -> None:
        raise UnavailableError("no kernel")

    with pytest.raises(UnavailableError, match="no kernel"):
        run_agent(start=start, look=nothing, stop=nothing, report=lambda _: None)


def test_signals_are_as_before_afterwards() -> None:
    """The caller's own signal mask is put back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    calls = _Calls(signal.SIGTERM)
    run_agent(start=calls.start, look=calls.look, stop=calls.stop, report=calls.report)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
