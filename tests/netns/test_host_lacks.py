"""What the host lacks is said with its mend, and the rules stay as they were."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

import pytest

from paraglider.kernel.iptables import LOCK_WAIT_S, Variant
from paraglider.lab.actors import read_line
from tests.netns.harness import BALANCER, IPV4, PARAGLIDER, Topology, start_within

pytestmark = pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)

_ONLY_LEGACY = pytest.mark.parametrize("variant", [Variant.LEGACY], ids=["legacy"], indirect=True)
_ONLY_NFT = pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)

# Something of others in each table. (x_tables keeps a table that was looked at, empty, for good.)
_ALL_TABLES = """\
*filter
-A INPUT -p udp -j ACCEPT
COMMIT
*mangle
-A INPUT -p udp -j ACCEPT
COMMIT
*nat
-A PREROUTING -p udp -j RETURN
COMMIT
"""


def _with_mounts(*commands: str) -> tuple[str, ...]:
    """Return a wrapper that mounts things for its command alone."""
    script = " && ".join([*commands, 'exec "$@"'])
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def test_without_net_admin_it_says_which_capability(topology: Topology) -> None:
    """Exit code 77, for a root without the capability as for anybody."""
    before = topology.save()
    done = start_within(topology, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert done.returncode == 77
    assert "run as root, or docker run --cap-add=NET_ADMIN" in done.stderr
    assert topology.save() == before


@_ONLY_LEGACY
def test_legacy_without_net_raw_says_which_capability(topology: Topology) -> None:
    """The older tools need one more; what they say themselves is 'you must be root'."""
    done = start_within(topology, "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    assert done.returncode == 77
    assert "docker run --cap-add=NET_ADMIN --cap-add=NET_RAW" in done.stderr


def test_forwarding_that_is_off_and_read_only_names_the_command(topology: Topology) -> None:
    """As in a container: /proc/sys can be read. No rule is left half-way."""
    topology.lab.set_sysctl(BALANCER, "net.ipv4.ip_forward", "0")
    topology.balancer.restore(_ALL_TABLES)
    before = topology.save()
    remount = ("mount --bind /proc/sys /proc/sys", "mount -o remount,ro,bind /proc/sys")
    done = start_within(topology, *_with_mounts(*remount))
    assert done.returncode == 69
    assert "on the host, run: sysctl -w net.ipv4.ip_forward=1" in done.stderr
    assert topology.save() == before


def test_forwarding_that_is_off_is_switched_on_and_said(topology: Topology) -> None:
    """Where /proc/sys can be written the balancer works at once."""
    topology.lab.set_sysctl(BALANCER, "net.ipv4.ip_forward", "0")
    done = topology.balancer.paraglider("start", config=topology.config)
    assert "IPv4 forwarding was off; switched it on" in done.stderr
    assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}


@pytest.mark.parametrize("was_running", [False, True], ids=["new", "running"])
def test_a_missing_match_leaves_the_rules_as_they_were(
    topology: Topology, tmp_path: Path, was_running: bool
) -> None:
    """The kernel refuses the last of three tables: the first two are put back. Of 30 connections
    that run, none breaks."""
    balancer, addresses = topology.balancer, topology.addresses
    balancer.restore(_ALL_TABLES)
    config = addresses.make_config(addresses.backend_endpoints[:2])
    if was_running:
        balancer.paraglider("start", config=config)
    before = topology.save()
    lacking = """sed 's/-m statistic/-m statistics/' | $real "$@\""""
    done = start_within(topology, "env", _with_restore(topology, tmp_path, lacking))
    assert done.returncode == 69
    assert "'statistics' is missing in iptables" in done.stderr
    assert ">" in done.stderr  # the numbered line that could not be applied
    assert topology.save() == before
    if was_running:
        assert topology.connect(4).by_backend == {"b1": 2, "b2": 2}


def _with_restore(topology: Topology, folder: Path, script: str) -> str:
    """Return a PATH on which iptables-restore runs `script` where it would apply something.

    In the script $real is the true program.
    """
    tool = f"iptables-{topology.balancer.variant.value}-restore"
    real = topology.balancer.run("sh", "-c", f"command -v {tool}").stdout.strip()
    fake = folder / tool
    fake.write_text(
        f'#!/bin/sh\nreal={real}\ncase "$*" in *--test*) exec $real "$@" ;; esac\n{script}\n'
    )
    fake.chmod(0o755)
    return f"PATH={folder}:/usr/sbin:/usr/bin:/sbin:/bin"


def _afterwards(topology: Topology, folder: Path, command: str) -> str:
    """Return a PATH on which iptables runs `command` once something was applied."""
    script = f'$real "$@" && iptables-{topology.balancer.variant.value} {command}'
    return _with_restore(topology, folder, script)


def test_a_rule_that_somebody_puts_before_ours_meanwhile_is_no_failure(
    topology: Topology, tmp_path: Path
) -> None:
    """As Docker does when it starts: the rules work, and it is said."""
    path = _afterwards(topology, tmp_path, "-I FORWARD -p udp -j RETURN")
    done = start_within(topology, "env", path)
    assert done.returncode == 0
    assert "another program has just put a rule before ours" in done.stderr
    assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}


def test_rules_that_do_not_stay_are_taken_back(topology: Topology, tmp_path: Path) -> None:
    """Somebody changes ours while they are written: an error, and nothing of ours is left."""
    topology.balancer.restore(_ALL_TABLES)
    before = topology.save()
    path = _afterwards(topology, tmp_path, "-A PARAGLIDER-FORWARD -j DROP 2>/dev/null")
    done = start_within(topology, "env", path)
    assert done.returncode == 69
    assert "the kernel does not hold what was applied" in done.stderr
    assert topology.save() == before


@_ONLY_NFT
def test_legacy_tables_that_cannot_be_read_are_told_of(topology: Topology) -> None:
    """They exist, and a container with NET_ADMIN alone may not look: rules are applied and taken
    away in the other variant; stop says by its exit code that it could not look everywhere."""
    topology.balancer.run("iptables-legacy", "-L")
    topology.balancer.iptables("-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
    no_raw = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    done = start_within(topology, *no_raw)
    assert done.returncode == 0
    assert "rules of an earlier start, if any, stay in the other variant" in done.stderr
    assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}
    stopped = topology.balancer.run(*no_raw, *PARAGLIDER, "stop", check=False)
    assert stopped.returncode == 77
    assert stopped.stdout == "stopped: removed the rules that can be read\n"
    assert "PARAGLIDER" not in topology.save()


def test_without_knowing_the_host_s_variant_nothing_is_guessed(topology: Topology) -> None:
    """Legacy tables exist that may hold the host's rules, and nft has none: 77, and how to say
    which it is."""
    topology.balancer.run("iptables-legacy", "-L")
    command = [*PARAGLIDER, "-config", "-", "start"]
    no_raw = ("env", "-u", "PARAGLIDER_IPTABLES", "setpriv", "--bounding-set=-net_raw")
    done = topology.balancer.run(
        *no_raw, "--inh-caps=-net_raw", *command, input=topology.config, check=False
    )
    assert done.returncode == 77
    assert "PARAGLIDER_IPTABLES=nft|legacy" in done.stderr
    assert "PARAGLIDER" not in topology.save()


def test_a_start_that_is_killed_while_it_writes_leaves_nothing_that_stop_does_not_find(
    topology: Topology, tmp_path: Path
) -> None:
    """iptables-restore outlives it; stop waits until it has written, and takes it away."""
    balancer = topology.balancer
    balancer.restore(_ALL_TABLES)
    before = topology.save()
    path = _with_restore(topology, tmp_path, f'touch {tmp_path}/writing; sleep 1; exec $real "$@"')
    config = tmp_path / "glider.yaml"
    config.write_text(topology.config)
    variant = f"PARAGLIDER_IPTABLES={balancer.variant.value}"
    command = ["env", path, variant, *PARAGLIDER, "-config", str(config), "start"]
    starting = topology.lab.start(BALANCER, command)
    deadline = time.monotonic() + 10
    while not (tmp_path / "writing").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # until it writes
    starting.kill()
    starting.wait(10)
    assert balancer.paraglider("stop").stdout == "stopped: removed all rules\n"
    assert topology.save() == before


@_ONLY_LEGACY
def test_a_lock_that_is_held_is_waited_for(topology: Topology) -> None:
    """Let go after a second, start goes on by itself."""
    holder = _hold_lock(topology, "1")
    assert start_within(topology).returncode == 0
    assert holder.wait(10) == 0


@_ONLY_LEGACY
def test_a_lock_that_is_never_let_go_is_an_error(topology: Topology) -> None:
    """It says how to find who holds it; the rules are as before."""
    before = topology.save()
    holder = _hold_lock(topology, str(4 * LOCK_WAIT_S))
    done = start_within(topology)
    assert done.returncode == 69
    assert "see which one with 'fuser -v /run/xtables.lock'" in done.stderr
    holder.kill()
    holder.wait(10)
    assert topology.save() == before


def _hold_lock(topology: Topology, duration_s: str) -> subprocess.Popen[str]:
    script = f"flock 9; echo held; exec sleep {shlex.quote(duration_s)}"
    holder = topology.lab.start(BALANCER, ["sh", "-c", f"({script}) 9>/run/xtables.lock"])
    read_line(holder, timeout_s=10)
    return holder


@_ONLY_LEGACY
def test_a_lock_file_that_cannot_be_written_says_what_to_mount(topology: Topology) -> None:
    """As in a container with a read-only root."""
    before = topology.save()
    done = start_within(topology, *_with_mounts("mount -t tmpfs -o ro none /run"))
    assert done.returncode == 69
    assert "docker run -v /run/xtables.lock:/run/xtables.lock" in done.stderr
    assert topology.save() == before


@_ONLY_NFT
def test_without_nft_it_works_and_says_what_is_missing(topology: Topology) -> None:
    """iptables alone is enough to balance; the anchor is not to be had."""
    hide = "mount --bind /dev/null $(command -v nft)"
    done = start_within(topology, *_with_mounts(hide))
    assert done.returncode == 0
    assert "nft is not installed" in done.stderr
    assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}


def test_addresses_of_nobody_are_a_warning(topology: Topology) -> None:
    """They may come later: started with a warning, refused by check --strict."""
    config = topology.config.replace(topology.addresses.bind, "198.51.100.1")
    done = topology.balancer.paraglider("start", config=config)
    assert done.returncode == 0
    assert "warning: default: bind 198.51.100.1 is not an address of this host" in done.stderr
    assert topology.balancer.paraglider("check", "--strict", config=config).returncode == 78


def test_a_bad_file_changes_nothing(topology: Topology) -> None:
    """Exit code 78, every problem in a line of its own, and the rules in force stay."""
    topology.balancer.paraglider("start", config=topology.config)
    before = topology.save()
    done = start_within(topology, config="frontend:\n  bind: 1.2.3.4\n  privateip: web\n")
    assert done.returncode == 78
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == [
        "<stdin>:2:3:",
        "<stdin>:2:9:",
        "<stdin>:3:14:",
    ]
    assert topology.save() == before
