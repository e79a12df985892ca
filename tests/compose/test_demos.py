"""The demos: each folder stands alone, is closed to the outside, and is read by the program."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import yaml

from paraglider.cli.main import main
from tests.compose.demos import rows, table_of_thirds
from tests.compose.stack import DEMOS, open_stack, subnets

NAMES = ("basic", "edge", "host", "mqtt", "redis")
each = pytest.mark.parametrize("name", NAMES)

# What balena takes in a service: "Supported fields" of its page on docker-compose.yml in 2026,
# https://docs.balena.io/reference/supervisor/docker-compose
BALENA_SERVICE = """
build cap_add cap_drop cgroup_parent command cpu_quota cpu_shares cpuset depends_on devices dns
dns_opt dns_search domainname entrypoint environment extra_hosts group_add healthcheck hostname
image ipc labels mac_address mem_limit mem_reservation network_mode networks oom_kill_disable
oom_score_adj pid pids_limit ports privileged read_only restart security_opt shm_size
stop_grace_period stop_signal sysctls tmpfs ulimits user userns_mode volumes working_dir
"""
# In a network: https://github.com/balena-os/balena-supervisor, src/compose/network.ts.
BALENA_NETWORK = {"internal", "ipam"}


def read(name: str) -> dict[str, Any]:
    """Return what the compose file of a demo says."""
    composed: dict[str, Any] = yaml.safe_load((DEMOS / name / "compose.yaml").read_text())
    return composed


def test_every_folder_is_a_demo_that_is_tested() -> None:
    """A new demo has to be named here."""
    assert sorted(path.name for path in DEMOS.iterdir()) == list(NAMES)


@each
def test_a_demo_is_complete(name: str) -> None:
    """How to run it, what to watch, and the configuration, but where there is none by design."""
    files = {path.name for path in (DEMOS / name).iterdir()}
    assert {"compose.yaml", "README.md"} <= files
    assert ("glider.yaml" in files) == (name != "edge")
    assert "## What to watch" in (DEMOS / name / "README.md").read_text()


@each
def test_a_demo_stands_alone(name: str) -> None:
    """It mounts and builds only what is in its folder, and runs only this repository's images."""
    folder = DEMOS / name
    services = read(name)["services"].values()
    builds = [service for service in services if "build" in service]
    mounts = [mount.split(":")[0] for service in services for mount in service.get("volumes", ())]
    used = [folder / path for path in (*mounts, *(one["build"]["context"] for one in builds))]
    assert all(path.exists() and path.resolve().is_relative_to(folder) for path in used)
    ours = {"paraglider", *(f"paraglider-{name}" for _ in builds)}
    assert {service["image"] for service in services} == ours
    copied = [path for path in folder.iterdir() if path.name != "README.md"]
    assert [path.name for path in copied if "../" in path.read_text()] == []


@each
def test_a_demo_is_closed(name: str) -> None:
    """Its networks lead nowhere, no service has another, and no port is published."""
    composed = read(name)
    networks = composed["networks"]
    assert [name for name, network in networks.items() if network.get("internal") is not True] == []
    for service in composed["services"].values():
        assert "ports" not in service
        assert service.get("network_mode", "host") == "host"
        assert ("network_mode" in service) != ("networks" in service)
        assert set(service.get("networks", ())) <= networks.keys()


@each
def test_a_demo_may_do_little(name: str) -> None:
    """No service writes to its file system, and only the appliance has a capability: one, and two
    by which its agent is not root."""
    for service, said in read(name)["services"].items():
        assert said["read_only"] is True
        assert said["cap_drop"] == ["ALL"]
        added = {"NET_ADMIN", "SETUID", "KILL"} if service == "appliance" else set()
        # NET_RAW is for iptables-legacy, as balenaOS has it.
        assert set(said.get("cap_add", ())) - {"NET_RAW"} == added
        assert "privileged" not in said


def test_demos_do_not_get_in_each_others_way() -> None:
    """No two have an address in common."""
    networks = [subnet for name in NAMES for subnet in subnets(DEMOS / name / "compose.yaml")]
    assert len(networks) == 2 * len(NAMES)
    assert [pair for pair in combinations(networks, 2) if pair[0].overlaps(pair[1])] == []


@each
def test_the_program_takes_the_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`paraglider check` finds nothing to say against the file, or the variables."""
    for variable, value in read(name)["services"]["appliance"].get("environment", {}).items():
        monkeypatch.setenv(variable, value)
    file = DEMOS / name / "glider.yaml"
    source = f"{file}:" if file.exists() else "environment:"
    assert main([*(("-config", str(file)) if file.exists() else ()), "check"]) == 0
    assert capsys.readouterr().out.startswith(f"{source} configuration OK")


def test_edge_has_only_what_balena_takes() -> None:
    """No key, no substitution and no form of `depends_on` that balena does not know; no mount."""
    composed = read("edge")
    assert composed["version"].startswith("2.")
    assert composed.keys() == {"version", "services", "networks"}
    for service in composed["services"].values():
        assert service.keys() <= set(BALENA_SERVICE.split()) - {"build", "devices", "volumes"}
        assert isinstance(service.get("depends_on", []), list)
    for network in composed["networks"].values():
        assert network.keys() <= BALENA_NETWORK
        assert all(config.keys() == {"subnet", "gateway"} for config in network["ipam"]["config"])
    assert "$" not in (DEMOS / "edge/compose.yaml").read_text()


def test_edge_is_not_handed_over() -> None:
    """The one label is balena's: an old container must not be stopped after the new one runs."""
    labels = {"io.balena.update.strategy": "download-then-kill"}
    services = read("edge")["services"]
    assert {name: said["labels"] for name, said in services.items() if "labels" in said} == {
        "appliance": labels
    }


def test_basic_shows_its_table(compose: str) -> None:
    """With both versions of compose, each of three backends answers 100 of 300."""
    with open_stack(DEMOS / "basic", compose=compose) as stack:
        assert rows(stack.run("client")) == table_of_thirds("172.19.0.4")
