"""The filter of system calls, run as the kernel would run it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable

import pytest

from paraglider.kernel.seccomp import (
    ARGUMENT_RULES,
    find_machine,
    install_filter,
    plan_filter,
    socket_families,
)

_ALLOWED = 0x7FFF0000
_MACHINES = [("x86_64", 8), ("aarch64", 8), ("riscv64", 8), ("armv7l", 4), ("aarch64", 4)]
# execve and socket of each machine (asm/unistd.h), and a call that every program makes: read.
_KNOWN = {
    ("x86_64", 8): (59, 41, 0),
    ("aarch64", 8): (221, 198, 63),
    ("riscv64", 8): (221, 198, 63),
    ("armv7l", 4): (11, 281, 3),
    ("aarch64", 4): (11, 281, 3),
}


def run_filter(
    program: bytes, *, architecture: int, number: int, argument: int = 0, second: int = 0
) -> int:
    """Return what the filter returns for a call: 0 for an allowed one, else the error number."""
    data = struct.pack("<IIQQQ", number, architecture, 0, argument, second)
    steps = list(struct.iter_unpack("HBBI", program))
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_true if loaded == value else if_false
            case 0x35:
                at += if_true if loaded >= value else if_false
            case 0x06:
                return 0 if value == _ALLOWED else value & 0xFFFF


@pytest.mark.parametrize("machine", _MACHINES, ids=str)
def test_what_is_listed_is_refused_and_the_rest_is_not(machine: tuple[str, int]) -> None:
    """On every machine; of sockets, by their family."""
    name, pointer_bytes = machine
    found = find_machine(name, pointer_bytes=pointer_bytes)
    assert found is not None
    program = plan_filter(found, socket_families(is_trusted=True))
    architecture = found.architecture
    execve, opening, reading = _KNOWN[machine]
    by_argument = {found.numbers[name] for name in ARGUMENT_RULES if name in found.numbers}
    for number in {*found.numbers.values(), execve} - {opening} - by_argument:
        assert run_filter(program, architecture=architecture, number=number) == errno.EPERM
    assert run_filter(program, architecture=architecture, number=reading) == 0
    families = {
        family: run_filter(program, architecture=architecture, number=opening, argument=family)
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK)
    }
    assert families == {
        socket.AF_INET: 0,
        socket.AF_INET6: 0,
        socket.AF_UNIX: errno.EAFNOSUPPORT,
        socket.AF_NETLINK: errno.EAFNOSUPPORT,
    }


@pytest.mark.parametrize("machine", _MACHINES, ids=str)
def test_some_calls_are_refused_by_an_argument(machine: tuple[str, int]) -> None:
    """Limits of another process, and signals that the kernel would send to one; nothing else, and
    whatever stands in the high half, which the kernel does not read."""
    found = find_machine(machine[0], pointer_bytes=machine[1])
    assert found is not None
    program = plan_filter(found, ())

    def ask(name: str, first: int, second: int) -> int:
        number, architecture = found.numbers[name], found.architecture
        return run_filter(
            program, architecture=architecture, number=number, argument=first, second=second
        )

    assert (ask("prlimit64", 0, 7), ask("prlimit64", 4711, 7)) == (0, errno.EPERM)
    high = 1 << 32
    for name in {"fcntl", "fcntl64"} & set(found.numbers):
        allowed = [fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, 1030]
        assert {ask(name, 3, command) for command in allowed} == {0}
        for command in (8, 10, 15, 1024, 8 + high):
            assert ask(name, 3, command) == errno.EPERM
    assert {ask("ioctl", 3, request) for request in (0x541B, 0x5421)} == {0}  # FIONREAD, FIONBIO
    assert {ask("ioctl", 3, request) for request in (0x8901, 0x8902)} == {errno.EPERM}


def run_filtered(try_all: Callable[[], bool]) -> bool:
    """Return what `try_all` does in a child under this machine's filter."""
    machine = find_machine(os.uname().machine, pointer_bytes=ctypes.sizeof(ctypes.c_void_p))
    assert machine is not None
    child = os.fork()
    if child == 0:
        status = 2
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            libc.prctl(38, *(ctypes.c_ulong(number) for number in (1, 0, 0, 0)))  # no_new_privs
            if install_filter(libc, plan_filter(machine, socket_families(is_trusted=True))):
                status = 0 if try_all() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def is_refused(call: Callable[[], object]) -> bool:
    """Return whether the call fails with EPERM."""
    try:
        call()
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def test_a_filtered_child_reaches_no_other_process() -> None:
    """Each call is really made, at the parent, which has the same user and could be reached."""
    parent = os.getpid()
    owner = struct.pack("ii", 1, parent)  # struct f_owner_ex: F_OWNER_PID

    def try_all() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            number = opened.fileno()
            pid = struct.pack("i", parent)
            return all(
                map(
                    is_refused,
                    [
                        lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
                        lambda: fcntl.fcntl(number, fcntl.F_SETOWN, parent),
                        lambda: fcntl.fcntl(number, fcntl.F_SETSIG, signal.SIGURG),
                        lambda: fcntl.fcntl(number, 15, owner),
                        lambda: fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_RDLCK),
                        lambda: fcntl.ioctl(number, 0x8901, pid),
                        lambda: fcntl.ioctl(number, 0x8902, pid),
                        lambda: os.kill(parent, 0),
                        lambda: os.setpriority(os.PRIO_PROCESS, parent, 5),
                        lambda: os.sched_setaffinity(parent, {0}),
                    ],
                )
            )

    assert run_filtered(try_all)


def test_a_filtered_child_makes_the_calls_of_a_prober() -> None:
    """Its own limits, sockets that do not wait, and looking up a name."""

    def try_all() -> bool:
        resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
            opened.setblocking(False)
            opened.settimeout(0.1)
            fcntl.fcntl(opened.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        return bool(socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))

    assert run_filtered(try_all)


def test_calls_of_another_architecture_are_refused() -> None:
    """A 64-bit program may make 32-bit calls (int 0x80) and those of x32, with other numbers."""
    machine = find_machine("x86_64", pointer_bytes=8)
    assert machine is not None
    program = plan_filter(machine, (socket.AF_INET,))
    for architecture, number in ((0x40000003, 3), (0xC000003E, 0x40000000), (0xC000003E, 1 << 31)):
        refused = run_filter(program, architecture=architecture, number=number)
        assert refused == errno.EPERM


def test_a_machine_whose_numbers_are_not_known_has_no_filter() -> None:
    """32-bit x86 multiplexes its sockets; nobody has asked for the others."""
    for name, pointer_bytes in (("i686", 4), ("x86_64", 4), ("ppc64le", 8)):
        assert find_machine(name, pointer_bytes=pointer_bytes) is None
