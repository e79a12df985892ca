"""compose/basic: the sample file of the first Paraglider, unchanged, balances real connections."""

from __future__ import annotations

from tests.compose.rules import without_counters
from tests.compose.stack import DEMOS, Stack
from tests.waiting import until

SAMPLE = """\
frontend:
  bind: 166.1.101.2:4444
  privateip: 172.19.0.4
  backends:
    - 172.19.0.2:5555
    - 172.19.0.3:5555
    - 172.19.0.6:5555
"""

BIND = "166.1.101.2:4444"
EVEN = {"red": 100, "green": 100, "blue": 100}


def test_the_file_is_the_sample_byte_for_byte() -> None:
    """What users of the first Paraglider have works as it is."""
    assert (DEMOS / "basic/glider.yaml").read_bytes() == SAMPLE.encode()


def test_connections_are_spread_exactly_and_seen_as_the_privateip(basic: Stack) -> None:
    """Of 300 connections each backend gets 100, and sees the privateip as its peer."""
    results = basic.client("clients", BIND).connect(300, "--wait=10")
    assert results.failures == ()
    assert results.by_backend == EVEN
    assert results.peers == {"172.19.0.4"}


def test_dockers_name_server_does_not_make_it_a_docker_host(basic: Stack) -> None:
    """Its rules are in every container that has a network with names; they say which variant the
    host uses, and no more."""
    assert "DOCKER_OUTPUT" in basic.appliance.execute("iptables-save")
    assert "rules are in iptables (nft): the host's rules are in it" in basic.appliance.logs()


def test_the_appliance_becomes_healthy(basic: Stack) -> None:
    """The health check of the image finds the rules."""
    until(
        lambda: basic.appliance.inspect(".State.Health.Status") == "healthy",
        what="the appliance is healthy",
    )


def test_its_agent_is_not_root(basic: Stack) -> None:
    """The capabilities in the compose file are those that it takes."""
    pid = basic.appliance.agent_pid()
    assert basic.appliance.execute("stat", "-c", "%U", f"/proc/{pid}") == "paraglider\n"
    assert "as root" not in basic.appliance.logs()


def test_a_killed_agent_is_replaced_without_a_trace(basic: Stack) -> None:
    """While the agent is dead and when its successor takes over, no connection breaks, none fails,
    and no rule changes."""
    appliance = basic.appliance
    client = basic.client("clients", BIND)
    with client.hold(60) as held:
        rules = appliance.execute("iptables-save")
        killed = appliance.kill_agent("KILL")
        results = client.connect(300)
        successor = until(
            lambda: (pid := appliance.agent_pid()) != killed and pid, what="a new agent runs"
        )
        appliance.wait_until_it_says("already running as configured")
        assert successor != killed
        assert results.failures == ()
        assert results.by_backend == EVEN
        assert held.settle()["open"] == 60
        assert without_counters(appliance.execute("iptables-save")) == without_counters(rules)
