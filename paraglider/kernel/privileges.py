"""Privileges: how a child that shall only talk with strangers gives up all of its own.

What it may become without being out of its parent's reach is for its capabilities to say; that none
is left is looked up afterwards, not believed. System calls that it never needs are refused from
then on (seccomp.py). Never call it in the agent itself.
"""

from __future__ import annotations

import contextlib
import os
import signal

from paraglider.errors import PermissionDenied
from paraglider.kernel import seccomp
from paraglider.kernel.host import Host

_NOBODY = 65534

# linux/prctl.h, linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7
_CAP_LAST = 63
_CAPABILITY_VERSION_3 = 0x20080522

# All that are in force or could come to be: what is left in the bounding set cannot, without a
# program that brings it, and no_new_privs is against that.
_SETS = ("CapEff", "CapPrm", "CapInh", "CapAmb")


def drop_privileges(*, parent: int) -> str:
    """Become nobody where that may be, lose all capabilities for good, refuse system calls that a
    prober never needs, and die with the parent. Return why no calls are refused, '' where they are.

    Call it in a process that was just forked; `parent` is the process that forked it: where that
    has ended, so does this. Raises PermissionDenied where any capability is left, OSError where
    nobody can tell.
    """
    import ctypes  # here alone, in a child: it costs a megabyte

    libc = ctypes.CDLL(None, use_errno=True)

    def control(option: int, value: int = 0) -> None:
        # prctl(2) reads unsigned long. What fails is not there, or is seen below.
        libc.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0)))

    for capability in range(_CAP_LAST + 1):
        control(_PR_CAPBSET_DROP, capability)
    _become_nobody()
    control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
    control(_PR_SET_NO_NEW_PRIVS, 1)
    control(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after setresuid, which takes it back
    if os.getppid() != parent:
        os._exit(0)
    status = _read_status()
    if left := [f"{name} {status[name]}" for name in _SETS if int(status[name], 16)]:
        raise PermissionDenied(
            f"cannot give up capabilities: {', '.join(left)} are left; what keeps the kernel from "
            "it is not known here: please report it"
        )
    if status["NoNewPrivs"] != "1":
        raise PermissionDenied("cannot give up what set-user-ID programs give: no_new_privs is off")
    name = os.uname().machine
    machine = seccomp.find_machine(name, pointer_bytes=ctypes.sizeof(ctypes.c_void_p))
    if machine is None:
        return f"the system calls of {name} are not known here"
    families = seccomp.socket_families(is_trusted=os.geteuid() != _NOBODY)
    if not seccomp.install_filter(libc, seccomp.plan_filter(machine, families)):
        return "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"
    return ""


def _become_nobody() -> None:
    """Change user and groups, but not to where the parent, who can do what this process can, may
    not end it any more."""
    if not all(map(Host().has_capability, (_CAP_KILL, _CAP_SETGID, _CAP_SETUID))):
        return
    # In a user namespace there may be no nobody, or no other groups; then there is no need either.
    with contextlib.suppress(OSError):
        os.setgroups([])
    with contextlib.suppress(OSError):
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    with contextlib.suppress(OSError):
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _read_status() -> dict[str, str]:
    """Return what proc(5) says of this process: ``CapEff:\\t00000000a80425fb``."""
    with open("/proc/self/status", encoding="utf-8") as file:
        pairs = [line.partition(":") for line in file]
    return {name: value.strip() for name, _, value in pairs}
