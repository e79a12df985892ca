"""The filter of system calls, run as the kernel would run it."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from paraglider.kernel.seccomp import find_machine, plan_filter, socket_families

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


def run_filter(program: bytes, *, architecture: int, number: int, argument: int = 0) -> int:
    """Return what the filter returns for a call: 0 for an allowed one, else the error number."""
    data = struct.pack("<IIQQ", number, architecture, 0, argument)
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
    for number in {*found.numbers.values(), execve} - {opening}:
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
