"""The file of a running agent: gone, back, mounted over; and a frontend without backends."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from paraglider.kernel.iptables import Variant
from tests.netns.harness import CHECK, IPV4, Agent, Topology

pytestmark = [
    pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"]),
    pytest.mark.parametrize("variant", [Variant.NFT], indirect=True, ids=["nft"]),
]


def _agent_of(topology: Topology) -> Any:
    return json.loads(topology.balancer.paraglider("status", "--json").stdout)["agent"]


def _metric(topology: Topology, name: str) -> str:
    lines = topology.balancer.paraglider("metrics").stdout.splitlines()
    return next(line for line in lines if line.startswith(name))


def test_a_file_that_is_gone_is_told_once_and_once_when_it_is_back(topology: Topology) -> None:
    """In the log, in status, its JSON and a metric; connections are balanced all the while."""
    agent = topology.start_agent()
    topology.balancer.run("mv", str(agent.path), f"{agent.path}.away")
    agent.until(f"{agent.path} is gone (No such file or directory)")
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}
    done = topology.balancer.paraglider("status")
    assert (done.returncode, f"{agent.path} is gone" in done.stdout) == (0, True)
    assert _agent_of(topology)["config_missing"].startswith(f"{agent.path} is gone")
    assert _metric(topology, "paraglider_config_file_missing") == "paraglider_config_file_missing 1"
    topology.balancer.run("mv", f"{agent.path}.away", str(agent.path))
    agent.until("the configuration file is back")
    assert agent.said.count("is gone") == 1
    assert "reading the configuration again" not in agent.said
    assert _agent_of(topology)["config_missing"] is None
    assert _metric(topology, "paraglider_config_file_missing") == "paraglider_config_file_missing 0"


def test_a_mount_over_the_file_is_a_change(topology: Topology) -> None:
    """And so is its end."""
    addresses = topology.addresses
    agent = topology.start_agent()
    config = addresses.make_config(addresses.backend_endpoints[1:])
    topology.balancer.run("tee", f"{agent.path}.new", input=config)
    topology.balancer.run("mount", "--bind", f"{agent.path}.new", str(agent.path))
    agent.until("over 2 backends")
    topology.balancer.run("umount", str(agent.path))
    agent.until("over 3 backends")


def test_a_file_that_is_replaced_behind_its_mount_is_told(topology: Topology) -> None:
    """A container goes on seeing the old one: what an editor does on the host does not reach it."""
    agent = _start_agent_behind_a_mount(topology)
    topology.balancer.run("cp", f"{agent.path}.host", f"{agent.path}.new")
    topology.balancer.run("mv", f"{agent.path}.new", f"{agent.path}.host")
    agent.until("was replaced or deleted outside this mount")
    assert "mount its folder" in topology.balancer.paraglider("status").stdout


def _start_agent_behind_a_mount(topology: Topology) -> Agent:
    agent = topology.start_agent()
    agent.kill()
    topology.balancer.run("cp", str(agent.path), f"{agent.path}.host")
    topology.balancer.run("mount", "--bind", f"{agent.path}.host", str(agent.path))
    agent.start()
    return agent


@pytest.mark.parametrize("no_backend", ["reject", "serve-all"])
def test_a_frontend_without_backends_is_an_exit_code_of_its_own(
    topology: Topology, no_backend: str
) -> None:
    """3: the rules are right, and nobody serves; also where all are served as if they were up."""
    check = CHECK.replace("}", ", port: 9}")
    backends = topology.addresses.backend_endpoints
    config = topology.addresses.make_config(backends, check, f"no_backend: {no_backend}")
    agent = topology.start_agent(config=config)
    while not all(f"{backend} is down" in agent.said for backend in backends):
        agent.until(" is down")
    done = topology.balancer.paraglider("status")
    assert (done.returncode, "no backend serves: default" in done.stdout) == (3, True)
    done = topology.balancer.paraglider("status", "--json")
    assert [f["served"] for f in json.loads(done.stdout)["frontends"]] == [False]
    up = "paraglider_frontend_up"
    assert _metric(topology, f"{up}{{") == f'{up}{{frontend="default"}} 0'
    agent.kill()
    # The rules remember who was down; with serve-all they serve.
    assert topology.balancer.paraglider("status").returncode == 3


def test_a_frontend_whose_backend_comes_back_is_well_again(topology: Topology) -> None:
    """Exit code 0, which it also is before the first probes have decided."""
    agent = topology.start_agent(
        config=topology.addresses.make_config(topology.addresses.backend_endpoints, CHECK)
    )
    assert topology.balancer.paraglider("status").returncode == 0
    for name in ("b1", "b2", "b3"):
        topology.stop_backend(name)
    while agent.said.count(" is down") < 3:
        agent.until(" is down")
    assert topology.balancer.paraglider("status").returncode == 3
    topology.start_backend("b2")
    agent.until(" is up")
    deadline = time.monotonic() + 10
    while topology.balancer.paraglider("status").returncode != 0:
        assert time.monotonic() < deadline
