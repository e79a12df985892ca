"""The lab itself: hosts that reach each other and nobody else, and that leave nothing behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paraglider.errors import ParagliderError, UsageError
from paraglider.lab.actors import TRAFFIC, HeldConnections, connect_from, read_line, start_backend
from paraglider.lab.demo import run_demo
from paraglider.lab.hosts import CommandFailed, Lab
from paraglider.lab.results import Answer
from tests.netns.harness import Topology, Variant, missing_for_lab

DEADLINE_S = 20.0

# Balancing in its shortest form.
RULES = """\
*nat
-A PREROUTING -d {bind} -p tcp -m statistic --mode nth --every 3 --packet 0 -j DNAT --to {b1}
-A PREROUTING -d {bind} -p tcp -m statistic --mode nth --every 2 --packet 0 -j DNAT --to {b2}
-A PREROUTING -d {bind} -p tcp -j DNAT --to {b3}
-A POSTROUTING -m conntrack --ctstate DNAT -j SNAT --to {privateip}
COMMIT
"""

# A paraglider command that says what it was asked, and balances nothing.
SPEAKER = (sys.executable, "-c", "import sys; print(*sys.argv[1:])")
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")

# Owns a lab with a server that has forked away from its parent; prints ready, then waits.
OWNER = """\
import sys, time
from paraglider.lab.hosts import Lab
lab = Lab(user_namespace=sys.argv[1] == "True")
lab.add_host("a")
lab.add_host("b")
lab.add_network("wire", {"a": "10.9.0.1/24", "b": "10.9.0.2/24"})
lab.start("a", ["sleep", "600"])
lab.run("b", ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 </dev/null &"])
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=[False, True], ids=["plain", "user_namespace"])
def pair(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two hosts, `a` and `b`, on one network; as this user has it, and in a user namespace."""
    user_namespace = True if request.param else None
    reason = missing_for_lab(user_namespace=user_namespace)
    if reason is not None:
        pytest.skip(reason)
    with Lab(user_namespace=user_namespace) as lab:
        lab.add_host("a")
        lab.add_host("b")
        members = {"a": ["10.9.0.1/24", "fd09::1/64"], "b": ["10.9.0.2/24", "fd09::2/64"]}
        lab.add_network("wire", members)
        yield lab


@pytest.mark.parametrize(
    ("endpoint", "peer"), [("10.9.0.2:80", "10.9.0.1"), ("[fd09::2]:80", "fd09::1")]
)
def test_hosts_of_a_network_reach_each_other(pair: Lab, endpoint: str, peer: str) -> None:
    start_backend(pair, "b", listen=endpoint, name="b")
    results = connect_from(pair, "a", to=endpoint, count=20)
    assert results.answers == (Answer("b", peer),) * 20
    assert results.failures == ()


def test_host_has_no_way_out(pair: Lab) -> None:
    routes = pair.run("a", ["ip", "route"]).stdout.splitlines()
    assert [line.partition(" proto ")[0] for line in routes] == ["10.9.0.0/24 dev wire"]
    assert "default" not in pair.run("a", ["ip", "-6", "route"]).stdout


def test_host_has_its_own_links_alone(pair: Lab) -> None:
    links = pair.run("a", ["ip", "-brief", "link"]).stdout.splitlines()
    assert [line.split()[0].partition("@")[0] for line in links] == ["lo", "wire"]


def test_addresses_of_ipv6_are_usable_at_once(pair: Lab) -> None:
    assert "tentative" not in pair.run("a", ["ip", "-6", "address"]).stdout


def test_run_directory_is_the_labs_own(pair: Lab) -> None:
    pair.run("a", ["touch", "/run/of-the-lab"])
    assert pair.run("b", ["ls", "/run"]).stdout == "of-the-lab\n"
    assert not Path("/run/of-the-lab").exists()


def test_settings_are_the_hosts_own(pair: Lab) -> None:
    pair.set_sysctl("a", "net.ipv4.ip_forward", "1")
    pair.set_sysctl("b", "net.ipv4.ip_forward", "0")
    read = ["cat", "/proc/sys/net/ipv4/ip_forward"]
    assert [pair.run(host, read).stdout for host in ("a", "b")] == ["1\n", "0\n"]


def test_given_route_leads_through_another_host(pair: Lab) -> None:
    pair.add_host("c")
    pair.add_network("far", {"b": "10.10.0.2/24", "c": "10.10.0.3/24"})
    pair.set_sysctl("b", "net.ipv4.ip_forward", "1")
    pair.add_route("a", "10.10.0.0/24", "10.9.0.2")
    pair.add_route("c", "10.9.0.0/24", "10.10.0.2")
    start_backend(pair, "c", listen="10.10.0.3:80", name="c")
    assert connect_from(pair, "a", to="10.10.0.3:80", count=3).by_backend == {"c": 3}


def test_command_gets_input_and_environment(pair: Lab) -> None:
    done = pair.run("a", ["sh", "-c", 'cat; echo "$WORD"'], input="in ", env={"WORD": "env"})
    assert done.stdout == "in env\n"


def test_failed_command_carries_its_code_and_words(pair: Lab) -> None:
    with pytest.raises(CommandFailed, match="gone wrong") as caught:
        pair.run("a", ["sh", "-c", "echo gone wrong >&2; exit 3"])
    assert caught.value.returncode == 3


def test_command_that_does_not_end_is_ended(pair: Lab) -> None:
    with pytest.raises(CommandFailed, match="did not end in time"):
        pair.run("a", ["sleep", "600"], timeout_s=0.2)


def test_unknown_and_doubled_hosts_are_refused(pair: Lab) -> None:
    with pytest.raises(UsageError, match="no host nobody"):
        pair.run("nobody", ["true"])
    with pytest.raises(UsageError, match="host a already"):
        pair.add_host("a")


def test_started_command_ends_at_a_signal_of_its_own(pair: Lab) -> None:
    server = start_backend(pair, "a", listen="10.9.0.1:80")
    server.send_signal(signal.SIGTERM)
    assert server.wait(DEADLINE_S) == 0


def test_server_on_an_address_of_nobody_is_an_error(pair: Lab) -> None:
    with pytest.raises(ParagliderError, match="ended with code 1"):
        start_backend(pair, "a", listen="10.9.0.99:80")


def test_client_waits_for_a_server_that_comes_later(pair: Lab) -> None:
    argv = [*TRAFFIC, "connect", "--to", "10.9.0.2:80", "--count", "3", "--wait", "20", "--json"]
    client = pair.start("a", argv)
    start_backend(pair, "b", listen="10.9.0.2:80", name="b")
    assert '"backends": {"b": 3}' in read_line(client, timeout_s=DEADLINE_S)
    assert client.wait(DEADLINE_S) == 0


def test_failed_connections_are_counted_with_their_reason(pair: Lab) -> None:
    assert (
        connect_from(pair, "a", to="10.9.0.2:80", count=3).failures == ("connection refused",) * 3
    )


def test_connections_give_up_when_the_time_is_over(pair: Lab) -> None:
    argv = ["connect", "--to", "10.9.0.2:80", "--within", "0"]
    done = pair.run("a", [*TRAFFIC, *argv], check=False)
    assert done.returncode == 1
    assert "300 x not tried: 0 s were over" in done.stdout


def test_held_connections_go_on_talking(pair: Lab) -> None:
    start_backend(pair, "b", listen="10.9.0.2:80", name="b")
    with HeldConnections(pair, "a", to="10.9.0.2:80", count=50) as held:
        before = held.opened
        after = held.settle()
    assert (before.open, after.open, after.broken) == (50, 50, 0)
    assert after.open_by_backend == {"b": 50}
    assert after.round_trips >= 100


def test_held_connections_see_a_server_that_dies(pair: Lab) -> None:
    dying = start_backend(pair, "b", listen="10.9.0.2:80", name="dying")
    with HeldConnections(pair, "a", to="10.9.0.2:80", count=30) as held:
        dying.kill()
        report = held.settle()
    assert (report.open, report.broken, sum(report.reasons.values())) == (0, 30, 30)


def test_held_connections_see_a_wire_that_is_cut(pair: Lab) -> None:
    start_backend(pair, "b", listen="10.9.0.2:80", name="b")
    with HeldConnections(pair, "a", to="10.9.0.2:80", count=10, timeout_s=1.0) as held:
        pair.run("b", ["ip", "link", "set", "wire", "down"])
        report = held.settle()
    assert (report.open, report.reasons) == (0, {"no answer within 1 s": 10})


def test_held_connections_that_cannot_be_opened_are_broken(pair: Lab) -> None:
    with HeldConnections(pair, "a", to="10.9.0.2:80", count=4) as held:
        assert held.opened.reasons == {"not opened: connection refused": 4}


def test_topology_balances_in_each_family_and_variant(topology: Topology) -> None:
    addresses = topology.addresses
    backends = dict(zip(("b1", "b2", "b3"), addresses.backend_endpoints, strict=True))
    rules = RULES.format(bind=addresses.bind, privateip=addresses.privateip, **backends)
    topology.balancer.restore(rules)
    results = topology.connect(30)
    assert results.by_backend == {"b1": 10, "b2": 10, "b3": 10}
    assert results.peers == {addresses.privateip}


def test_saved_rules_have_no_counter_and_no_comment(topology: Topology) -> None:
    topology.balancer.iptables("-t", "nat", "-A", "POSTROUTING", "-j", "RETURN")
    topology.connect(1)
    saved = topology.save()
    assert "-A POSTROUTING -j RETURN\n" in saved
    assert "#" not in saved
    assert saved.count("[0:0]") == saved.count("[") == 4


@pytest.mark.parametrize("variant", [Variant.LEGACY], indirect=True)
def test_legacy_lock_is_the_labs_own(topology: Topology) -> None:
    topology.balancer.iptables("-t", "nat", "-S")
    assert "xtables.lock" in topology.lab.run("b1", ["ls", "/run"]).stdout


@pytest.mark.usefixtures("lab")
def test_demo_tells_what_it_does() -> None:
    """With a command that balances nothing, so that each connection is refused."""
    out = io.StringIO()
    assert run_demo(out=out, paraglider=SPEAKER) == 1
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert [line for line in lines if line in ("-config - start", "status", "stop")] == [
        "-config - start",
        "status",
        "stop",
    ]
    assert "300 of 300 connections failed:" in lines


@pytest.mark.usefixtures("lab")
def test_demo_ends_with_the_code_of_a_start_that_fails() -> None:
    failing = (sys.executable, "-c", "import sys; sys.exit('no iptables here')")
    out = io.StringIO()
    assert run_demo(out=out, paraglider=failing) == 1
    assert "no iptables here" in out.getvalue()


def test_forbidden_user_namespaces_are_explained(pair: Lab) -> None:
    """In a user namespace of its own, where the limit can be set without touching the machine."""
    code = "from paraglider.lab.hosts import Lab; Lab(user_namespace=True)"
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"]
    done = pair.run("a", [*argv, sys.executable, "-c", code], check=False)
    assert "PermissionDenied" in done.stderr
    assert "sysctl -w user.max_user_namespaces=10000" in done.stderr


def test_closed_lab_leaves_nothing(pair: Lab) -> None:
    namespaces = namespaces_of_children(os.getpid())
    pair.start("a", ["sleep", "600"])
    pair.run("b", ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 </dev/null &"])
    pair.close()
    assert namespaces
    assert processes_in(namespaces) == []
    assert traces_outside(namespaces) == []


@pytest.mark.parametrize("user_namespace", [False, True])
def test_killed_owner_leaves_nothing(user_namespace: bool) -> None:
    skip_without_lab(user_namespace=user_namespace)
    with start_owner(["-c", OWNER, str(user_namespace)]) as owner:
        assert read_line(owner, timeout_s=DEADLINE_S) == "ready\n"
        namespaces = namespaces_of_children(owner.pid)
        assert len(processes_in(namespaces)) >= 5
        owner.kill()
    assert becomes_true(lambda: processes_in(namespaces) == [])
    assert traces_outside(namespaces) == []


@pytest.mark.usefixtures("lab")
def test_interrupted_demo_leaves_nothing() -> None:
    """Ctrl-C goes to the demo and to the command it waits for, as in a terminal."""
    code = "import sys; from paraglider.lab.demo import run_demo; "
    code += f"sys.exit(run_demo(out=sys.stdout, paraglider={SLEEPER!r}))"
    with start_owner(["-c", code]) as demo:
        assert demo.stdout is not None
        assert any("paraglider -config - start" in line for line in demo.stdout)
        assert becomes_true(lambda: any("time.sleep" in c for c in commands_of_children(demo.pid)))
        namespaces = namespaces_of_children(demo.pid)
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(DEADLINE_S) == 130
    # Killed is not yet gone: the kernel takes a busy machine's time over it.
    assert becomes_true(lambda: processes_in(namespaces) == [])
    assert traces_outside(namespaces) == []


def skip_without_lab(*, user_namespace: bool) -> None:
    """Skip the test where such a lab cannot be had."""
    if not user_namespace and os.geteuid() != 0:
        pytest.skip("a lab without a user namespace needs root")
    reason = missing_for_lab(user_namespace=user_namespace)
    if reason is not None:
        pytest.skip(reason)


def start_owner(arguments: list[str]) -> subprocess.Popen[str]:
    """Start a Python program that owns a lab, in a process group of its own.

    It answers Ctrl-C, as in a terminal, also where this process was started to ignore it (a script
    does so to what it puts in the background): a signal that is handled here is not ignored there.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Return whether a condition holds before the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def processes() -> list[int]:
    """Return the ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    return [child for child in processes() if parent_of(child) == pid]


def parent_of(pid: int) -> int | None:
    """Return the id of a process's parent; None where it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def commands_of_children(pid: int) -> list[str]:
    """Return the command lines of a process's children."""
    found = []
    for child in children(pid):
        try:
            found.append(Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8"))
        except OSError:
            continue
    return found


def namespaces_of(pid: int | str) -> set[str]:
    """Return the mount and network namespaces of a process, e.g. ``net:[4026532281]``."""
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net")}
    except OSError:
        return set()


def namespaces_of_children(pid: int) -> set[str]:
    """Return the namespaces that the children of a process have and this process has not."""
    found: set[str] = set()
    return found.union(*map(namespaces_of, children(pid))) - namespaces_of("self")


def processes_in(namespaces: set[str]) -> list[int]:
    """Return the processes that are in one of the namespaces."""
    return [pid for pid in processes() if namespaces_of(pid) & namespaces]


def traces_outside(namespaces: set[str]) -> list[str]:
    """Return the links and mounts of this machine that only a lab can have made."""
    links = [f"link {name}" for name in os.listdir("/sys/class/net") if name == "wire"]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return links + [
        line
        for line in mounts
        if line.endswith(" lab rw,mode=755") or any(namespace in line for namespace in namespaces)
    ]
