"""Programs that do not end: the agent goes on without them, and ends all the same."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.harness import CHECK, IPV4, PARAGLIDER, Agent, Topology
from tests.waiting import until

pytestmark = pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])

# Docker's grace for a container that is stopped.
_GRACE_S = 10.0
_WITHIN_S = 30.0
# The programs that the agent starts.
_NFT = ("nft",)
_IPSET = ("ipset",)


def _iptables(*suffixes: str) -> tuple[str, ...]:
    """Return iptables' own programs, for both families and both variants. The one without a suffix
    is looked for beside iptables-restore."""
    return tuple(
        f"{family}-{variant}{suffix}"
        for family in ("iptables", "ip6tables")
        for variant in ("nft", "legacy")
        for suffix in suffixes
    )


@dataclass
class _Hanging:
    """An agent whose programs hang, deaf to SIGTERM, once they are told to."""

    topology: Topology
    folder: Path

    def fake(self, *tools: str) -> None:
        """Put programs in front of the real ones."""
        for tool in tools:
            self.put(
                tool,
                f"if [ -e {self.folder}/hang ]; then\n"
                f"  trap '' TERM\n  echo $$ {tool} >>{self.folder}/hanging\n  exec sleep 300\nfi\n",
            )

    def put(self, tool: str, script: str) -> None:
        """Put a `script` in front of the real program, which it ends as."""
        real = self.topology.balancer.run("sh", "-c", f"command -v {tool}").stdout.strip()
        fake = self.folder / tool
        fake.write_text(f"#!/bin/sh\necho {tool} >>{self.folder}/started\n{script}")
        with fake.open("a") as file:
            file.write(f'exec {real} "$@"\n')
        fake.chmod(0o755)

    def start(self, *more: str, until: str = "rules are in iptables") -> Agent:
        """Start the agent; `more` are lines of its frontend."""
        agent = Agent(self.topology.balancer, Path("/run/glider.yaml"), self.program)
        agent.write(self.config(*more))
        agent.start(until=until)
        return agent

    @property
    def program(self) -> list[str]:
        """The command, with these programs first."""
        return ["env", f"PATH={self.folder}:/usr/sbin:/usr/bin:/sbin:/bin", *PARAGLIDER]

    def config(self, *more: str) -> str:
        """Return a file with `more` lines of its frontend."""
        plan = self.topology.addresses
        return plan.make_config(plan.backend_endpoints, CHECK, *more)

    def hang(self) -> None:
        """From now on they hang."""
        (self.folder / "hang").touch()

    def begin(self) -> None:
        """From now on they hang; somebody else's rule makes the agent look."""
        self.hang()
        self.change()

    def change(self) -> None:
        """Put a rule of somebody else."""
        self.topology.balancer.iptables(
            *["-I", "FORWARD", "-p", "udp", "--dport", "9", "-j", "ACCEPT"]
        )

    def is_hanging(self) -> bool:
        """Whether one has begun to hang."""
        return (self.folder / "hanging").exists()

    def left(self) -> list[str]:
        """Return the programs that still hang, as a pid each."""
        lines = (self.folder / "hanging").read_text().splitlines()
        return [line for line in lines if Path(f"/proc/{line.split()[0]}").exists()]

    def count_started(self, tool: str) -> int:
        """Return how often a program was started."""
        return (self.folder / "started").read_text().splitlines().count(tool)


@pytest.fixture
def hanging(topology: Topology, tmp_path: Path) -> _Hanging:
    """Programs that can be told to hang."""
    return _Hanging(topology, tmp_path)


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
    hanging.fake(*_iptables("-save"))
    agent = hanging.start()
    hanging.begin()
    until(hanging.is_hanging, what="a program hangs", within_s=_WITHIN_S)
    topology.stop_backend("b1")
    first = topology.addresses.backend_endpoints[0]
    agent.until(f"{first} is down", timeout_s=30)
    assert topology.connect(20).by_backend == {"b2": 10, "b3": 10}


def test_status_is_answered_while_a_program_hangs(hanging: _Hanging) -> None:
    """It says what is overdue, with exit code 1, and that it is over when programs end again."""
    hanging.fake(*_iptables("", "-save", "-restore"))
    agent = hanging.start()
    first = hanging.topology.addresses.backend_endpoints[0]
    hanging.begin()
    hanging.topology.stop_backend("b1")
    until(
        lambda: agent.backends()[first]["health"] == "down",
        what="the first backend is down",
        within_s=_WITHIN_S,
    )
    until(lambda: agent.status()["overdue_s"] > 0, what="a change is overdue", within_s=_WITHIN_S)
    assert hanging.topology.balancer.paraglider("status").returncode == 1
    assert f"{first} is down" not in agent.said
    (hanging.folder / "hang").unlink()
    agent.until(f"{first} is down", timeout_s=45)
    until(lambda: agent.status()["overdue_s"] == 0, what="nothing is overdue", within_s=_WITHIN_S)
    assert hanging.topology.balancer.paraglider("status").returncode == 0
    assert hanging.topology.connect(20).by_backend == {"b2": 10, "b3": 10}


def test_told_to_end_the_rules_go_though_they_cannot_be_read(hanging: _Hanging) -> None:
    """Those that were applied last are known; that others may be left is the last line."""
    hanging.fake(*_iptables("-save"))
    agent = hanging.start()
    until(lambda: agent.status()["whole"], what="the rules are whole", within_s=_WITHIN_S)
    hanging.begin()
    until(hanging.is_hanging, what="a program hangs", within_s=_WITHIN_S)
    said = _end(agent)
    assert not _has_rules(hanging.topology)
    assert "removed the rules that were applied last" in said.splitlines()[-1]
    assert agent.running.returncode == 69


def test_told_to_end_it_says_what_it_has_to_leave(hanging: _Hanging) -> None:
    """Where nothing can be read or written, the last line names it and the way out."""
    hanging.fake(*_iptables("", "-save", "-restore"))
    agent = hanging.start()
    hanging.begin()
    until(hanging.is_hanging, what="a program hangs", within_s=_WITHIN_S)
    said = _end(agent)
    assert _has_rules(hanging.topology)
    assert "paraglider stop" in said.splitlines()[-1]
    assert agent.running.returncode == 69
    (hanging.folder / "hang").unlink()
    assert hanging.topology.balancer.paraglider("stop").returncode == 0
    assert not _has_rules(hanging.topology)


_ALL = [
    pytest.param(_iptables("-save"), (), id="save"),
    pytest.param(_iptables("", "-restore"), (), id="restore"),
    pytest.param(_NFT, (), id="nft"),
    pytest.param(_IPSET, ("affinity: 1h",), id="ipset"),
    pytest.param(
        (*_iptables("", "-save", "-restore"), *_NFT, *_IPSET), ("affinity: 1h",), id="all"
    ),
]


def _assert_it_ended(hanging: _Hanging, agent: Agent, said: str) -> None:
    """No program is left, and where it says that all is gone, all is."""
    topology = hanging.topology
    (hanging.folder / "hang").unlink()
    assert agent.running.returncode in (0, 69), said
    assert hanging.left() == []
    # What may be left is in the last line, with the command that takes it away.
    assert agent.running.returncode == 0 or "paraglider stop" in said.splitlines()[-1], said
    if agent.running.returncode == 69:
        assert topology.balancer.paraglider("stop").returncode == 0
    assert not _has_rules(topology)
    assert "PARAGLIDER" not in topology.balancer.run("ipset", "list", "-name").stdout
    assert "paraglider" not in topology.balancer.run("nft", "list", "tables").stdout


@pytest.mark.parametrize(("tools", "more"), _ALL)
def test_told_to_end_while_it_starts(
    hanging: _Hanging, tools: tuple[str, ...], more: tuple[str, ...]
) -> None:
    """Before anything is in force, at the first program that hangs."""
    hanging.fake(*tools)
    hanging.hang()
    agent = hanging.start(*more, until="")
    until(hanging.is_hanging, what="a program hangs", within_s=_WITHIN_S)
    _assert_it_ended(hanging, agent, _end(agent))


@pytest.mark.parametrize("is_reloading", [True, False], ids=["in a reload", "at the removal"])
@pytest.mark.parametrize(("tools", "more"), _ALL)
def test_told_to_end_while_its_rules_are_in_force(
    hanging: _Hanging, tools: tuple[str, ...], more: tuple[str, ...], is_reloading: bool
) -> None:
    """What was begun is abandoned, and all of it is taken away; what hangs there is tried again
    until the time is over, and then told."""
    hanging.fake(*tools)
    agent = hanging.start(*more)
    until(lambda: agent.status()["whole"], what="the rules are whole", within_s=_WITHIN_S)
    hanging.hang()
    if is_reloading:
        agent.write(hanging.config("balance: random", *more))
        agent.running.send_signal(signal.SIGHUP)
        until(hanging.is_hanging, what="a program hangs", within_s=_WITHIN_S)
    _assert_it_ended(hanging, agent, _end(agent))


def test_one_that_leaves_a_child_with_its_pipes_holds_up_nothing(hanging: _Hanging) -> None:
    """Its output is all there when it has ended itself."""
    for tool in (*_iptables("-save", "-restore"), *_NFT):
        hanging.put(tool, f"sleep 300 &\necho $! {tool} >>{hanging.folder}/hanging\n")
    for tool in _iptables(""):
        hanging.put(tool, "")
    agent = hanging.start()
    hanging.topology.stop_backend("b1")
    agent.until(f"{hanging.topology.addresses.backend_endpoints[0]} is down")
    assert hanging.topology.connect(20).by_backend == {"b2": 10, "b3": 10}
    _end(agent)
    assert agent.running.returncode == 0
    assert not _has_rules(hanging.topology)
    for line in hanging.left():
        os.kill(int(line.split()[0]), signal.SIGKILL)


def test_changes_by_others_while_looks_fail_start_few_programs(hanging: _Hanging) -> None:
    """Tries come half a second after one another at the soonest, however many changes there are;
    the failure is logged once, and counted when it ends."""
    save = f"iptables-{hanging.topology.balancer.variant.value}-save"
    hanging.put(
        save,
        # The survey reads one table each.
        f'case " $* " in *" -t "*) ;; *)\n  echo look >>{hanging.folder}/looks\n'
        f"  if [ -e {hanging.folder}/fail ]; then echo broken >&2; exit 1; fi\nesac\n",
    )
    agent = hanging.start()
    until(lambda: agent.status()["whole"], what="the rules are whole", within_s=_WITHIN_S)
    (hanging.folder / "fail").touch()
    (hanging.folder / "looks").write_text("")
    began_s = time.monotonic()
    for _ in range(30):
        hanging.change()
        time.sleep(0.1)
    looks = len((hanging.folder / "looks").read_text().splitlines())
    # A second for the time between the last count and the first.
    most = 2 + (time.monotonic() - began_s) / 0.5
    assert 1 <= looks <= most
    (hanging.folder / "fail").unlink()
    said = agent.until("works again after", timeout_s=45)
    assert said.count("broken") == 1
