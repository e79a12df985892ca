"""Why a lab cannot be had on this machine, and what mends it.

Decides from what was read; starts nothing and changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from paraglider.errors import PermissionDenied, UnavailableError

# Debian's and Ubuntu's names for the packages that the lab's programs come from.
PACKAGES = {"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2"}

APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"
DEBIAN = "kernel.unprivileged_userns_clone"
LIMIT = "user.max_user_namespaces"


def require_programs(
    programs: Sequence[str], *, path: str, which: Callable[..., str | None] = shutil.which
) -> None:
    """Raise UnavailableError, naming the packages, unless all the programs are on the path."""
    missing = [program for program in programs if which(program, path=path) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[program] for program in missing}))
        raise UnavailableError(
            f"The lab needs {', '.join(missing)}, not found in {path}; "
            f"on Debian and Ubuntu: apt install {packages}"
        )


def read_setting(name: str) -> str | None:
    """Return a sysctl's value, or None where this kernel has no such setting."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return None


def explain_refusal(
    answer: str,
    *,
    user_namespace: bool,
    is_root: bool,
    read: Callable[[str], str | None] = read_setting,
) -> PermissionDenied:
    """Return the error for namespaces that the kernel refused; `answer` is what unshare said."""
    said = answer.strip() or "no reason given"
    if not user_namespace:
        return PermissionDenied(
            f"Making the lab's namespaces as root was refused: {said}. "
            "CAP_SYS_ADMIN is missing; in a container, start it with --privileged, "
            "or run this on the host itself"
        )
    if read(LIMIT) == "0":
        mend = f"{LIMIT} is 0; allow them: sysctl -w {LIMIT}=10000"
    elif not is_root and read(DEBIAN) == "0":
        mend = f"{DEBIAN} is 0; allow them: sysctl -w {DEBIAN}=1"
    elif not is_root and read(APPARMOR) == "1":
        mend = f"AppArmor restricts them ({APPARMOR} is 1); allow them: sysctl -w {APPARMOR}=0"
    else:
        mend = "something on this machine forbids user namespaces (a container's seccomp filter?)"
    return PermissionDenied(
        f"Making the lab's user namespace was refused: {said}. {mend}, or run this as root"
    )
