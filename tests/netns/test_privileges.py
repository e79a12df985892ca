"""A child that gives up its privileges has none left, whatever it began with."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from paraglider.lab.hosts import make_environment

_ANSWER_S = 30.0

# Forks a child that gives up everything and says what it is then; the parent ends it when its own
# input ends, and says how that went.
_PROGRAM = """
import json, os, signal, sys
from paraglider.kernel.privileges import drop_privileges

parent = os.getpid()
child = os.fork()
if not child:
    drop_privileges(parent=parent)
    lines = (line.partition(":") for line in open("/proc/self/status"))
    print(json.dumps({name: value.split() for name, _, value in lines}), flush=True)
    signal.pause()
sys.stdin.read()
os.kill(child, signal.SIGKILL)
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)
"""

# What a taken-over prober would try; each prints the error that the kernel returns.
_TRY = """
import ctypes, errno, fcntl, json, os, signal, socket, sys, threading
from paraglider.kernel.privileges import drop_privileges

libc = ctypes.CDLL(None, use_errno=True)
parent, lock = os.getpid(), open("/proc/self/status")

def call(function, *arguments):
    ctypes.set_errno(0)
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")

TRIES = {
    "flock": lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "kill": lambda: os.kill(parent, 0),
    "tgkill": lambda: call(libc.tgkill, parent, parent, 0),
    "sigqueue": lambda: call(libc.sigqueue, parent, 0, None),
    "pidfd_open": lambda: os.pidfd_open(parent),
    "pidfd_send_signal": lambda: signal.pidfd_send_signal(lock.fileno(), 0),
    "ptrace": lambda: call(libc.ptrace, 16, parent, None, None),
    "process_vm_readv": lambda: call(libc.process_vm_readv, parent, None, 0, None, 0, 0),
    "io_uring_setup": lambda: call(libc.syscall, 425, 1, None),
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "socketpair": socket.socketpair,
    "unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "inet": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "inet6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "a name": lambda: socket.getaddrinfo(b"localhost", None, socket.AF_INET, socket.SOCK_STREAM),
    "a thread": lambda: threading.Thread(target=print, kwargs={"end": ""}, daemon=True).start(),
}
child = os.fork()
if not child:
    unfiltered = drop_privileges(parent=parent)
    found = {"unfiltered": unfiltered}
    for name, try_it in TRIES.items():
        try:
            try_it()
            found[name] = ""
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno, str(error))
    print(json.dumps(found), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""

# How containers and services start: with everything, with one capability, as another user.
_ALL: tuple[str, ...] = ()
_NET_ADMIN = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")
_AMBIENT = (
    "setpriv",
    "--reuid=65532",
    "--regid=65532",
    "--clear-groups",
    "--inh-caps=-all,+net_admin",
    "--ambient-caps=-all,+net_admin",
)
_ORDINARY = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all")
# Could become nobody, but could not be ended any more then.
_NO_KILL = (
    "setpriv",
    "--bounding-set=-all,+net_admin,+setuid,+setgid",
    "--inh-caps=-all,+net_admin,+setuid,+setgid",
)
# Where nobody has no number.
_USER_NAMESPACE = ("unshare", "--user", "--map-root-user")

_EVERYBODY = pytest.mark.parametrize(
    "family",
    [_ALL, _NET_ADMIN, _NO_KILL, _AMBIENT, _ORDINARY, _USER_NAMESPACE],
    ids=["root", "net admin", "no kill", "ambient", "ordinary", "user namespace"],
    indirect=True,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become others")


class Family:
    """A process and its child, which has given up everything."""

    def __init__(self, within: Sequence[str], package: Path) -> None:
        self.parent = subprocess.Popen(
            # Started without `env` between: that could be nobody who may start this Python.
            [*within, os.path.realpath(sys.executable), "-P", "-c", _PROGRAM],
            env={**make_environment(os.environ), "PYTHONPATH": str(package)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.child: Mapping[str, list[str]] = json.loads(self.read_line())

    def read_line(self) -> str:
        """Return the next line of either."""
        assert self.parent.stdout is not None
        assert select.select([self.parent.stdout], [], [], _ANSWER_S)[0], "nothing was said"
        return self.parent.stdout.readline()

    def end_child(self) -> int:
        """Let the parent end it; return its exit code."""
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        return int(self.read_line())

    def close(self) -> None:
        """End both."""
        self.parent.kill()
        self.parent.wait()
        for stream in (self.parent.stdin, self.parent.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def family(request: pytest.FixtureRequest, package: Path) -> Iterator[Family]:
    """A process that was started in one of the ways above, and its child."""
    family = Family(request.param, package)
    yield family
    family.close()


@pytest.mark.parametrize(
    ("family", "user"),
    [
        pytest.param(_ALL, 65534, id="root"),
        pytest.param(_NET_ADMIN, 0, id="root with NET_ADMIN alone"),
        pytest.param(_NO_KILL, 0, id="root without KILL"),
        pytest.param(_AMBIENT, 65532, id="ambient NET_ADMIN"),
        pytest.param(_ORDINARY, 1000, id="ordinary user"),
        pytest.param(_USER_NAMESPACE, 0, id="user namespace"),
    ],
    indirect=["family"],
)
def test_nothing_is_left(family: Family, user: int) -> None:
    """No capability in any set that counts, no way to get one, and nobody's user and group where
    its parent can still end it then."""
    status = family.child
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]
    assert (status["Uid"], status["Gid"]) == ([str(user)] * 4, [str(user)] * 4)


@pytest.mark.parametrize("family", [_ALL], ids=["root"], indirect=True)
def test_nobody_is_in_no_group_and_can_get_no_capability_back(family: Family) -> None:
    """Root can drop what bounds them, too."""
    assert family.child["Groups"] == []
    assert int(family.child["CapBnd"][0], 16) == 0


@_EVERYBODY
def test_its_parent_can_end_it(family: Family) -> None:
    """Whoever it has become."""
    assert family.end_child() == -signal.SIGKILL


@_EVERYBODY
def test_it_ends_with_its_parent(family: Family) -> None:
    """Killed without warning: nobody holds the other end of its output any more."""
    family.parent.kill()
    assert family.read_line() == ""


def test_it_ends_if_its_parent_has_ended_before() -> None:
    """The process that it has by then is not the one that forked it."""
    program = (
        "from paraglider.kernel.privileges import drop_privileges as drop; drop(parent=1 << 22)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print('still here')"],
        env=make_environment(os.environ),
        capture_output=True,
        timeout=_ANSWER_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def try_all(within: Sequence[str], package: Path) -> dict[str, str]:
    """Return the error, or '', of everything that a prober started like this tries."""
    done = subprocess.run(
        [*within, os.path.realpath(sys.executable), "-P", "-c", _TRY],
        env={**make_environment(os.environ), "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=_ANSWER_S,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout.strip())
    return found


_NEVER = (
    *("flock", "kill", "tgkill", "sigqueue", "pidfd_open", "pidfd_send_signal", "ptrace"),
    *("process_vm_readv", "io_uring_setup", "execve", "socketpair"),
)


@pytest.mark.parametrize(
    ("within", "unix"),
    [
        pytest.param(_ALL, "", id="root, whose prober is nobody"),
        pytest.param(_NET_ADMIN, "EAFNOSUPPORT", id="root with NET_ADMIN alone"),
        pytest.param(_AMBIENT, "EAFNOSUPPORT", id="the agent's user"),
    ],
)
def test_calls_that_a_prober_never_needs_are_refused(
    within: Sequence[str], unix: str, package: Path
) -> None:
    """And those that it needs are not: sockets of IPv4 and IPv6, names, threads."""
    found = try_all(within, package)
    assert found == {
        "unfiltered": "",
        **dict.fromkeys(_NEVER, "EPERM"),
        "unix": unix,
        **dict.fromkeys(("netlink", "packet"), "EAFNOSUPPORT"),
        **dict.fromkeys(("inet", "inet6", "a name", "a thread"), ""),
    }
