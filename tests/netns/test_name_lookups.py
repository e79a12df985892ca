"""Host names whose answers differ, fail and come back: a real name server, which a test tells what
to answer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from paraglider.lab.actors import READY_TIMEOUT_S, read_line
from tests.netns.harness import BALANCER, CHECK, IPV4, Agent, Topology, Variant

pytestmark = pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
_ONLY_IPV4 = pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)

# Answers as the last line of its input says: ``0 ADDRESS ...``, another code (2: SERVFAIL,
# 3: NXDOMAIN), or ``silent``. For each such line it prints one, once it was asked twice since: what
# an agent hears then is of it.
NAME_SERVER = """\
import ipaddress, selectors, socket, struct, sys

udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 53))
selector = selectors.DefaultSelector()
selector.register(udp, selectors.EVENT_READ)
selector.register(sys.stdin, selectors.EVENT_READ)
words, asked = ["silent"], 9
print("ready", flush=True)

def answer(query):
    end = query.index(b"\\0", 12) + 5
    kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
    addresses = [ipaddress.ip_address(word) for word in words[1:]]
    found = [it.packed for it in addresses if kind == (1 if it.version == 4 else 28)]
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | int(words[0]), 1, len(found), 0, 0)
    records = (struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(it)) + it for it in found)
    return head + query[12:end] + b"".join(records)

while True:
    for key, _ in selector.select():
        if key.fileobj is udp:
            query, asker = udp.recvfrom(512)
            asked += 1
            if words[0] != "silent":
                udp.sendto(answer(query), asker)
            if asked == 2:
                print("asked", flush=True)
        elif line := sys.stdin.readline():
            words, asked = line.split(), 0
        else:
            sys.exit()
"""
NAME = "shop.test"


@dataclass(frozen=True, slots=True)
class NameServer:
    """The name server of the balancer, the only one that it asks."""

    process: subprocess.Popen[str]

    def answer(self, *addresses: str) -> None:
        """Answer with these from now on; return once the agent has such an answer."""
        self.say(" ".join(["0", *addresses]))

    def say(self, line: str) -> None:
        """The same for any line."""
        print(line, file=self.process.stdin, flush=True)
        assert read_line(self.process, timeout_s=READY_TIMEOUT_S) == "asked\n"


@pytest.fixture
def name_server(topology: Topology) -> NameServer:
    """A name server on the balancer, with /etc/resolv.conf of the lab alone."""
    text = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
    topology.balancer.run("tee", "/run/resolv.conf", input=text)
    topology.balancer.run("mount", "--bind", "/run/resolv.conf", "/etc/resolv.conf")
    process = topology.lab.start(BALANCER, [sys.executable, "-c", NAME_SERVER])
    assert read_line(process, timeout_s=READY_TIMEOUT_S) == "ready\n"
    return NameServer(process)


def start_agent(
    topology: Topology, name_server: NameServer, found: Sequence[str], *more: str
) -> Agent:
    """Start an agent whose one backend is a name that stands for `found`."""
    print(" ".join(["0", *found]), file=name_server.process.stdin, flush=True)
    backends = [f"{NAME}:{topology.addresses.backend_port}"]
    config = topology.addresses.make_config(backends, CHECK, "resolve: 1s", *more)
    agent = topology.start_agent(config=config)
    assert read_line(name_server.process, timeout_s=READY_TIMEOUT_S) == "asked\n"
    return agent


def until(is_so: Callable[[dict[str, dict[str, Any]]], bool], agent: Agent) -> None:
    """Read the status until `is_so` of its backends."""
    deadline_s = time.monotonic() + 20
    while not is_so(found := agent.backends()):
        assert time.monotonic() < deadline_s, found


def name_of(agent: Agent) -> dict[str, Any]:
    """Return what the status says of the name."""
    found = agent.status()["agent"]["names"]
    assert [it["name"] for it in found] == [NAME]
    (status,) = found
    assert isinstance(status, dict)
    return status


def test_answers_that_rotate_bring_no_dead_backend_back(
    topology: Topology, name_server: NameServer
) -> None:
    """A name server gives two of four each time, one of which is dead: once that is found, no
    connection fails, whatever the answer, and the log has a line for each change of the name."""
    addresses = topology.addresses.backends
    first, second, third = topology.addresses.backend_endpoints
    topology.stop_backend("b1")
    agent = start_agent(topology, name_server, addresses[:2])
    agent.until(f"{first} is down")
    for phase in range(4):
        for _ in range(2):  # long enough for one that has left to be forgotten
            name_server.answer(*(addresses[:2] if phase % 2 else addresses[2:]))
        until(lambda it: {second, third} <= it.keys(), agent)
        found = agent.backends()
        assert (found[first]["health"], found[first]["leaving"]) == ("down", False)
        results = topology.connect(4)
        assert (results.failures, results.by_backend) == ((), {"b2": 2, "b3": 2})
    agent.order("reload")
    agent.until("rules are in iptables")
    assert agent.said.count(f"{NAME} (IPv") == 2
    assert found[first]["host_name"] == NAME


@_ONLY_IPV4
def test_a_new_agent_keeps_a_dead_backend_out_though_its_first_answer_lacks_it(
    topology: Topology, name_server: NameServer
) -> None:
    """The rules noted it as down; it is neither new nor served when the next answer has it."""
    addresses = topology.addresses.backends
    first, second, _ = topology.addresses.backend_endpoints
    topology.stop_backend("b1")
    agent = start_agent(topology, name_server, addresses[:2])
    agent.until(f"{first} is down")
    agent.order("reload")  # answered once what was decided before is in the rules
    agent.kill()
    print(f"0 {addresses[1]}", file=name_server.process.stdin, flush=True)
    agent.start()
    assert read_line(name_server.process, timeout_s=READY_TIMEOUT_S) == "asked\n"
    until(lambda it: it[second]["health"] == "up", agent)
    for _ in range(2):
        found = agent.backends()[first]
        assert (found["health"], found["leaving"], found["share_percent"]) == ("down", False, 0)
        assert topology.connect(4).failures == ()
        name_server.answer(*addresses[:2])


def test_without_a_hold_an_address_leaves_with_the_first_answer_that_lacks_it(
    topology: Topology, name_server: NameServer
) -> None:
    """hold: 0s. The two that leave are one line of the log."""
    addresses = topology.addresses.backends
    _, second, third = topology.addresses.backend_endpoints
    agent = start_agent(topology, name_server, addresses, "hold: 0s")
    until(lambda it: all(found["health"] == "up" for found in it.values()), agent)
    name_server.answer(addresses[0])
    agent.until(f"resolves to 1 address: removed {', '.join(addresses[1:])}\n")
    until(lambda it: second not in it and third not in it, agent)
    assert topology.connect(4).by_backend == {"b1": 4}
    assert " is draining" not in agent.said


@_ONLY_IPV4
def test_an_address_that_is_missing_for_longer_than_the_hold_drains(
    topology: Topology, name_server: NameServer
) -> None:
    """Its connections run on; it is shown as missing before."""
    first, second, gone = topology.addresses.backends
    agent = start_agent(topology, name_server, (first, second, gone), "hold: 4s")
    until(lambda it: all(found["health"] == "up" for found in it.values()), agent)
    with topology.hold(9) as held:
        name_server.answer(first, second)
        assert gone in name_of(agent)["missing_for_s"]
        assert topology.connect(6).by_backend == {"b1": 2, "b2": 2, "b3": 2}
        agent.until(f"removed {gone}, missing from answers for 4 s")
        until(lambda it: it[topology.addresses.backend_endpoints[2]]["leaving"], agent)
        assert topology.connect(6).by_backend == {"b1": 3, "b2": 3}
        assert held.settle().broken == 0


@_ONLY_IPV4
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("3", "name or service not known"),
        ("2", "temporary failure in name resolution"),
        ("silent", "temporary failure in name resolution"),
        ("0", "no address associated with hostname"),
    ],
    ids=["NXDOMAIN", "SERVFAIL", "silent", "empty"],
)
def test_a_name_without_an_answer_keeps_its_addresses_and_is_shown(
    topology: Topology, name_server: NameServer, line: str, why: str
) -> None:
    """In status, JSON and metrics with the reason and since when; in the log once."""
    addresses = topology.addresses.backends
    agent = start_agent(topology, name_server, addresses[:2], "hold: 0s")
    name_server.say(line)
    agent.until(f"cannot look up {NAME} (IPv4): {why}; its addresses are kept")
    name_server.say(line)
    status = name_of(agent)
    assert (status["error"], sorted(status["addresses"])) == (why, sorted(addresses[:2]))
    assert status["error_for_s"] > 0
    assert f"{NAME} (IPv4) has no answer for " in agent.order("status")
    labels = f'{{name="{NAME}",family="ipv4"}}'
    assert f"paraglider_name_lookup_error{labels} 1\n" in agent.order("metrics")
    assert topology.connect(4).by_backend == {"b1": 2, "b2": 2}
    name_server.answer(*addresses[:2])
    agent.until(f"{NAME} (IPv4) resolves again to 2 addresses")
    assert name_of(agent)["error"] is None
    assert agent.said.count("cannot look up") == 1
