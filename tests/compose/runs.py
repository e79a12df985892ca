"""Runs of the tests, by the names of their containers and networks: this one, and what others left.

A run that was killed cleans nothing up, and its networks have the addresses that the next one
needs. A run is known by its process: an id, and when it began, for ids come again. Where several
containers share an engine, only one that sees the processes of all of them may run these tests.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.compose.engine import DOCKER, Container, docker, run

_NAME = re.compile(r"paraglider-test-\d+(-\d+)?\b")  # without the second, an older one's


def name_of_run(pid: int) -> str | None:
    """Return how all names of a process's run begin, or None where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    started = stat.rpartition(")")[2].split()[19]  # ticks since boot: proc_pid_stat(5), field 22
    return f"paraglider-test-{pid}-{started}"


PROJECT = str(name_of_run(os.getpid()))


def containers_of_run(name: str) -> list[Container]:
    """Return the containers of a test run: its engines' and its compose projects', whose names all
    begin with the run's."""
    return [container for container, names in _containers() if name in map(_run_in, names)]


def clear_what_others_left() -> None:
    """Remove containers, networks and volumes of runs that are over."""
    left = [
        container for container, names in _containers() if any(_is_over(name) for name in names)
    ]
    for container in left:
        run(*DOCKER, "stop", container.name)  # an appliance takes its rules away
        run(*DOCKER, "rm", "--force", "--volumes", container.name)  # it may be gone by itself
    for kind in ("network", "volume"):
        names = docker(kind, "ls", "--format", "{{.Name}}").split()
        if over := [name for name in names if _is_over(name)]:
            docker(kind, "rm", *over)


def _containers() -> list[tuple[Container, list[str]]]:
    """Return all containers, and the names of an engine of ours and a compose project on each."""
    labels = ("paraglider.test", "com.docker.compose.project")
    shown = " ".join(["{{.ID}}", *(f'{{{{.Label "{label}"}}}}' for label in labels)])
    listed = [line.split() for line in docker("ps", "--all", "--format", shown).splitlines()]
    return [(Container(id_), found) for id_, *found in listed]


def _run_in(name: str) -> str:
    """Return the run's name that a name begins with; empty where it is not of a run."""
    found = _NAME.match(name)
    return found[0] if found else ""


def _is_over(name: str) -> bool:
    found = _run_in(name)
    return bool(found) and name_of_run(int(found.split("-")[2])) != found
