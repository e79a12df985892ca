"""The agent: others change its rules, its file changes, it is killed, and traffic goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.netns.harness import BALANCER, CHECK, FOREIGN, IPV4, PARAGLIDER, Agent, Topology, Variant

_ONLY_IPV4 = pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])
_ONLY_NFT = pytest.mark.parametrize("variant", [Variant.NFT], indirect=True, ids=["nft"])
_ONLY_LEGACY = pytest.mark.parametrize("variant", [Variant.LEGACY], indirect=True, ids=["legacy"])


@pytest.mark.parametrize(
    ("reason", "commands"),
    [
        ("filter FORWARD", ["-I FORWARD -j DROP"]),
        ("filter FORWARD", ["-P FORWARD DROP", "-D FORWARD -j PARAGLIDER-FORWARD"]),
        ("nat PARAGLIDER-DNAT", ["-t nat -F"]),
        ("nat PARAGLIDER-default", ["-t nat -F PARAGLIDER-default"]),
        ("nat PARAGLIDER-default", ["-t nat -D PARAGLIDER-default 2"]),
        ("nat PARAGLIDER-SNAT", ["-t nat -A PARAGLIDER-SNAT -j ACCEPT"]),
        ("filter PARAGLIDER-INPUT", ["-F"]),
        ("mangle PARAGLIDER-PIN", ["-t mangle -F"]),
    ],
    ids=["behind", "jump", "table nat", "chain", "rule", "rule more", "table filter", "pin"],
)
def test_what_others_take_away_is_back(
    topology: Topology, reason: str, commands: list[str]
) -> None:
    """As a firewall that reloads does it: nothing that is open breaks, and new connections are
    balanced again without anybody doing anything."""
    agent = topology.start_agent()
    before = topology.save()
    with topology.hold(30) as held:
        for command in commands:
            topology.balancer.iptables(*command.split())
        assert reason in agent.until("after a change by")
        # With legacy the first one goes anywhere: somebody has changed the table.
        answers = topology.connect(31).answers[1:]
        assert Counter(a.backend for a in answers) == {"b1": 10, "b2": 10, "b3": 10}
        assert held.settle().broken == 0
    after = (
        topology.save()
        .replace("-A FORWARD -j DROP\n", "")
        .replace("FORWARD DROP", "FORWARD ACCEPT")
    )
    assert after == before
    assert topology.balancer.paraglider("status").returncode == 0


@_ONLY_NFT
def test_a_table_that_is_deleted_is_back(topology: Topology) -> None:
    """`nft delete table`: of iptables' own, and of the one that keeps connections alive."""
    family = "ip6" if topology.addresses.version == 6 else "ip"
    agent = topology.start_agent()
    with topology.hold(30) as held:
        for table in ("nat", "paraglider", "filter"):
            topology.balancer.run("nft", "delete", "table", family, table)
            agent.until("after a change by")
        assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}
        assert held.settle().broken == 0
    assert topology.balancer.paraglider("status").returncode == 0


@_ONLY_NFT
def test_the_whole_ruleset_flushed_is_back(topology: Topology) -> None:
    """New connections are balanced again; what that costs established ones is measured elsewhere,
    as it takes away what would protect them."""
    agent = topology.start_agent()
    topology.balancer.run("nft", "flush", "ruleset")
    # In the middle of a look it may be seen in two parts.
    assert "nft" in agent.until("nat PARAGLIDER-DNAT")
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


def test_run_takes_the_rules_away_when_it_is_told_to_end(topology: Topology) -> None:
    """SIGHUP reads the file again and drops nothing, a wrong one changes nothing; SIGTERM removes
    the rules and ends it with 0."""
    balancer, addresses = topology.balancer, topology.addresses
    balancer.restore(FOREIGN)
    before = balancer.save()
    agent = topology.start_agent()
    with topology.hold(30) as held:
        agent.write(addresses.make_config(addresses.backend_endpoints[1:]))
        agent.running.send_signal(signal.SIGHUP)
        agent.until("rules are in iptables")
        assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}
        agent.write("frontend: wrong")
        agent.running.send_signal(signal.SIGHUP)
        agent.until("the configuration in force stays")
        assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}
        assert "is NOT in force" in agent.order("status")
        assert held.settle().broken == 0
    agent.running.send_signal(signal.SIGTERM)
    assert agent.running.wait(10) == 0
    assert balancer.save() == before


@_ONLY_IPV4
def test_a_changed_file_is_in_force_without_a_word(topology: Topology) -> None:
    """Written over, and replaced as editors do; totals go on, and the chains that do not differ
    are not written."""
    addresses = topology.addresses
    agent = topology.start_agent()
    topology.connect(30)
    agent.write(addresses.make_config(addresses.backend_endpoints[:2]))
    agent.until("rules are in iptables")
    assert topology.connect(10).by_backend == {"b1": 5, "b2": 5}
    first = agent.backends()[addresses.backend_endpoints[0]]
    assert first["connections_total"] == 15
    new = f"{agent.path}.new"
    topology.balancer.run("tee", new, input=topology.config)
    topology.balancer.run("mv", new, str(agent.path))
    agent.until("rules are in iptables")
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}


@_ONLY_IPV4
def test_twenty_reloads_cost_no_connection(topology: Topology) -> None:
    """Each with another set of backends, with 100 connections open and new ones made all along."""
    addresses = topology.addresses
    agent = topology.start_agent()
    with topology.hold(100) as held:
        for turn in range(20):
            backends = addresses.backend_endpoints[: 2 + turn % 2]
            agent.write(addresses.make_config(backends))
            agent.order("reload")
            assert topology.connect(10).failures == ()
        assert held.settle().broken == 0


def test_a_killed_agent_leaves_connections_alone_and_its_successor_changes_nothing(
    topology: Topology, tmp_path: Path
) -> None:
    """After SIGKILL 30 connections go on and new ones are balanced; a second agent takes over
    without calling iptables-restore, and knows who was down."""
    addresses = topology.addresses
    first = addresses.backend_endpoints[0]
    agent = topology.start_agent(config=addresses.make_config(addresses.backend_endpoints, CHECK))
    topology.stop_backend("b1")
    agent.until(f"{first} is down")
    with topology.hold(30) as held:
        agent.kill()
        assert topology.connect(30).by_backend == {"b2": 15, "b3": 15}
        command = topology.balancer.without_restore(tmp_path)
        agent.process = topology.lab.start(BALANCER, [*command, "-config", str(agent.path), "run"])
        agent.until("nothing to change")
        assert agent.backends()[first]["health"] == "down"
        assert held.settle().broken == 0


@_ONLY_IPV4
def test_there_is_one_agent_on_a_host(topology: Topology) -> None:
    """A second one, and a `start`, are refused and say who it is; `stop` ends it."""
    agent = topology.start_agent()
    second = topology.balancer.paraglider("run", config=topology.config)
    assert second.returncode == 69
    assert f"an agent (process {agent.running.pid}" in second.stderr
    start = topology.balancer.paraglider("start", config=topology.config)
    assert start.returncode == 69
    assert "paraglider reload" in start.stderr
    assert "the agent has ended" in agent.order("stop")
    assert agent.running.wait(10) == 0
    assert "PARAGLIDER" not in topology.save()


@_ONLY_IPV4
@_ONLY_LEGACY
def test_a_lock_that_others_hold_is_waited_for(topology: Topology) -> None:
    """The failover is late, said, and logged as done once it is."""
    addresses = topology.addresses
    first = addresses.backend_endpoints[0]
    agent = topology.start_agent(config=addresses.make_config(addresses.backend_endpoints, CHECK))
    holder = topology.lab.start(BALANCER, ["flock", "/run/xtables.lock", "sleep", "5"])
    topology.stop_backend("b1")
    agent.until("cannot change the rules: ")
    assert f"{first} is down" not in agent.said
    agent.until(f"{first} is down")
    assert "cannot change the rules: works again" in agent.said
    assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}
    assert holder.wait(10) == 0


@_ONLY_IPV4
def test_a_name_is_followed(topology: Topology) -> None:
    """Each of its addresses is a backend; more, fewer and others are taken in without a reload,
    and a name that is lost keeps its last ones."""
    addresses = topology.addresses
    config = addresses.make_config([f"shop:{addresses.backend_port}"], "resolve: 1s", "hold: 0s")
    hosts = "/run/hosts"

    def stand_for(count: int) -> None:
        lines = [f"{address} shop\n" for address in addresses.backends[:count]]
        topology.balancer.run("tee", hosts, input="".join(lines))

    stand_for(1)
    topology.balancer.run("mount", "--bind", hosts, "/etc/hosts")
    agent = topology.start_agent(config=config)
    assert topology.connect(3).by_backend == {"b1": 3}
    stand_for(3)
    _until_balanced(topology, {"b1": 2, "b2": 2, "b3": 2})
    stand_for(2)
    _until_balanced(topology, {"b1": 3, "b2": 3})
    stand_for(0)
    agent.until("its addresses are kept")
    agent.kill()
    agent.start(until="nothing to change")
    assert topology.connect(6).by_backend == {"b1": 3, "b2": 3}


@_ONLY_IPV4
def test_told_to_end_and_to_reload_at_once_it_ends(topology: Topology) -> None:
    """As a service manager does that sends both: no rule is put back after they were taken away."""
    agent = topology.start_agent()
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
        agent.running.send_signal(number)
    assert agent.running.wait(10) == 0
    assert "PARAGLIDER" not in topology.save()


@_ONLY_IPV4
def test_a_reload_that_the_kernel_refuses_leaves_everything_as_it_was(
    topology: Topology, tmp_path: Path
) -> None:
    """Here the other family's tools fail; failover goes on in this one."""
    fake = tmp_path / f"ip6tables-{topology.balancer.variant.value}-restore"
    fake.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    fake.chmod(0o755)
    addresses = topology.addresses
    first = addresses.backend_endpoints[0]
    good = addresses.make_config(addresses.backend_endpoints, CHECK)
    agent = Agent(topology.balancer, Path("/run/glider.yaml"))
    agent.write(good)
    variant = f"PARAGLIDER_IPTABLES={topology.balancer.variant.value}"
    command = ["env", f"PATH={tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin", variant, *PARAGLIDER]
    agent.process = topology.lab.start(
        BALANCER, [*command, "-config", str(agent.path), "run"], stderr=subprocess.STDOUT
    )
    agent.until("rules are in iptables")
    one = "{{name: {}, bind: '{}', privateip: '{}', backends: ['{}']}}"
    four = one.format("four", addresses.bind_endpoint, addresses.privateip, "172.19.0.9:80")
    six = one.format("six", "[fd00::1]:80", "fd00::1", "[fd00::9]:80")
    agent.write(f"frontends: [{four}, {six}]")
    agent.until("the configuration in force stays")
    assert first in agent.backends()
    topology.stop_backend("b1")
    agent.until(f"{first} is down")
    assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}


def _until_balanced(topology: Topology, wanted: dict[str, int]) -> None:
    deadline = time.monotonic() + 15
    while (found := topology.connect(sum(wanted.values())).by_backend) != wanted:
        assert time.monotonic() < deadline, found
