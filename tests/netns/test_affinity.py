"""Affinity with real clients: who comes back to whom, in both variants and families."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from paraglider.lab.hosts import make_environment
from tests.netns.crowd import add_clients, ask_from_each
from tests.netns.harness import BACKENDS, FOREIGN, IPV4, Topology, program, start_within


@pytest.fixture(scope="module", autouse=True)
def needs_ipset() -> None:
    """Sets are made by a program."""
    if shutil.which("ipset", path=make_environment({})["PATH"]) is None:
        pytest.skip("ipset is missing; on Debian and Ubuntu: apt install ipset")


def _config(topology: Topology, *backends: str, time_: str = "3h") -> str:
    plan = topology.addresses
    return plan.make_config(backends or plan.backend_endpoints, f"affinity: {time_}")


def _sets(topology: Topology) -> set[str]:
    return set(topology.balancer.run("ipset", "list", "-name").stdout.split())


def test_hundreds_of_clients_come_back_and_new_ones_are_spread(topology: Topology) -> None:
    """In whatever order they come, each backend having as many; other backends in the file change
    nothing for those that stay. (With IPv6 more than a hundred for each; a /24 has not so many.)"""
    sources = add_clients(topology, 400 if topology.addresses.version == 6 else 200)
    topology.balancer.paraglider("start", config=_config(topology))
    before = ask_from_each(topology, sources)
    counts = Counter(before).values()
    assert max(counts) - min(counts) <= 1
    assert ask_from_each(topology, sources[::-1]) == before[::-1]
    without = topology.addresses.backend_endpoints[:0:-1]
    topology.balancer.paraglider("start", config=_config(topology, *without))
    after = ask_from_each(topology, sources)
    assert {was for was, now in zip(before, after, strict=True) if was != now} == {"b1"}


def test_after_the_time_a_client_is_a_new_one(topology: Topology) -> None:
    """Each of four connections of one client begins after the time of the one before."""
    topology.balancer.paraglider("start", config=_config(topology, time_="2s"))
    found = []
    for _ in range(4):
        found += [answer.backend for answer in topology.connect(2).answers]
        time.sleep(2.5)  # the time itself
    assert found == ["b1", "b1", "b2", "b2", "b3", "b3", "b1", "b1"]


def test_each_connection_begins_the_time_anew(topology: Topology) -> None:
    """Six connections, a second apart, outlast three seconds."""
    topology.balancer.paraglider("start", config=_config(topology, time_="3s"))
    found = []
    for _ in range(6):
        found += [answer.backend for answer in topology.connect(1).answers]
        time.sleep(1)  # a part of the time
    assert len(set(found)) == 1


def test_who_is_out_of_service_gets_none_and_has_its_own_when_it_is_back(
    topology: Topology,
) -> None:
    """Half of the clients come meanwhile, and stay where they came to."""
    sources = add_clients(topology, 60)
    agent = topology.start_agent(config=_config(topology))
    before = ask_from_each(topology, sources)
    assert set(before) == set(BACKENDS)
    gone = topology.addresses.backend_endpoints[0]
    agent.order("disable", gone)
    moved = ask_from_each(topology, sources[:30])
    assert "b1" not in moved
    agent.order("enable", gone)
    agent.until("is up")
    assert ask_from_each(topology, sources) == moved + before[30:]


def test_what_is_remembered_outlives_the_agent_and_a_flush(topology: Topology) -> None:
    """An agent that was killed and its successor; all rules taken away by somebody else."""
    sources = add_clients(topology, 30)
    agent = topology.start_agent(config=_config(topology))
    before = ask_from_each(topology, sources)
    agent.kill()
    agent.start()
    assert ask_from_each(topology, sources) == before
    topology.balancer.iptables("-t", "nat", "-F")
    agent.until("after a change by")
    assert ask_from_each(topology, sources) == before


def test_sets_that_were_destroyed_are_made_again(topology: Topology) -> None:
    """With the rules, which are in their way."""
    agent = topology.start_agent(config=_config(topology))
    balancer, there = topology.balancer, _sets(topology)
    ipt = program(balancer.variant, "", topology.addresses.version)
    script = f"{ipt} -t nat -F; {ipt} -t nat -X; until ipset destroy; do :; done"
    agent.running.send_signal(signal.SIGSTOP)  # or it comes in between
    balancer.run("timeout", "10", "sh", "-c", script)
    assert _sets(topology) == set()
    agent.running.send_signal(signal.SIGCONT)
    agent.until("after a change by")
    assert _sets(topology) == there
    assert topology.connect(6).by_backend == {"b1": 6}


def test_stop_leaves_no_set_and_a_strangers_is_left(topology: Topology) -> None:
    """Nor does a file without affinity."""
    balancer = topology.balancer
    balancer.restore(FOREIGN)
    before = topology.save()
    balancer.run("ipset", "create", "somebodys", "hash:ip")
    balancer.paraglider("start", config=_config(topology))
    assert len(_sets(topology)) == 4
    balancer.paraglider("start", config=topology.config)
    assert _sets(topology) == {"somebodys"}
    balancer.paraglider("start", config=_config(topology))
    assert balancer.paraglider("stop").returncode == 0
    assert _sets(topology) == {"somebodys"}
    assert topology.save() == before


def test_a_start_that_fails_leaves_no_set(topology: Topology, tmp_path: Path) -> None:
    """None that was not there before; those that were stay."""
    balancer = topology.balancer
    command = [*balancer.without_restore(tmp_path), "-config", "-", "start"]
    assert balancer.run(*command, input=_config(topology), check=False).returncode == 69
    assert _sets(topology) == set()
    balancer.paraglider("start", config=_config(topology))
    there = _sets(topology)
    more = [*topology.addresses.backend_endpoints[:2], "198.51.100.7:80"]
    if topology.addresses.version == 4:
        config = _config(topology, *more)
        assert balancer.run(*command, input=config, check=False).returncode == 69
    assert _sets(topology) == there


@pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"])
def test_without_net_raw_it_says_which_capability(topology: Topology) -> None:
    """Before anything is changed; and a stranger's rule with a set is as bad."""
    before = topology.save()
    weak = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    done = start_within(topology, *weak, config=_config(topology))
    assert done.returncode == 77
    assert "--cap-add=NET_ADMIN --cap-add=NET_RAW" in done.stderr
    assert topology.save() == before
    assert _sets(topology) == set()


def test_without_net_raw_a_strangers_set_is_named(topology: Topology) -> None:
    """iptables cannot print such a rule then; on its own it does not say why."""
    balancer = topology.balancer
    family = "inet6" if topology.addresses.version == 6 else "inet"
    balancer.run("ipset", "create", "banned", "hash:ip", "family", family)
    balancer.iptables("-A", "INPUT", "-m", "set", "--match-set", "banned", "src", "-j", "DROP")
    weak = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    done = start_within(topology, *weak)
    assert done.returncode == 77
    assert "--cap-add=NET_RAW" in done.stderr


def test_without_ipset_it_says_what_to_install(topology: Topology) -> None:
    """And nothing is changed."""
    before = topology.save()
    hide = "mount --bind /dev/null $(command -v ipset)"
    wrapper = ("unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh")
    done = start_within(topology, *wrapper, config=_config(topology))
    assert done.returncode == 69
    assert "apt-get install ipset" in done.stderr
    assert topology.save() == before
