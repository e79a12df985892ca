"""compose/host: between two of Docker's bridges, on the host's own network."""

from __future__ import annotations

from ipaddress import IPv4Network

from tests.compose.demos import (
    Demo,
    rows,
    rules_of_the_host,
    table_of_thirds,
)
from tests.compose.stack import Client

DEMO = "host"
BIND = "10.77.1.1:4444"
RED = "10.77.2.11:5555"
PRIVATEIP = "10.77.2.1"
TABLE = table_of_thirds(PRIVATEIP)


def test_connections_are_spread_exactly(demo: Demo) -> None:
    """Of 300 connections from one bridge, each backend on the other gets 100."""
    assert rows(demo.stack.run("client")) == TABLE


def test_nothing_else_passes_between_the_bridges(demo: Demo) -> None:
    """A backend that answers its neighbours does not hear from the client."""
    assert demo.stack.run("client").strip()  # the rules are in place
    neighbour = demo.stack.client("backends", RED).connect(1)
    assert neighbour.by_backend == {"red": 1}
    stranger = demo.stack.client("clients", RED).connect(1, "--timeout=1")
    assert stranger.answers == ()


def test_the_host_is_a_client_too(demo: Demo) -> None:
    """What the host itself sends to the frontend is balanced, and has the privateip."""
    results = Client(demo.stack.engine, "host", BIND).connect(3, "--wait=10")
    assert results.by_backend == {"red": 1, "green": 1, "blue": 1}
    assert results.peers == {PRIVATEIP}


def test_docker_may_make_another_network(demo: Demo) -> None:
    """Docker then puts its own jumps first again, and connections pass as before."""
    assert rows(demo.stack.run("client")) == TABLE
    demo.stack.engine.network("another", IPv4Network("10.77.9.0/24"))
    assert rows(demo.stack.run("client")) == TABLE


def test_killed_it_goes_on_and_is_adopted(demo: Demo) -> None:
    """Without the container the kernel balances; the next one finds its rules in place."""
    assert rows(demo.stack.run("client")) == TABLE
    demo.stack.do("kill appliance")
    assert rows(demo.stack.do("run --rm -T --no-deps client")) == TABLE
    demo.stack.do("up --detach appliance")
    demo.stack.appliance.wait_until_it_says("already running as configured")
    assert rows(demo.stack.run("client")) == TABLE


def test_restarted_it_breaks_no_connection(demo: Demo) -> None:
    """60 connections wait for the moment in which there are no rules, and go on: Docker's own NAT
    keeps the kernel translating what is established."""
    with demo.stack.client("clients", BIND).hold(60) as held:
        demo.stack.do("restart appliance")
        assert rows(demo.stack.run("client")) == TABLE
        assert held.settle()["broken"] == 0


def test_stopped_it_leaves_no_rule(demo: Demo) -> None:
    """Two stops leave the same text, and between them it was another."""
    engine = demo.stack.engine
    demo.stack.run("client")
    demo.stack.do("stop appliance")
    before = rules_of_the_host(engine)
    demo.stack.run("client")
    assert "PARAGLIDER" in rules_of_the_host(engine)
    demo.stack.do("stop appliance")
    assert "PARAGLIDER" not in before
    assert rules_of_the_host(engine) == before
