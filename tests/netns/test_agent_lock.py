"""One agent for each network namespace, and everybody can tell which."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from paraglider.lab.actors import read_line
from paraglider.lab.hosts import Lab

ROOT = Path(__file__).parents[2]
HOST, ELSEWHERE = "host", "elsewhere"
_ANSWER_S = 30.0

# Holds the lock, with a child, until its input ends; a line there lets it see off those who asked.
_HOLD = """
import subprocess, sys
from paraglider.errors import ParagliderError
from paraglider.kernel.agent_lock import hold_agent_lock

try:
    with hold_agent_lock(report=lambda text: print(text, file=sys.stderr)) as lock:
        child = subprocess.Popen(["sleep", "300"], close_fds=False)
        print("held", child.pid, flush=True)
        for line in sys.stdin:
            lock.see_off()
            print("seen off", flush=True)
except ParagliderError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
"""

_FIND = """
import json, sys
from paraglider.kernel.agent_lock import find_agent

for _ in range(int(sys.argv[1])):
    agent = find_agent()
print(json.dumps(None if agent is None else [agent.pid, agent.uid, str(agent)]))
"""

_CONTAINED = ("unshare", "--pid", "--fork", "--kill-child")
_NOBODY = ("setpriv", "--reuid=65532", "--clear-groups")
_STRANGER = ("setpriv", "--reuid=65533", "--clear-groups")
_POWERLESS = ("setpriv", "--inh-caps=-all", "--bounding-set=-net_admin")


@pytest.fixture
def host(lab: Lab) -> Lab:
    """A lab with one host."""
    lab.add_host(HOST)
    return lab


def hold(
    lab: Lab, *, within: Sequence[str] = (), package: Path = ROOT
) -> tuple[subprocess.Popen[str], str]:
    """Start a process that takes the lock; return it and what came of it: ``held CHILD``, say."""
    argv = [*within, os.path.realpath(sys.executable), "-P", "-c", _HOLD]
    holder = lab.start(HOST, argv, env={"PYTHONPATH": str(package)})
    return holder, read_line(holder, timeout_s=_ANSWER_S).rstrip()


def find(
    lab: Lab, *, on: str = HOST, within: Sequence[str] = (), times: int = 1
) -> tuple[int | None, int | None, str] | None:
    """Return pid, uid and description of the agent as a process there finds it."""
    argv = [*within, sys.executable, "-c", _FIND, str(times)]
    found = json.loads(lab.run(on, argv).stdout)
    return None if found is None else tuple(found)


def test_without_an_agent_none_is_found(host: Lab) -> None:
    """The test below can fail."""
    assert find(host) is None


def test_the_agent_is_found_with_its_process_and_command(host: Lab) -> None:
    """And whose it is."""
    holder, said = hold(host)
    assert said.startswith("held ")
    found = find(host)
    assert found is not None
    assert found[:2] == (holder.pid, 0)
    assert found[2].startswith(f"an agent (process {holder.pid}: ")
    assert "hold_agent_lock" in found[2]
    assert "\n" not in found[2]


def test_a_second_agent_is_told_of_the_first(host: Lab) -> None:
    """It does not start."""
    holder, _ = hold(host)
    _, said = hold(host)
    assert said.startswith(f"LockHeldError: an agent (process {holder.pid}: ")


def test_the_lock_goes_with_its_process(host: Lab) -> None:
    """Killed without warning, though what it has started lives on."""
    holder, said = hold(host)
    holder.kill()
    holder.wait()
    os.kill(int(said.removeprefix("held ")), 0)
    assert find(host) is None
    assert hold(host)[1].startswith("held ")


def test_another_network_has_its_own_agent(host: Lab) -> None:
    """A container with its own network, say."""
    hold(host)
    host.add_host(ELSEWHERE)
    assert find(host, on=ELSEWHERE) is None


def test_from_a_container_the_agent_of_the_host_has_no_process(host: Lab) -> None:
    """It is there nevertheless."""
    hold(host)
    assert find(host, within=_CONTAINED) == (None, 0, "an agent in another container (user 0)")


def test_from_the_host_the_agent_of_a_container_has_one(host: Lab) -> None:
    """The one that the host can end."""
    holder, _ = hold(host, within=_CONTAINED)
    found = find(host)
    assert found is not None
    assert found[0] not in (None, 1, holder.pid)
    with open(f"/proc/{found[0]}/stat", encoding="ascii") as file:
        assert file.read().rpartition(")")[2].split()[1] == str(holder.pid)


def test_a_process_that_may_not_change_rules_is_no_agent(host: Lab, package: Path) -> None:
    """Neither another user, nor the agent's or root without NET_ADMIN, as a prober is."""
    for within in (_STRANGER, _NOBODY, _POWERLESS):
        hold(host, within=within, package=package)
        assert find(host) is None
    _, said = hold(host)
    assert said.startswith("held ")
    assert find(host) is not None


def test_an_agent_that_is_stopped_keeps_nobody_waiting(host: Lab) -> None:
    """It is found all the same, however many have asked."""
    holder, _ = hold(host)
    holder.send_signal(signal.SIGSTOP)
    found = find(host, times=300)
    assert found is not None
    assert found[:2] == (holder.pid, 0)


def test_an_agent_sees_off_those_who_asked(host: Lab) -> None:
    """So that it has a process for everybody, however many have asked."""
    holder, _ = hold(host)
    for _ in range(4):
        find(host, times=100)
        print(file=holder.stdin, flush=True)
        assert read_line(holder, timeout_s=_ANSWER_S) == "seen off\n"
    found = find(host)
    assert found is not None
    assert found[:2] == (holder.pid, 0)
