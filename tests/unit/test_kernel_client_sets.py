"""Client sets: what a failure of ipset means."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from paraglider.errors import NotHereError, ParagliderError, PermissionDenied, UnavailableError
from paraglider.kernel.client_sets import explain
from paraglider.kernel.process import Finished

_MODULES = "try modprobe -a ip_set ip_set_hash_ip xt_set"


@pytest.mark.parametrize(
    ("stderr", "error", "mend"),
    [
        ("Kernel error received: Operation not permitted", PermissionDenied, "NET_ADMIN"),
        ("Kernel error received: No such device", NotHereError, f"lacks sets: {_MODULES}"),
        ("Kernel error received: set type not supported", NotHereError, f"lacks sets: {_MODULES}"),
        # What older kernels answer where the module is missing.
        ("Kernel error received: Invalid argument", UnavailableError, f"may lack sets: {_MODULES}"),
        ("Cannot open session to kernel.", UnavailableError, f"may lack sets: {_MODULES}"),
        (
            "Kernel supports hash:ip type, family INET with minimal revision 9 while ipset program "
            "with maximal revision 6.\nYou need to upgrade your ipset program.",
            UnavailableError,
            "upgrade the older one",
        ),
        (
            "Set cannot be created: set with the same name already exists",
            UnavailableError,
            "ipset list -terse",
        ),
    ],
)
def test_a_failure_names_its_mend(stderr: str, error: type[ParagliderError], mend: str) -> None:
    """The capability, the modules, the versions, or where to look."""
    caught = explain(_failed(f"ipset v7.17: {stderr}"))
    assert type(caught) is error
    assert mend in str(caught).split("\n", 1)[1]


def test_another_failure_speaks_for_itself() -> None:
    """What was tried, and what came back."""
    said = "ipset v7.17: Kernel error received: Cannot allocate memory"
    assert str(explain(_failed(f"{said}\n"))) == f"affinity: ipset failed (list -name): {said}"


def _failed(stderr: str, argv: Sequence[str] = ("/usr/sbin/ipset", "list", "-name")) -> Finished:
    return Finished(tuple(argv), 1, "", stderr)
