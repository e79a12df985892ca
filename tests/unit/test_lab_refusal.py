"""What is said where there can be no lab."""

from __future__ import annotations

import pytest

from paraglider.errors import UnavailableError
from paraglider.lab import refusal
from paraglider.lab.refusal import explain_refusal, require_programs


def read_nothing(_name: str) -> str | None:
    """Read a sysctl on a kernel that has none of them."""
    return None


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({refusal.LIMIT: "0"}, "sysctl -w user.max_user_namespaces=10000"),
        ({refusal.DEBIAN: "0"}, "sysctl -w kernel.unprivileged_userns_clone=1"),
        ({refusal.APPARMOR: "1"}, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        ({}, "seccomp"),
    ],
)
def test_refused_user_namespace_names_the_mend(settings: dict[str, str], mend: str) -> None:
    error = explain_refusal(
        "unshare: unshare failed: Operation not permitted\n",
        user_namespace=True,
        is_root=False,
        read=settings.get,
    )
    assert mend in str(error)


def test_refusal_keeps_what_the_kernel_said() -> None:
    said = "unshare: unshare failed: Operation not permitted\n"
    error = explain_refusal(said, user_namespace=True, is_root=False, read=read_nothing)
    assert said.strip() in str(error)


def test_refused_root_lacks_a_capability() -> None:
    error = explain_refusal("", user_namespace=False, is_root=True, read=read_nothing)
    assert "CAP_SYS_ADMIN" in str(error)


def test_refusal_means_exit_code_77() -> None:
    assert (
        explain_refusal("", user_namespace=True, is_root=False, read=read_nothing).exit_code == 77
    )


def test_missing_programs_name_their_packages() -> None:
    def which(program: str, *, path: str) -> str | None:
        return None if program in ("ip", "unshare", "nsenter") else f"{path}/{program}"

    with pytest.raises(UnavailableError, match=r"apt install iproute2 util-linux$"):
        require_programs(["unshare", "nsenter", "ip", "mount"], path="/bin", which=which)


def test_present_programs_are_no_error() -> None:
    require_programs(["ip"], path="/bin", which=lambda program, *, path: f"{path}/{program}")
