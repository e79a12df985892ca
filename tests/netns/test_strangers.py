"""A process without rights on the same network keeps nothing of ours from its work."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from paraglider.lab.actors import read_line
from tests.netns.harness import BALANCER, CHECK, IPV4, PARAGLIDER, Topology, Variant

pytestmark = pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)

# Binds the names that it is given, listens at them if its first word says so, and stays.
_BIND = """
import socket, sys, time
taken = []
for name in sys.argv[2:]:
    taken.append(socket.socket(socket.AF_UNIX))
    taken[-1].bind(chr(0) + name)
    if sys.argv[1] == "listen":
        taken[-1].listen(1)
print("taken", flush=True)
time.sleep(600)
"""
# Listens at the names that it is given, and fills its own queues.
_FILL = """
import socket, sys, time
taken = []
for name in sys.argv[1:]:
    taken.append(socket.socket(socket.AF_UNIX))
    taken[-1].bind(chr(0) + name)
    taken[-1].listen(0)
    for _ in range(3):
        taken.append(socket.socket(socket.AF_UNIX))
        taken[-1].setblocking(False)
        try:
            taken[-1].connect(chr(0) + name)
        except BlockingIOError:
            break
print("taken", flush=True)
time.sleep(600)
"""
# Listens at the names that it is given in a process that ends, whose child keeps them until the
# first process has ended.
_ABANDON = """
import os, socket, sys, time
reading, writing = os.pipe()
listener = os.fork()
if listener == 0:
    os.close(writing)
    taken = []
    for name in sys.argv[1:]:
        taken.append(socket.socket(socket.AF_UNIX))
        taken[-1].bind(chr(0) + name)
        taken[-1].listen(4096)
    if os.fork() == 0:
        os.read(reading, 1)
    os._exit(0)
os.waitpid(listener, 0)
print("taken", flush=True)
time.sleep(600)
"""
# The lock of before: on the namespace, which every process in it can open.
_FLOCK = """
import fcntl, time
namespace = open("/proc/self/ns/net")
fcntl.flock(namespace, fcntl.LOCK_EX)
print("taken", flush=True)
time.sleep(600)
"""
# Connects again and again to a socket, says what it is given, and reads nothing.
_FLOOD = """
import socket, sys
address, said = sys.argv[1].replace("@", chr(0)), sys.argv[2].encode()
print("taken", flush=True)
kept = []
while True:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(address)
        client.sendall(said)
    except OSError:
        client.close()
    kept.append(client)
    if len(kept) > 200:
        kept.pop(0).close()
"""
_AGENT_USER = ("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups")
_STRANGER = ("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups")
_IN_THE_GROUP = ("setpriv", "--reuid=65533", "--regid=0", "--clear-groups")
_POWERLESS_ROOT = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
# Anybody has all capabilities in a user namespace of their own, and none outside.
_OWN_NAMESPACE = (*_POWERLESS_ROOT, "unshare", "--user", "--keep-caps")
_ROWS = ("paraglider/agent", "paraglider/rules")
_FIRST = _ROWS
_ALL = tuple(f"{row}{end}" for row in _ROWS for end in ("", *(f"/{n}" for n in range(1, 8))))


def start_stranger(
    topology: Topology, program: str, *arguments: str, within: Sequence[str] = _STRANGER
) -> subprocess.Popen[str]:
    """Start a program as another user on the balancer, and wait until it has taken all."""
    python = os.path.realpath(sys.executable)
    argv = [*within, python, "-I", "-c", program, *arguments]
    stranger = topology.lab.start(BALANCER, argv)
    assert read_line(stranger, timeout_s=30) == "taken\n"
    return stranger


def test_a_lock_on_the_namespace_holds_up_nothing(topology: Topology) -> None:
    """Neither start nor failover, orders, repair, or the end."""
    start_stranger(topology, _FLOCK)
    agent = topology.start_agent(
        config=topology.addresses.make_config(topology.addresses.backend_endpoints, CHECK)
    )
    topology.stop_backend("b1")
    agent.until("is down")
    assert set(topology.connect(10).by_backend) == {"b2", "b3"}
    agent.order("drain", topology.addresses.backend_endpoints[1])
    assert set(topology.connect(10).by_backend) == {"b3"}
    topology.balancer.iptables("-t", "nat", "-F", "PREROUTING")
    agent.until("after a change by")
    agent.order("stop")
    assert topology.balancer.paraglider("start", config=topology.config).returncode == 0
    assert topology.balancer.paraglider("stop").returncode == 0


@pytest.mark.parametrize(
    ("within", "how", "names"),
    [
        pytest.param(_STRANGER, "listen", _FIRST, id="a user at the first names"),
        pytest.param(_STRANGER, "bind", _ALL, id="a user who does not listen at all names"),
        pytest.param(_POWERLESS_ROOT, "listen", _ALL, id="root without capabilities at all names"),
        pytest.param(_OWN_NAMESPACE, "listen", _ALL, id="root of a namespace of its own"),
    ],
)
def test_names_that_strangers_take_hold_up_nothing(
    topology: Topology, within: Sequence[str], how: str, names: Sequence[str]
) -> None:
    """Start, stop and an agent do their work, and say who is there."""
    stranger = start_stranger(topology, _BIND, how, *names, within=within)
    started = topology.balancer.paraglider("start", config=topology.config)
    assert started.returncode == 0
    if how == "listen":
        assert f"(process {stranger.pid}: " in started.stderr
        assert "may not keep rules" in started.stderr
    if names == _ALL:
        assert "going on without this lock" in started.stderr
    stopped = topology.balancer.paraglider("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped: removed all rules\n")
    agent = topology.start_agent()
    assert topology.connect(3).failures == ()
    assert agent.order("stop") == "stopped: removed all rules, the agent has ended\n"
    assert "PARAGLIDER" not in topology.save()


@pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
@pytest.mark.parametrize("names", [_FIRST, _ALL], ids=["first names", "all names"])
@pytest.mark.parametrize(
    ("within", "user"),
    [
        pytest.param(_AGENT_USER, 65532, id="the agent's user"),
        pytest.param(_POWERLESS_ROOT, 0, id="root without capabilities"),
    ],
)
def test_names_that_an_ended_process_left_hold_up_nothing(
    topology: Topology, within: Sequence[str], user: int, names: Sequence[str]
) -> None:
    """Its user is the agent's: a prober that was taken over, or a container that uses that user; or
    root in a container with `--cap-drop=ALL`."""
    start_stranger(topology, _ABANDON, *names, within=within)
    started = topology.balancer.paraglider("start", config=topology.config)
    assert started.returncode == 0
    assert f"which has ended, user {user}), which may not keep rules" in started.stderr
    stopped = topology.balancer.paraglider("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped: removed all rules\n")
    agent = topology.start_agent()
    assert topology.balancer.paraglider("status").returncode == 0
    assert agent.order("stop") == "stopped: removed all rules, the agent has ended\n"


@pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
@pytest.mark.parametrize("names", [_FIRST, _ALL], ids=["first names", "all names"])
def test_names_with_a_full_queue_hold_up_nothing(topology: Topology, names: Sequence[str]) -> None:
    """Whose they are is seen without asking."""
    stranger = start_stranger(topology, _FILL, *names)
    started = topology.balancer.paraglider("start", config=topology.config)
    assert started.returncode == 0
    assert f"(process {stranger.pid}: " in started.stderr
    assert "an unknown process" not in started.stderr
    stopped = topology.balancer.paraglider("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped: removed all rules\n")
    assert "an unknown process" not in stopped.stderr


def test_with_a_stranger_at_the_first_name_a_second_agent_is_refused(topology: Topology) -> None:
    """And so are start and a stop that cannot ask the agent; it is named."""
    start_stranger(topology, _BIND, "listen", *_FIRST)
    agent = topology.start_agent()
    second = topology.balancer.paraglider("run", config=topology.config)
    assert second.returncode == 69
    assert f"an agent (process {agent.running.pid}: " in second.stderr
    assert topology.balancer.paraglider("start", config=topology.config).returncode == 69
    elsewhere = ["env", "PARAGLIDER_RUN=/run/elsewhere", *PARAGLIDER, "stop"]
    stop = topology.balancer.run(*elsewhere, check=False)
    assert stop.returncode == 69
    assert "cannot be reached from here" in stop.stderr


def test_five_starts_at_once_make_one_beside_strangers(topology: Topology) -> None:
    """The names that are left keep them apart as the first would."""
    start_stranger(topology, _BIND, "listen", *_FIRST)
    balancer, path = topology.balancer, "/run/glider.yaml"
    script = """
        for n in 1 2 3 4 5; do "$@" & started="$started $!"; done
        for one in $started; do wait $one || exit; done
    """
    balancer.run("tee", path, input=topology.config)
    balancer.run("sh", "-c", script, "sh", *PARAGLIDER, "-config", path, "start")
    assert balancer.paraglider("status").returncode == 0
    assert balancer.save().count("-A PREROUTING -j PARAGLIDER-DNAT\n") == 1


def test_stop_goes_on_where_the_agent_hangs(topology: Topology) -> None:
    """It says so, and every rule is gone."""
    agent = topology.start_agent()
    agent.running.send_signal(signal.SIGSTOP)
    try:
        stopped = topology.balancer.paraglider("stop")
        assert stopped.returncode == 0
        assert f"an agent (process {agent.running.pid}: " in stopped.stderr
        assert "does not answer: removing the rules without it" in stopped.stderr
        assert "PARAGLIDER" not in topology.save()
    finally:
        agent.kill()


def test_a_start_waits_for_what_a_killed_one_still_writes(
    topology: Topology, tmp_path: Path
) -> None:
    """The program that was started holds the lock for the process that is gone; `stop` does not
    wait for ever."""
    balancer = topology.balancer
    fake = tmp_path / f"iptables-{balancer.variant.value}-restore"
    begun = tmp_path / "begun"
    fake.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 8\n")
    fake.chmod(0o755)
    balancer.run("tee", "/run/glider.yaml", input=topology.config)
    first = topology.lab.start(
        BALANCER,
        [*PARAGLIDER, "-config", "/run/glider.yaml", "start"],
        env={
            "PARAGLIDER_IPTABLES": balancer.variant.value,
            "PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin",
        },
    )
    balancer.run("sh", "-c", f"until test -e {begun}; do sleep 0.05; done")
    first.kill()
    first.wait()
    stopped = balancer.paraglider("stop")
    assert "going on without the lock" in stopped.stderr
    assert stopped.returncode == 0
    assert balancer.paraglider("start", config=topology.config).returncode == 0
    assert topology.connect(3).failures == ()


_ADMIN = "/run/paraglider/admin.sock"


@pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
@pytest.mark.parametrize(
    ("within", "address", "said"),
    [
        pytest.param(_STRANGER, "@paraglider/agent", "", id="the agent's name"),
        pytest.param(_STRANGER, "@paraglider/rules", "", id="the name for rules"),
        pytest.param(_IN_THE_GROUP, _ADMIN, "", id="the admin socket, saying nothing"),
        pytest.param(_IN_THE_GROUP, _ADMIN, '{"command":"status"}\n', id="and not reading"),
    ],
)
def test_a_flood_of_connections_leaves_status_answering(
    topology: Topology, within: Sequence[str], address: str, said: str
) -> None:
    """The agent's own answer, again and again, and another agent is refused by name."""
    agent = topology.start_agent()
    for _ in range(3):
        start_stranger(topology, _FLOOD, address, said, within=within)
    for _ in range(5):
        status = topology.balancer.paraglider("status", "--json")
        assert status.stderr == ""
        assert json.loads(status.stdout)["agent"]["pid"] == agent.running.pid
    second = topology.balancer.paraglider("run", config=topology.config)
    assert second.returncode == 69
    assert f"an agent (process {agent.running.pid}: " in second.stderr


@pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
def test_strangers_cannot_open_the_admin_socket(topology: Topology) -> None:
    """The kernel refuses them; the agent is not even woken."""
    topology.start_agent()
    program = f"import socket; socket.socket(socket.AF_UNIX).connect('{_ADMIN}')"
    argv = [*_STRANGER, os.path.realpath(sys.executable), "-I", "-c", program]
    refused = topology.balancer.run(*argv, check=False)
    assert "PermissionError" in refused.stderr


@pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
def test_a_client_that_asks_nothing_is_closed(topology: Topology) -> None:
    """By the agent, though nobody else comes."""
    topology.start_agent()
    program = f"""if True:
        import socket
        client = socket.socket(socket.AF_UNIX)
        client.connect("{_ADMIN}")
        client.settimeout(60)
        print("closed" if client.recv(1) == b"" else "answered")
    """
    argv = [os.path.realpath(sys.executable), "-I", "-c", program]
    assert topology.balancer.run(*argv).stdout == "closed\n"


@pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
def test_an_agent_without_file_descriptors_says_so(topology: Topology) -> None:
    """It cannot accept, or cannot look at the host (a descriptor may be free again by then); and
    answers when it has some."""
    agent = topology.start_agent()
    agent.order("status")  # its socket is open
    pid = agent.running.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    first_free = min(set(range(1024)) - opened)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, limits[1]))
    refused = topology.balancer.paraglider("status")
    assert refused.returncode == 69
    assert re.search("no file descriptors are left|Too many open files", refused.stdout)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert topology.balancer.paraglider("status").returncode == 0
