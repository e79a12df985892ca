"""What a run that was killed left behind is removed by the next, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.compose.engine import Engine, docker
from tests.compose.runs import PROJECT, clear_what_others_left, name_of_run

# The process lives, and began at another time.
KILLED = f"paraglider-test-{os.getpid()}-0"


@pytest.fixture
def killed() -> Iterator[Engine]:
    """The engine of a run that is over."""
    engine = Engine(KILLED)
    yield engine
    engine.clean_up()


def names() -> str:
    """Return the networks that there are, and the runs of the containers."""
    labels = docker("ps", "--all", "--format", '{{.Label "paraglider.test"}}')
    return labels + docker("network", "ls", "--format", "{{.Name}}")


def test_only_what_runs_left_that_are_over_is_removed(engine: Engine, killed: Engine) -> None:
    """Containers and networks; those of this run stay, though its process has the same id."""
    for one in (engine, killed):
        network = f"{one.name}-left"
        docker("network", "create", "--internal", "--label", one.label, network)
        one.namespace("--network", network)
    assert KILLED in names()
    clear_what_others_left()
    assert KILLED not in names()
    assert f"{PROJECT}-left" in names()
    assert engine.containers()


def test_a_run_is_named_after_a_process_that_lives() -> None:
    """By when it began too."""
    assert name_of_run(os.getpid()) == PROJECT
    assert name_of_run(2**22 + 1) is None  # more than the kernel counts to
