"""The container: it takes back every rule, ends when it cannot go on, and survives its agent.

Each test has a namespace of its own without any way out, but for one, on the host's network.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.compose.engine import HARDENED, IMAGE, LAB, WITH_USER, Container, Engine
from tests.compose.rules import (
    add_foreign_rules,
    read_rules,
    require_idle_host,
    skip_without_legacy,
    without_counters,
)
from tests.waiting import until

BIND = "198.51.100.2:4444"
CONFIG = """\
frontend:
  bind: {bind}
  privateip: 192.0.2.4
  backends:
    - 192.0.2.11:5555
    - 192.0.2.12:5555
"""
ROUTER = (*HARDENED, "--network=none", "--sysctl=net.ipv4.ip_forward=1")
RUNNING = f"balancing {BIND}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good glider.yaml, to be mounted whole: a new file in it is seen inside."""
    (tmp_path / "glider.yaml").write_text(CONFIG.format(bind=BIND))
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def beside(engine: Engine) -> str:
    """The option that puts a container into a namespace which outlives it."""
    return engine.namespace("--network=none")


def mount(folder: Path) -> str:
    """Return the option that mounts a folder where the program looks."""
    return f"--volume={folder}:/etc/paraglider:ro"


def test_stopping_leaves_the_rules_as_they_were(engine: Engine, folder: Path, beside: str) -> None:
    """In a namespace with rules of others, `docker stop` restores the text of iptables-save."""
    assert add_foreign_rules(engine, beside, "nft").code == 0
    before = read_rules(engine, beside)
    container = engine.start(*HARDENED, beside, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    assert read_rules(engine, beside) != before
    assert container.stop() == 0
    assert read_rules(engine, beside) == before


def test_stopping_takes_the_rules_though_a_program_hangs(
    engine: Engine, folder: Path, beside: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """iptables-save, deaf to SIGTERM: the rules that were applied last are taken away within the
    grace, and the last line says that it could not read whether others are left."""
    before = read_rules(engine, beside)
    tools = tmp_path_factory.mktemp("tools")
    for family in ("iptables", "ip6tables"):
        fake = tools / f"{family}-nft-save"
        fake.write_text(
            "#!/bin/sh\n[ -e /usr/local/sbin/hang ] && trap '' TERM && exec sleep 300\n"
            f'exec /usr/sbin/{fake.name} "$@"\n'
        )
        fake.chmod(0o755)
    tools.chmod(0o755)
    first = (
        f"--volume={tools}:/usr/local/sbin:ro",
        "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    )
    container = engine.start(*HARDENED, beside, mount(folder), *first, IMAGE)
    container.wait_until_it_says(RUNNING)
    status = ("sh", "-c", "paraglider status --json || true")  # nobody serves here
    until(lambda: json.loads(container.execute(*status))["whole"], what="rules that are whole")
    (tools / "hang").touch()
    assert container.stop() == 69
    assert read_rules(engine, beside) == before
    assert "removed the rules that were applied last" in container.logs()


def hears(pid: int, number: signal.Signals) -> bool:
    """Return whether process 1 of a container blocks a signal or has an answer to it, as proc(5)
    shows them: ``SigBlk:\t0000000000004003``."""
    text = Path(f"/proc/{pid}/status").read_text()
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Cgt):\t(.*)$", text, re.MULTILINE)]
    return "Name:\trunc" not in text and any(mask >> (number - 1) & 1 for mask in masks)


def test_a_stop_that_comes_at_once_is_heard(engine: Engine, folder: Path, beside: str) -> None:
    """Whatever the container was just about to do, it ends by itself, and no rule is left. Before
    process 1 holds signals back, the kernel throws them away: nothing in an image can mend that."""
    before = read_rules(engine, beside)
    for _ in range(5):
        container = engine.start(*HARDENED, beside, mount(folder), IMAGE)
        pid = container.inspect(".State.Pid")
        until(lambda: hears(pid, signal.SIGTERM), what="process 1 hears SIGTERM")  # noqa: B023
        assert container.stop() == 0
        assert read_rules(engine, beside) == before


def test_the_legacy_variant_needs_one_power_and_one_place_more(
    engine: Engine, folder: Path, beside: str
) -> None:
    """With NET_RAW and a /run to lock in, the older rule engine is served as well; without, the
    container says what is missing, and ends."""
    skip_without_legacy(engine)
    powers = (*HARDENED, "--cap-add=NET_RAW", "--tmpfs=/run")
    assert add_foreign_rules(engine, beside, "legacy").code == 0
    before = read_rules(engine, beside)
    legacy = "--env=PARAGLIDER_IPTABLES=legacy"
    weak = engine.start(*HARDENED, "--tmpfs=/run", legacy, beside, mount(folder), IMAGE)
    assert weak.exit_code() == 77
    assert "--cap-add=NET_RAW" in weak.logs()
    assert read_rules(engine, beside) == before
    container = engine.start(*powers, legacy, beside, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    assert read_rules(engine, beside) != before
    assert container.stop() == 0
    assert read_rules(engine, beside) == before


def test_on_the_host_it_balances_and_leaves_no_trace(engine: Engine) -> None:
    """With the host's network, bound to an address of an internal network of this test's own."""
    require_idle_host(engine)
    clients, backends = IPv4Network("198.18.101.0/24"), IPv4Network("198.18.102.0/24")
    outside = engine.network("clients", clients)
    inside = engine.network("backends", backends)
    for name, host in (("red", 11), ("green", 12)):
        address = str(backends[host])
        place = (f"--network={inside}", f"--ip={address}")
        engine.serve(name, *place, listen=f"{address}:5555")
    on_host = "--network=host"
    before = read_rules(engine, on_host)
    bind = f"{clients[1]}:4444"
    variables = (
        f"--env=PARAGLIDER_BIND={bind}",
        f"--env=PARAGLIDER_PRIVATEIP={backends[1]}",
        f"--env=PARAGLIDER_BACKENDS={backends[11]}:5555,{backends[12]}:5555",
    )
    container = engine.start(*HARDENED, on_host, *variables, IMAGE)
    container.wait_until_it_says(f"balancing {bind}")
    connect = ("connect", "--to", bind, "--count", "20", "--wait", "5")
    program, *lab = LAB
    client = (*HARDENED, f"--network={outside}", f"--entrypoint={program}", IMAGE, *lab)
    table = engine.run(*client, *connect).out
    assert container.stop() == 0
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [
        ["green", "10"],
        ["red", "10"],
        ["all", "20"],
    ]
    assert read_rules(engine, on_host) == before


def test_a_bad_file_ends_the_container(engine: Engine, folder: Path) -> None:
    """One message with the place of each problem, exit code 78, and no second try inside."""
    (folder / "glider.yaml").write_text(CONFIG.format(bind="198.51.100.2:44444444"))
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    assert container.exit_code() == 78
    assert container.logs().count("/etc/paraglider/glider.yaml:2:") == 1


def test_without_the_power_to_change_rules_the_container_ends(engine: Engine, folder: Path) -> None:
    """No NET_ADMIN: exit code 77, and the option that is missing."""
    arguments = ("--read-only", "--cap-drop=ALL", "--network=none", mount(folder), IMAGE)
    container = engine.start(*arguments)
    assert container.exit_code() == 77
    assert "--cap-add=NET_ADMIN" in container.logs()


def test_where_nothing_is_forwarded_the_container_ends(engine: Engine, folder: Path) -> None:
    """Forwarding is off and may not be switched on: exit code 69, the mend, and no rule."""
    off = (*HARDENED, "--network=none", "--sysctl=net.ipv4.ip_forward=0")
    container = engine.start(*off, mount(folder), IMAGE)
    assert container.exit_code() == 69
    assert "net.ipv4.ip_forward=1" in container.logs()


def test_it_becomes_healthy_and_is_not_for_ever(engine: Engine, folder: Path) -> None:
    """Healthy when the rules are in place and looked after, not when the agent hangs: then the
    command itself says so, within the time that the image gives it."""
    container = engine.start(*ROUTER, "--health-retries=1", mount(folder), IMAGE)
    until_health(container, "healthy")
    container.kill_agent("STOP")
    until_health(container, "unhealthy", within_s=60.0)  # the next check waits first
    last = container.inspect(".State.Health.Log")[-1]
    assert last["ExitCode"] == 1
    assert "the agent did not answer" in last["Output"]


@pytest.mark.parametrize(("asked", "state"), [("", "healthy"), ("backends", "unhealthy")])
def test_without_backends_it_is_healthy_unless_asked_for_them(
    engine: Engine, folder: Path, asked: str, state: str
) -> None:
    """The appliance works; whether its backends do is another question."""
    config = CONFIG.format(bind=BIND) + "  check: {interval: 100ms, timeout: 100ms, start: down}\n"
    (folder / "glider.yaml").write_text(config)
    options = (f"--env=PARAGLIDER_HEALTHCHECK={asked}", "--health-retries=1")
    container = engine.start(*ROUTER, *options, mount(folder), IMAGE)
    until_health(container, state)
    assert "no backend serves: default" in container.inspect(".State.Health.Log")[-1]["Output"]


def test_a_check_that_is_given_less_time_does_not_wait(engine: Engine, folder: Path) -> None:
    """One fails, which learns it; those after it do not wait."""
    options = ("--health-timeout=3s", "--health-retries=3")
    container = engine.start(*ROUTER, *options, mount(folder), IMAGE)
    until_health(container, "healthy")
    what = "a check that took too long, and two good ones after it"
    until(lambda: (found := codes(container))[-2:] == [0, 0] and -1 in found, what=what)
    assert container.inspect(".State.Health.Status") == "healthy"


def codes(container: Container) -> list[int]:
    """Return the exit codes of the last five checks; -1 is one that took too long."""
    return [entry["ExitCode"] for entry in container.inspect(".State.Health.Log")]


def until_health(container: Container, state: str, *, within_s: float = 20.0) -> None:
    """Wait for a state of health."""
    what = f"it is {state}"
    until(lambda: container.inspect(".State.Health.Status") == state, what=what, within_s=within_s)


def test_a_killed_agent_is_replaced(engine: Engine, folder: Path) -> None:
    """The container goes on, and its stop still takes back every rule."""
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    killed = container.kill_agent("KILL")
    container.wait_until_it_says("already running as configured")
    assert container.agent_pid() not in (None, killed)
    assert container.stop() == 0
    assert "removed all rules" in container.logs()


def test_stopped_while_no_agent_runs_it_still_takes_the_rules_away(
    engine: Engine, folder: Path, beside: str
) -> None:
    """The agent is dead, its successor not yet there, `docker stop` comes: no rule is left."""
    before = read_rules(engine, beside)
    container = engine.start(*HARDENED, beside, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    # A stopped process cannot answer SIGTERM: what is left is the same as when it is dead.
    container.kill_agent("STOP")
    assert container.stop() == 0
    assert read_rules(engine, beside) == before


def test_a_new_file_is_taken_without_a_gap(engine: Engine, folder: Path) -> None:
    """SIGHUP to the container: at no moment is the frontend without its rules."""
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    agent = container.agent_pid()
    replace(folder, CONFIG.format(bind=BIND) + "    - 192.0.2.13:5555\n")
    container.signal("HUP")
    seen = {2}

    def has_third() -> bool:
        seen.add(count := rules_to_backends(container))
        return count == 3

    until(has_third, what="the third backend has its rule")
    assert seen == {2, 3}
    assert container.agent_pid() == agent


def write_over(folder: Path, text: str) -> None:
    """Write into the file that is there."""
    (folder / "glider.yaml").write_text(text)


def replace(folder: Path, text: str) -> None:
    """Put another file in its place, as editors do."""
    (folder / "new.yaml").write_text(text)
    (folder / "new.yaml").rename(folder / "glider.yaml")


def swap(folder: Path, text: str) -> None:
    """Lead to another folder, as Kubernetes does with what it mounts: no file is touched."""
    (folder / "..2").mkdir()
    (folder / "..2/glider.yaml").write_text(text)
    (folder / "..new").symlink_to("..2")
    (folder / "..new").rename(folder / "..data")


@pytest.mark.parametrize("change", [write_over, replace, swap])
def test_a_new_file_is_taken_without_a_word(
    engine: Engine, folder: Path, change: Callable[[Path, str], None]
) -> None:
    """Through a mount of the folder, however it became another one, and by the same agent."""
    (folder / "..1").mkdir()
    (folder / "glider.yaml").rename(folder / "..1/glider.yaml")
    (folder / "..data").symlink_to("..1")
    (folder / "glider.yaml").symlink_to("..data/glider.yaml")
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    agent = container.agent_pid()
    change(folder, CONFIG.format(bind=BIND) + "    - 192.0.2.13:5555\n")
    until(lambda: rules_to_backends(container) == 3, what="the third backend has its rule")
    assert container.agent_pid() == agent


def test_a_change_of_a_file_that_is_mounted_alone_is_taken(engine: Engine, folder: Path) -> None:
    """If it is written over: a mount of a file goes on showing that one, whatever replaces it."""
    alone = f"--volume={folder}/glider.yaml:/etc/paraglider/glider.yaml:ro"
    container = engine.start(*ROUTER, alone, IMAGE)
    container.wait_until_it_says(RUNNING)
    write_over(folder, CONFIG.format(bind=BIND) + "    - 192.0.2.13:5555\n")
    until(lambda: rules_to_backends(container) == 3, what="the third backend has its rule")


def test_a_signal_for_a_new_file_that_comes_too_early_ends_nobody(
    engine: Engine, folder: Path
) -> None:
    """SIGHUP while the agent is still starting: it waits until it can be answered."""
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    for _ in range(10):
        container.signal("HUP")
    container.wait_until_it_says(RUNNING)
    assert "the agent ended" not in container.logs()
    assert container.stop() == 0


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["process 1", "under an init"])
def test_signals_without_a_meaning_end_nothing(
    engine: Engine, folder: Path, init: tuple[str, ...]
) -> None:
    """SIGUSR2 to the container, which is supervisord's to open logs anew, and its like."""
    container = engine.start(*ROUTER, *init, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    agent = container.agent_pid()
    for name in ("USR1", "USR2", "ALRM", "IO", "RTMIN"):
        container.signal(name)
    container.kill_agent("USR1")
    container.wait_until_it_says("ignored SIGUSR1, which has no meaning here")
    assert container.agent_pid() == agent
    assert container.inspect(".State.Running") is True
    assert container.stop() == 0
    assert "removed all rules" in container.logs()


def test_a_log_that_nobody_reads_keeps_no_rule(engine: Engine, folder: Path) -> None:
    """The pipe is full before the first line; told to stop, process 1 hears it."""
    start = "{ head -c 65536 /dev/zero; exec env --block-signal=HUP,INT,QUIT,TERM entrypoint; }"
    arguments = ("--entrypoint=sh", IMAGE, "-c", f"{start} 2>&1 | sleep 600")
    container = engine.start(*ROUTER, mount(folder), *arguments)
    until(lambda: rules_to_backends(container) == 2, what="the rules are there")
    listed = container.execute("ps", "-o", "pid,args").splitlines()
    (pid,) = (line.split()[0] for line in listed if line.endswith("/entrypoint"))
    container.execute("kill", "-TERM", pid)
    until(lambda: rules_to_backends(container) == 0, what="the rules are gone")


def test_a_new_file_that_is_bad_changes_nothing(engine: Engine, folder: Path) -> None:
    """SIGHUP with a bad file: the problem is told, the rules in force stay, the agent too."""
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    agent = container.agent_pid()
    rules = container.execute("iptables-save")
    (folder / "glider.yaml").write_text("frontend: none of it\n")
    container.signal("HUP")
    container.wait_until_it_says("in force stay")
    assert container.agent_pid() == agent
    assert without_counters(container.execute("iptables-save")) == without_counters(rules)


@pytest.mark.parametrize("powers", [HARDENED, WITH_USER], ids=["root", "user"])
def test_rules_that_somebody_flushes_are_back_by_themselves(
    engine: Engine, folder: Path, powers: tuple[str, ...]
) -> None:
    """Nobody has to say that something happened; the log says what it was, and who did it."""
    network = ("--network=none", "--sysctl=net.ipv4.ip_forward=1")
    container = engine.start(*powers, *network, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    rules = without_counters(container.execute("iptables-save"))
    container.execute("iptables", "-t", "nat", "-F")
    until(
        lambda: without_counters(container.execute("iptables-save")) == rules,
        what="all rules are back",
    )
    container.wait_until_it_says("after a change by")
    assert "repaired nat " in container.logs()


def rules_to_backends(container: Container) -> int:
    """Count the rules that lead to a backend."""
    return container.execute("iptables-save", "-t", "nat").count("--to-destination 192.0.2.")


def test_process_1_has_no_socket(engine: Engine, folder: Path) -> None:
    """supervisord listens when asked to, on the network or in a file; nobody asked. What the agent
    listens on is in no network."""
    container = engine.start(*ROUTER, mount(folder), IMAGE)
    container.wait_until_it_says(RUNNING)
    assert "socket:" not in container.execute("ls", "-l", "/proc/1/fd")
    assert container.execute("tail", "-qn", "+2", "/proc/net/tcp", "/proc/net/tcp6") == ""
