"""Seccomp: the system calls that a prober never needs, refused by the kernel.

A prober that a stranger has taken over is, in some containers, the same user as the agent: it could
lock /run/xtables.lock, reach the admin socket, hold the names of the locks, and end the agent. The
filter refuses that; what it refuses fails with EPERM, a socket of another family with EAFNOSUPPORT.

Pure but for `install_filter`. Numbers are those of asm/unistd.h, constants those of
linux/seccomp.h, linux/filter.h and linux/audit.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000  # SECCOMP_RET_ERRNO, with the error number in the low half
_X32_BIT = 0x40000000
# struct seccomp_data; of the first argument the low half, on little-endian machines.
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_INSTRUCTION = struct.Struct("HBBI")  # struct sock_filter

# The same on every machine, since Linux 5.1 numbers new calls once.
_COMMON = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
}
_X86_64 = {
    "socket": 41,
    "socketpair": 53,
    "execve": 59,
    "kill": 62,
    "flock": 73,
    "ptrace": 101,
    "rt_sigqueueinfo": 129,
    "tkill": 200,
    "tgkill": 234,
    "rt_tgsigqueueinfo": 297,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "execveat": 322,
}
# asm-generic/unistd.h: aarch64, riscv64.
_GENERIC = {
    "flock": 32,
    "ptrace": 117,
    "kill": 129,
    "tkill": 130,
    "tgkill": 131,
    "rt_sigqueueinfo": 138,
    "socket": 198,
    "socketpair": 199,
    "execve": 221,
    "rt_tgsigqueueinfo": 240,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "execveat": 281,
}
_ARM = {
    "execve": 11,
    "ptrace": 26,
    "kill": 37,
    "flock": 143,
    "rt_sigqueueinfo": 178,
    "tkill": 238,
    "tgkill": 268,
    "socket": 281,
    "socketpair": 288,
    "rt_tgsigqueueinfo": 363,
    "process_vm_readv": 376,
    "process_vm_writev": 377,
    "execveat": 387,
}


@dataclass(frozen=True, slots=True)
class Machine:
    """How a machine numbers its system calls: AUDIT_ARCH_..., and the numbers by name."""

    architecture: int
    numbers: Mapping[str, int]
    has_x32: bool = False


def find_machine(name: str, *, pointer_bytes: int) -> Machine | None:
    """Return the machine that uname(2) names, for programs of that pointer size; None where its
    numbers are not known here.

    A 32-bit program on a 64-bit kernel, as in a container for armhf, is told ``aarch64``.
    """
    match name, pointer_bytes:
        case "x86_64", 8:
            return Machine(0xC000003E, _X86_64 | _COMMON, has_x32=True)
        case "aarch64", 8:
            return Machine(0xC00000B7, _GENERIC | _COMMON)
        case "riscv64", 8:
            return Machine(0xC00000F3, _GENERIC | _COMMON)
        case (("aarch64" | "armv6l" | "armv7l" | "armv8l"), 4):
            return Machine(0x40000028, _ARM | _COMMON)
    return None


def plan_filter(machine: Machine, families: Sequence[int]) -> bytes:
    """Return the BPF program: calls of `machine.numbers` are refused, but for sockets of
    `families`; so are calls of another architecture (32-bit x86, x32)."""
    refuse = _make(_RETURN, _REFUSE | errno.EPERM)
    allow = _make(_RETURN, _ALLOW)
    program = [_make(_LOAD, _ARCHITECTURE_AT), _make(_IF_EQUAL, machine.architecture, 1, 0), refuse]
    program.append(_make(_LOAD, _NUMBER_AT))
    if machine.has_x32:
        program += [_make(_IF_AT_LEAST, _X32_BIT, 0, 1), refuse]
    for name, number in machine.numbers.items():
        if name != "socket":
            program += [_make(_IF_EQUAL, number, 0, 1), refuse]
    sockets = [_make(_LOAD, _FIRST_ARGUMENT_AT)]
    for family in families:
        sockets += [_make(_IF_EQUAL, family, 0, 1), allow]
    sockets.append(_make(_RETURN, _REFUSE | errno.EAFNOSUPPORT))
    program.append(_make(_IF_EQUAL, machine.numbers["socket"], 0, len(sockets)))
    return b"".join([*program, *sockets, allow])


def socket_families(*, is_trusted: bool) -> Sequence[int]:
    """Return the families that a prober may use: of those, unix sockets only where its user is
    nobody whom the agent or its locks would trust. There, names of hosts may come through them
    (avahi, sssd)."""
    internet = (socket.AF_INET, socket.AF_INET6)
    return internet if is_trusted else (*internet, socket.AF_UNIX)


def install_filter(libc: ctypes.CDLL, program: bytes) -> bool:
    """Filter the calls of this process and its later threads, for good; return False where the
    kernel cannot. no_new_privs must be set."""
    import ctypes  # as in privileges.py: in a child alone

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    filled = Program(len(program) // _INSTRUCTION.size, program)
    none = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    done = libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(filled), none, none)
    return int(done) == 0


def _make(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, value)
