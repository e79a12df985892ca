"""A reload that the kernel refuses: nothing is changed, and the next good one takes everything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.netns.harness import CHECK, PARAGLIDER, Agent, Topology
from tests.waiting import until

_WITHIN_S = 30.0
# What of a backend may not change where nothing does.
_KEPT = ("health", "share_percent", "connections_open", "full", "backup", "leaving")


@dataclass
class _Refusing:
    """An agent for which the kernel refuses every write while it is told to."""

    topology: Topology
    folder: Path

    def start(self, config: str) -> Agent:
        """Start the agent."""
        version = "6" if self.topology.addresses.version == 6 else ""
        tool = f"ip{version}tables-{self.topology.balancer.variant.value}-restore"
        real = self.topology.balancer.run("sh", "-c", f"command -v {tool}").stdout.strip()
        fake = self.folder / tool
        # The kernel's no comes after --test, which looks at the text alone.
        fake.write_text(
            f"#!/bin/sh\ncase \" $* \" in *' --test '*) ;; *)\n"
            f"  if [ -e {self.folder}/refuse ]; then\n"
            f"    echo refused >>{self.folder}/refused\n"
            '    echo "iptables-restore: line 7 failed" >&2\n    exit 1\n  fi\n'
            f'esac\nexec {real} "$@"\n'
        )
        fake.chmod(0o755)
        # The program that lists a chain is looked for beside it.
        (self.folder / tool.removesuffix("-restore")).symlink_to(real.removesuffix("-restore"))
        path = f"PATH={self.folder}:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.topology.start_agent(config=config, program=["env", path, *PARAGLIDER])

    def refuse(self, agent: Agent, config: str) -> None:
        """Write a file that the kernel refuses, and wait for the agent's word."""
        (self.folder / "refuse").touch()
        agent.write(config)
        agent.until("nothing changed, the configuration in force stays")

    def refused(self) -> int:
        """Return how many writes were refused."""
        return len((self.folder / "refused").read_text().splitlines())

    def replace(self, agent: Agent, config: str) -> None:
        """Write another file, and wait until a refused try has read it.

        A try that was under way has read the file before. The second one after it reads this.
        """
        before = self.refused()
        agent.write(config)
        until(lambda: self.refused() >= before + 2, what="two more tries", within_s=2 * _WITHIN_S)

    def let(self, agent: Agent) -> str:
        """Refuse no more; return what the agent said until the file was in force."""
        (self.folder / "refuse").unlink()
        return agent.until("works again after", timeout_s=45)


@pytest.fixture
def refusing(topology: Topology, tmp_path: Path) -> _Refusing:
    """An agent whose writes can be refused."""
    return _Refusing(topology, tmp_path)


def _kept(agent: Agent) -> dict[str, dict[str, Any]]:
    return {name: {k: b[k] for k in _KEPT} for name, b in agent.backends().items()}


def test_who_is_full_stays_full(refusing: _Refusing) -> None:
    """Weights, backups, counters and rules stay as well, for as long as it is refused."""
    topology = refusing.topology
    plan, (first, second, third) = topology.addresses, topology.addresses.backend_endpoints
    before = [
        f'{{address: "{first}", max_connections: 5}}',
        f'{{address: "{second}", weight: 3}}',
        f'{{address: "{third}", backup: true}}',
    ]
    agent = refusing.start(plan.make_config(before, CHECK))
    with topology.hold(20) as held:
        until(
            lambda: agent.backends()[first]["full"],
            what="the first backend is full",
            within_s=_WITHIN_S,
        )
        until(
            lambda: agent.backends()[first]["health"] == "up",
            what="a backend is up",
            within_s=_WITHIN_S,
        )
        rules, known = topology.save(), _kept(agent)
        totals = {name: b["connections_total"] for name, b in agent.backends().items()}
        refusing.refuse(agent, plan.make_config([first, second, third], CHECK))
        assert topology.connect(10).by_backend == {"b2": 10}
        assert (topology.save(), _kept(agent)) == (rules, known)
        until(lambda: refusing.refused() >= 3, what="it is tried again", within_s=_WITHIN_S)
        assert topology.connect(10).by_backend == {"b2": 10}
        assert (topology.save(), _kept(agent)) == (rules, known)
        found = {name: b["connections_total"] for name, b in agent.backends().items()}
        assert found == {first: totals[first], second: totals[second] + 20, third: 0}
        said = refusing.let(agent)
        assert "nothing changed" not in said  # told once, then counted
        assert topology.connect(31).by_backend.keys() == {"b1", "b2", "b3"}
        assert held.settle().broken == 0


def test_orders_and_deadlines_stay(refusing: _Refusing) -> None:
    """Who drains or is disabled does so on, and nobody leaves who was to leave the file."""
    topology = refusing.topology
    plan, (first, second, third) = topology.addresses, topology.addresses.backend_endpoints
    agent = refusing.start(plan.make_config([first, second, third], CHECK))
    with topology.hold(9) as held:
        until(
            lambda: agent.backends()[third]["health"] == "up",
            what="a backend is up",
            within_s=_WITHIN_S,
        )
        agent.order("drain", first, "--deadline", "1h")
        agent.order("disable", second)
        rules, known = topology.save(), _kept(agent)
        refusing.refuse(agent, plan.make_config([third], CHECK, "balance: random"))
        assert (topology.save(), _kept(agent)) == (rules, known)
        assert 3500 < agent.backends()[first]["cut_in_s"] <= 3600
        # Probes are those of the file that is in force: `third` alone is probed, by its check.
        topology.stop_backend("b3")
        until(
            lambda: agent.backends()[third]["health"] == "down",
            what="the last backend is down",
            within_s=_WITHIN_S,
        )
        refusing.replace(agent, plan.make_config([first, second, third], CHECK, "balance: random"))
        refusing.let(agent)
        until(
            lambda: len(topology.connect(3).failures) == 3,
            what="the change of health is in the rules",
            within_s=_WITHIN_S,
        )
        backends = agent.backends()
        assert backends[first]["health"] == "draining"
        assert backends[second]["health"] == "disabled"
        assert 3500 < backends[first]["cut_in_s"] <= 3600
        assert held.report().broken <= 3  # those of the backend that has ended


def test_names_adopted_for_it_are_forgotten(refusing: _Refusing) -> None:
    """A name without an answer stands for those that are served and that the file does not have;
    the file that was refused has nothing to do with the next one."""
    topology = refusing.topology
    plan, (first, second, third) = topology.addresses, topology.addresses.backend_endpoints
    agent = refusing.start(plan.make_config([first, second, third]))
    name = f"web.test:{plan.backend_port}"
    refusing.refuse(agent, plan.make_config([name], "balance: random"))
    assert agent.status()["agent"]["names"] == []
    refusing.replace(agent, plan.make_config([name, first, second]))
    refusing.let(agent)
    (known,) = agent.status()["agent"]["names"]
    assert known["addresses"] == [plan.backends[2]]
    assert topology.connect(31).by_backend.keys() == {"b1", "b2", "b3"}
