"""netlink: which error an errno becomes."""

from __future__ import annotations

import errno
import os

import pytest

from paraglider.errors import PermissionDenied, UnavailableError
from paraglider.kernel.netlink import NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES, explain

CONNTRACK, NFTABLES = NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
@pytest.mark.parametrize("subsystem", [None, CONNTRACK, NFTABLES])
def test_a_missing_right_names_the_capability(number: int, subsystem: int | None) -> None:
    """Whatever was asked."""
    error = explain("do it", number, subsystem)
    assert isinstance(error, PermissionDenied)
    assert "--cap-add=NET_ADMIN" in str(error)


@pytest.mark.parametrize(
    ("subsystem", "number", "modules"),
    [
        (None, errno.EPROTONOSUPPORT, "nfnetlink"),
        (CONNTRACK, errno.ENODEV, "nf_conntrack_netlink"),
        (CONNTRACK, errno.EOPNOTSUPP, "nf_conntrack_netlink"),
        (CONNTRACK, errno.EINVAL, "nf_conntrack_netlink"),
        (NFTABLES, errno.ENODEV, "nf_tables nft_chain_nat nft_ct"),
        (NFTABLES, errno.EOPNOTSUPP, "nf_tables nft_chain_nat nft_ct"),
        (NFTABLES, errno.ENOENT, "nf_tables nft_chain_nat nft_ct"),
    ],
)
def test_a_missing_subsystem_names_its_modules(
    subsystem: int | None, number: int, modules: str
) -> None:
    """Those of the subsystem that was asked. Older kernels answer EINVAL."""
    error = explain("do it", number, subsystem)
    assert isinstance(error, UnavailableError)
    assert str(error).endswith(f"try modprobe -a {modules}")


@pytest.mark.parametrize(
    "number",
    [errno.ENOMEM, errno.ENOBUFS, errno.EBUSY, errno.EINTR, errno.ERANGE, errno.EEXIST],
)
@pytest.mark.parametrize("subsystem", [None, CONNTRACK, NFTABLES])
def test_any_other_errno_speaks_for_itself(number: int, subsystem: int | None) -> None:
    """No module would mend it."""
    error = explain("do it", number, subsystem)
    assert isinstance(error, UnavailableError)
    assert str(error) == f"cannot do it: {os.strerror(number)}"


def test_a_lack_of_file_descriptors_names_the_limit() -> None:
    """The socket could not be opened."""
    assert "ulimit -n" in str(explain("open a netlink socket", errno.EMFILE))
