"""No reader of the agent's log, gone, slow or full, fails the agent or a command."""

from __future__ import annotations

import pytest

from tests.netns.harness import BALANCER, IPV4, PARAGLIDER, Topology, Variant

pytestmark = [
    pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True),
    pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True),
]
FILE = "/run/glider.yaml"
# How the agent's output is: the command that starts it in a shell as "$@".
READERS = {
    "gone": '"$@" 2>&1 | true',
    # 64 KiB fill a pipe.
    "reads nothing": '{ head -c 65536 /dev/zero; exec "$@"; } 2>&1 | sleep 600',
    "full": 'exec "$@" >/dev/full 2>&1',
    "closed": 'exec "$@" >&- 2>&-',
}


@pytest.mark.parametrize("reader", READERS)
def test_the_agent_serves_reloads_and_ends(topology: Topology, reader: str) -> None:
    """All that it says is lost; the end takes every rule away."""
    balancer = topology.balancer
    balancer.run("tee", FILE, input=topology.config)
    command = ["sh", "-c", READERS[reader], "sh", *PARAGLIDER, "-config", FILE, "run"]
    topology.lab.start(BALANCER, command, env={"PARAGLIDER_IPTABLES": "nft"})
    balancer.run("sh", "-c", "until test -S /run/paraglider/admin.sock; do sleep 0.05; done")
    for _ in range(20):
        assert balancer.paraglider("reload").returncode == 0
    assert topology.connect(3).failures == ()
    assert balancer.paraglider("stop").returncode == 0
    assert "PARAGLIDER" not in topology.save()


@pytest.mark.parametrize("reader", ["gone", "closed"])
def test_commands_do_their_work_without_a_reader(topology: Topology, reader: str) -> None:
    """start and stop are not broken off in the middle, and end with 0."""
    balancer = topology.balancer
    balancer.run("tee", FILE, input=topology.config)
    for words in (["start"], ["status"], ["stop"]):
        # A shell without pipefail reports the last command of a pipe: the code goes to a file.
        line = (
            READERS[reader].removeprefix("exec ").replace('"$@"', '{ "$@"; echo $? >/run/code; }')
        )
        balancer.run("sh", "-c", line, "sh", *PARAGLIDER, "-config", FILE, *words)
        balancer.run("sh", "-c", "until test -s /run/code; do sleep 0.05; done")
        assert balancer.run("cat", "/run/code").stdout == "0\n"
        balancer.run("rm", "/run/code")
        assert ("PARAGLIDER" in topology.save()) is (words != ["stop"])
