"""Seccomp: the system calls that a prober never needs, refused by the kernel.

A prober that a stranger has taken over is, in some containers, the same user as the agent: it could
lock /run/xtables.lock, reach the admin socket, hold the names of the locks, end the agent, take its
processor, limit its files, and let the kernel send it signals. The filter refuses that; what it
refuses fails with EPERM, a socket of another family with EAFNOSUPPORT.

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
# struct seccomp_data; of an argument the low half, on little-endian machines: all that the kernel
# reads of an int.
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT, _ARGUMENT_BYTES = 0, 4, 16, 8
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
    "process_madvise": 440,
    "process_mrelease": 448,
}
_X86_64 = {
    "ioctl": 16,
    "socket": 41,
    "socketpair": 53,
    "execve": 59,
    "kill": 62,
    "fcntl": 72,
    "flock": 73,
    "ptrace": 101,
    "rt_sigqueueinfo": 129,
    "setpriority": 141,
    "sched_setparam": 142,
    "sched_setscheduler": 144,
    "tkill": 200,
    "sched_setaffinity": 203,
    "tgkill": 234,
    "ioprio_set": 251,
    "migrate_pages": 256,
    "move_pages": 279,
    "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298,
    "prlimit64": 302,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "sched_setattr": 314,
    "execveat": 322,
}
# asm-generic/unistd.h: aarch64, riscv64.
_GENERIC = {
    "fcntl": 25,
    "ioctl": 29,
    "ioprio_set": 30,
    "flock": 32,
    "ptrace": 117,
    "sched_setparam": 118,
    "sched_setscheduler": 119,
    "sched_setaffinity": 122,
    "kill": 129,
    "tkill": 130,
    "tgkill": 131,
    "rt_sigqueueinfo": 138,
    "setpriority": 140,
    "socket": 198,
    "socketpair": 199,
    "execve": 221,
    "migrate_pages": 238,
    "move_pages": 239,
    "rt_tgsigqueueinfo": 240,
    "perf_event_open": 241,
    "prlimit64": 261,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "sched_setattr": 274,
    "execveat": 281,
}
_ARM = {
    "execve": 11,
    "ptrace": 26,
    "kill": 37,
    "ioctl": 54,
    "fcntl": 55,
    "setpriority": 97,
    "flock": 143,
    "sched_setparam": 154,
    "sched_setscheduler": 156,
    "rt_sigqueueinfo": 178,
    "fcntl64": 221,
    "tkill": 238,
    "sched_setaffinity": 241,
    "tgkill": 268,
    "socket": 281,
    "socketpair": 288,
    "ioprio_set": 314,
    "move_pages": 344,
    "rt_tgsigqueueinfo": 363,
    "perf_event_open": 364,
    "prlimit64": 369,
    "process_vm_readv": 376,
    "process_vm_writev": 377,
    "kcmp": 378,
    "sched_setattr": 380,
    "execveat": 387,
    "migrate_pages": 400,
}


@dataclass(frozen=True, slots=True)
class ArgumentRule:
    """A call of which the argument at `position` decides: values of `refused` are refused, or, with
    `only`, all but that one."""

    position: int
    refused: Sequence[int] = ()
    only: int | None = None


# fcntl.h, asm-generic/fcntl.h: F_SETOWN, F_SETSIG and F_SETOWN_EX let the kernel send signals to
# another process; F_SETLEASE delays processes that open the agent's files.
_FCNTL = ArgumentRule(1, refused=(8, 10, 15, 1024))
ARGUMENT_RULES = {
    "fcntl": _FCNTL,
    "fcntl64": _FCNTL,
    "ioctl": ArgumentRule(1, refused=(0x8901, 0x8902)),  # FIOSETOWN, SIOCSPGRP: as F_SETOWN
    "prlimit64": ArgumentRule(0, only=0),  # its own limits; glibc's getrlimit says 0
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
    `families` and what ARGUMENT_RULES leaves; so are calls of another architecture
    (32-bit x86, x32)."""
    refuse = _make(_RETURN, _REFUSE | errno.EPERM)
    allow = _make(_RETURN, _ALLOW)
    program = [_make(_LOAD, _ARCHITECTURE_AT), _make(_IF_EQUAL, machine.architecture, 1, 0), refuse]
    program.append(_make(_LOAD, _NUMBER_AT))
    if machine.has_x32:
        program += [_make(_IF_AT_LEAST, _X32_BIT, 0, 1), refuse]
    for name, number in machine.numbers.items():
        if name in ARGUMENT_RULES:
            decision = _decide_by_argument(ARGUMENT_RULES[name], refuse=refuse, allow=allow)
            program += [_make(_IF_EQUAL, number, 0, len(decision)), *decision]
        elif name != "socket":
            program += [_make(_IF_EQUAL, number, 0, 1), refuse]
    sockets = [_make(_LOAD, _FIRST_ARGUMENT_AT)]
    for family in families:
        sockets += [_make(_IF_EQUAL, family, 0, 1), allow]
    sockets.append(_make(_RETURN, _REFUSE | errno.EAFNOSUPPORT))
    program.append(_make(_IF_EQUAL, machine.numbers["socket"], 0, len(sockets)))
    return b"".join([*program, *sockets, allow])


def _decide_by_argument(rule: ArgumentRule, *, refuse: bytes, allow: bytes) -> list[bytes]:
    steps = [_make(_LOAD, _FIRST_ARGUMENT_AT + _ARGUMENT_BYTES * rule.position)]
    if rule.only is not None:
        return [*steps, _make(_IF_EQUAL, rule.only, 0, 1), allow, refuse]
    for value in rule.refused:
        steps += [_make(_IF_EQUAL, value, 0, 1), refuse]
    return [*steps, allow]


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
