"""Programs that do not end: the agent goes on without them, and ends all the same."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.harness import CHECK, IPV4, PARAGLIDER, Agent, Topology

pytestmark = pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])

# Docker's grace for a container that is stopped.
_GRACE_S = 10.0


@dataclass
class _Hanging:
    """An agent whose programs hang, deaf to SIGTERM, once they are told to."""

    topology: Topology
    folder: Path

    def fake(self, *suffixes: str) -> None:
        """Put programs in front of iptables' own, for both families and both variants."""
        for family in ("iptables", "ip6tables"):
            for variant in ("nft", "legacy"):
                for suffix in suffixes:
                    self._fake(f"{family}-{variant}-{suffix}")

    def _fake(self, tool: str) -> None:
        real = self.topology.balancer.run("sh", "-c", f"command -v {tool}").stdout.strip()
        fake = self.folder / tool
        fake.write_text(
            "#!/bin/sh\n"
            f"if [ -e {self.folder}/hang ]; then\n"
            f"  trap '' TERM\n  echo $$ >>{self.folder}/hanging\n  exec sleep 300\nfi\n"
            f'exec {real} "$@"\n'
        )
        fake.chmod(0o755)

    def start(self) -> Agent:
        path = f"PATH={self.folder}:/usr/sbin:/usr/bin:/sbin:/bin"
        config = self.topology.addresses.make_config(
            self.topology.addresses.backend_endpoints, CHECK
        )
        return self.topology.start_agent(config=config, program=["env", path, *PARAGLIDER])

    def begin(self) -> None:
        """From now on they hang; somebody else's rule makes the agent look."""
        (self.folder / "hang").touch()
        self.topology.balancer.iptables(
            *["-I", "FORWARD", "-p", "udp", "--dport", "9", "-j", "ACCEPT"]
        )

    def is_hanging(self) -> bool:
        """Whether one has begun to hang."""
        return (self.folder / "hanging").exists()


@pytest.fixture
def hanging(topology: Topology, tmp_path: Path) -> _Hanging:
    """Programs that can be told to hang."""
    return _Hanging(topology, tmp_path)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def _end(agent: Agent) -> str:
    """Tell the agent to end; return what it says until it has."""
    agent.running.send_signal(signal.SIGTERM)
    said, _ = agent.running.communicate(timeout=_GRACE_S)
    return said


def _has_rules(topology: Topology) -> bool:
    return "-j PARAGLIDER" in topology.save()


def test_a_failover_is_written_though_the_rules_cannot_be_read(hanging: _Hanging) -> None:
    """The backend's end is noticed while iptables-save hangs, and is in the rules soon after."""
    topology = hanging.topology
    hanging.fake("save")
    agent = hanging.start()
    hanging.begin()
    _until(hanging.is_hanging, "nothing hangs")
    topology.stop_backend("b1")
    first = topology.addresses.backend_endpoints[0]
    agent.until(f"{first} is down", timeout_s=30)
    assert topology.connect(20).by_backend == {"b2": 10, "b3": 10}


def test_status_is_answered_while_a_program_hangs(hanging: _Hanging) -> None:
    """It says what is overdue, with exit code 1, and that it is over when programs end again."""
    hanging.fake("save", "restore")
    agent = hanging.start()
    first = hanging.topology.addresses.backend_endpoints[0]
    hanging.begin()
    hanging.topology.stop_backend("b1")
    _until(lambda: agent.backends()[first]["health"] == "down", "nobody is probed")
    _until(lambda: agent.status()["overdue_s"] > 0, "nothing is overdue")
    assert hanging.topology.balancer.paraglider("status").returncode == 1
    assert f"{first} is down" not in agent.said
    (hanging.folder / "hang").unlink()
    agent.until(f"{first} is down", timeout_s=45)
    _until(lambda: agent.status()["overdue_s"] == 0, "it stays overdue")
    assert hanging.topology.connect(20).by_backend == {"b2": 10, "b3": 10}


def test_told_to_end_the_rules_go_though_they_cannot_be_read(hanging: _Hanging) -> None:
    """Those that were applied last are known; that others may be left is the last line."""
    hanging.fake("save")
    agent = hanging.start()
    _until(lambda: agent.status()["whole"], "the rules are not whole")
    hanging.begin()
    _until(hanging.is_hanging, "nothing hangs")
    said = _end(agent)
    assert not _has_rules(hanging.topology)
    assert "took away the rules that were applied last" in said.splitlines()[-1]
    assert agent.running.returncode == 69


def test_told_to_end_it_says_what_it_has_to_leave(hanging: _Hanging) -> None:
    """Where nothing can be read or written, the last line names it and the way out."""
    hanging.fake("save", "restore")
    agent = hanging.start()
    hanging.begin()
    _until(hanging.is_hanging, "nothing hangs")
    said = _end(agent)
    assert _has_rules(hanging.topology)
    assert "paraglider stop" in said.splitlines()[-1]
    assert agent.running.returncode == 69
    (hanging.folder / "hang").unlink()
    assert hanging.topology.balancer.paraglider("stop").returncode == 0
    assert not _has_rules(hanging.topology)
