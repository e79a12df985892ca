"""compose/edge: three variables, no file, and what a balena device would do with a wrong one."""

from __future__ import annotations

from tests.compose.demos import (
    Demo,
    rows,
    rules_of_the_host,
    table_of_thirds,
)
from tests.waiting import until

DEMO = "edge"
TABLE = table_of_thirds("10.77.4.1")
RED = "10.77.4.11:8080"


def test_connections_are_spread_exactly(demo: Demo) -> None:
    """Of 300 connections from the LAN, each backend gets 100."""
    assert rows(demo.stack.run("client")) == TABLE


def test_nothing_is_mounted(demo: Demo) -> None:
    """The appliance has no file of the device, and takes its configuration from the variables."""
    appliance = demo.stack.appliance
    assert appliance.inspect(".Mounts") == []
    checked = appliance.execute("paraglider", "check")
    assert checked == "environment: configuration OK (1 frontend, 3 backends)\n"


def test_nothing_else_passes_from_the_lan(demo: Demo) -> None:
    """A backend that answers its neighbours does not hear from the LAN."""
    assert demo.stack.run("client").strip()  # the rules are in place
    neighbour = demo.stack.client("backends", RED).connect(1)
    assert neighbour.by_backend == {"red": 1}
    stranger = demo.stack.client("lan", RED).connect(1, "--timeout=1")
    assert stranger.answers == ()


def test_a_wrong_variable_is_told_again_and_again(demo: Demo) -> None:
    """The container ends with code 78 and is started again, and no rule of before is left."""
    file = demo.folder / "compose.yaml"
    right = file.read_text()
    file.write_text(right.replace(",10.77.4.13:8080", ",10.77.4.13:80800"))
    demo.stack.do("up --detach appliance")
    appliance = demo.stack.appliance
    until(lambda: appliance.inspect(".RestartCount") > 1, what="it is started again")
    until(lambda: appliance.inspect(".State.ExitCode") == 78, what="it ends with code 78")
    assert "PARAGLIDER_BACKENDS[2]: port '80800' is out of range" in appliance.logs()
    assert "PARAGLIDER-" not in rules_of_the_host(demo.stack.engine)
    file.write_text(right)
    demo.stack.do("up --detach appliance")
    assert rows(demo.stack.run("client")) == TABLE


def test_stopped_it_leaves_no_rule(demo: Demo) -> None:
    """After `compose stop`, the host has no chain of ours."""
    demo.stack.run("client")
    assert "PARAGLIDER-" in rules_of_the_host(demo.stack.engine)
    demo.stack.do("stop appliance")
    assert "PARAGLIDER-" not in rules_of_the_host(demo.stack.engine)
