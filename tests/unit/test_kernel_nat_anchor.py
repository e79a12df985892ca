"""The NAT anchor: what a failure of nft means."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from paraglider.config.model import Family
from paraglider.errors import ParagliderError, PermissionDenied, UnavailableError
from paraglider.kernel.nat_anchor import NatAnchor
from paraglider.kernel.process import Finished

_MODULES = "the kernel lacks a module: try modprobe -a nf_tables nft_chain_nat nft_ct"
_NO_FILE = "Error: Could not process rule: No such file or directory\ndelete table ip paraglider"


def _failing(stderr: str) -> NatAnchor:
    def run(argv: Sequence[str], **_: object) -> Finished:
        is_there = argv[1] == "list" and not stderr.startswith("netlink")
        return Finished(tuple(argv), 0 if is_there else 1, "", "" if is_there else stderr)

    return NatAnchor(Family.IPV4, "/usr/sbin/nft", run)


@pytest.mark.parametrize(
    ("stderr", "error", "mend"),
    [
        pytest.param(
            "netlink: Error: cache initialization failed: Operation not permitted",
            PermissionDenied,
            "docker run --cap-add=NET_ADMIN",
            id="no permission",
        ),
        pytest.param(
            "netlink: Error: cache initialization failed: Invalid argument",
            UnavailableError,
            _MODULES,
            id="no nf_tables",
        ),
        pytest.param(_NO_FILE, UnavailableError, _MODULES, id="no type of chain"),
    ],
)
def test_a_failure_names_its_mend(stderr: str, error: type[ParagliderError], mend: str) -> None:
    """The capability, or the modules."""
    with pytest.raises(error) as caught:
        _failing(stderr).put([])
    assert str(caught.value).split("\n")[1:] in ([mend], [f"run as root, or {mend}"])


def test_another_failure_speaks_for_itself() -> None:
    """What was done, to which table, and what nft printed."""
    with pytest.raises(UnavailableError) as caught:
        _failing("Error: Could not process rule: Cannot allocate memory").put([])
    reason = "nft could not change table paraglider: Error: Could not process rule: "
    assert str(caught.value) == f"{reason}Cannot allocate memory"


def test_a_table_that_is_gone_already_is_no_missing_module() -> None:
    """Another program has deleted it first."""
    with pytest.raises(UnavailableError, match="could not delete table paraglider") as caught:
        _failing(_NO_FILE).remove()
    assert "modprobe" not in str(caught.value)
