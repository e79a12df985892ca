"""iptables: what its failures mean to a user."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from paraglider.config.model import Family
from paraglider.errors import (
    LockHeldError,
    NotHereError,
    ParagliderError,
    PermissionDenied,
    UnavailableError,
)
from paraglider.kernel.iptables import LOCK_WAIT_S, Iptables, Variant
from paraglider.kernel.process import Finished


def _failing(stderr: str, returncode: int, variant: Variant = Variant.NFT) -> Iptables:
    def run(argv: Sequence[str], **_: object) -> Finished:
        return Finished(tuple(argv), returncode, "", stderr)

    return Iptables(variant, Family.IPV4, "iptables-save", "/usr/sbin/iptables-restore", run)


_NFT = "iptables-nft-restore v1.8.9 (nf_tables): "
_MODULES = "the kernel may lack a module: try modprobe -a xt_conntrack"
_AGAIN = "see what else changes the host's rules, then try again"


# What iptables 1.8.9 prints, legacy and nft; exit code 4 is a lock, a lock file, a permission, and
# whatever nf_tables refuses.
@pytest.mark.parametrize(
    ("stderr", "returncode", "error", "mend"),
    [
        pytest.param(
            "iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: "
            "Permission denied (you must be root)",
            4,
            PermissionDenied,
            "iptables (nft) needs NET_ADMIN: run as root, or docker run --cap-add=NET_ADMIN",
            id="no permission",
        ),
        pytest.param(
            "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is "
            "currently holding the xtables lock. Stopped waiting after 10s.",
            4,
            LockHeldError,
            "see which one with 'fuser -v /run/xtables.lock', then try again",
            id="lock held",
        ),
        pytest.param(
            "Fatal: can't open lock file /run/xtables.lock: Read-only file system",
            4,
            UnavailableError,
            "docker run -v /run/xtables.lock:/run/xtables.lock",
            id="lock file unusable",
        ),
        pytest.param(
            "Fatal: can't open lock file /run/xtables.lock: Is a directory",
            4,
            UnavailableError,
            "run 'rmdir /run/xtables.lock && touch /run/xtables.lock'",
            id="lock file is a directory",
        ),
        pytest.param(
            "iptables-restore v1.8.9 (legacy): Couldn't load match `statistic':No such file or "
            "directory\n\nError occurred at line: 2\nTry `iptables-restore -h' or "
            "'iptables-restore --help' for more information.",
            2,
            UnavailableError,
            "'statistic' is missing in iptables: install the whole package 'iptables'",
            id="match missing in iptables",
        ),
        pytest.param(
            "iptables-restore v1.8.9 (legacy): Couldn't load match `statistic':Operation not "
            "supported\n\nError occurred at line: 2",
            2,
            UnavailableError,
            "'statistic' is missing in the kernel: try modprobe -a xt_statistic",
            id="match missing in the kernel, legacy",
        ),
        pytest.param(
            "Warning: Extension statistic revision 0 not supported, missing kernel module?\n"
            f"{_NFT}\nline 2: RULE_APPEND failed (No such file or directory): rule in chain "
            "PARAGLIDER-web",
            4,
            UnavailableError,
            "'statistic' is missing in the kernel: try modprobe -a xt_statistic",
            id="match missing in the kernel",
        ),
        pytest.param(
            "Warning: Extension DNAT revision 0 not supported, missing kernel module?\n"
            f"{_NFT}\nline 2: RULE_APPEND failed (No such file or directory): rule in chain X",
            4,
            UnavailableError,
            "'DNAT' is missing in the kernel: try modprobe -a xt_nat",
            id="target in a module of another name",
        ),
        pytest.param(
            f"{_NFT}\nline 2: CHAIN_ADD failed (Operation not supported): chain PREROUTING",
            4,
            UnavailableError,
            _MODULES,
            id="type of chain missing in the kernel",
        ),
        pytest.param(
            "iptables-save v1.8.9 (nf_tables): Failed to initialize nft: Protocol not supported",
            1,
            NotHereError,
            "the kernel lacks nf_tables, or this address family",
            id="no nf_tables",
        ),
        pytest.param(
            "iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: "
            "Invalid argument",
            4,
            NotHereError,
            "the kernel lacks nf_tables, or this address family",
            id="no nf_tables, older kernel",
        ),
        pytest.param(
            "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'",
            2,
            UnavailableError,
            "the kernel lacks this table, or this process may not read it: "
            "try modprobe iptable_nat",
            id="no table",
        ),
        pytest.param(
            "iptables-restore: No chain/target/match by that name.",
            1,
            UnavailableError,
            f"another program has deleted a chain ({_AGAIN}), or {_MODULES}",
            id="something missing",
        ),
        pytest.param(
            "iptables-restore v1.8.9 (legacy): Couldn't load target `PARAGLIDER-x':No such file or "
            "directory",
            2,
            UnavailableError,
            f"another program has deleted this chain: {_AGAIN}",
            id="a chain that somebody removed meanwhile",
        ),
        pytest.param(
            "iptables-restore v1.8.9 (legacy): Set PARAGLIDER-x doesn't exist.",
            2,
            UnavailableError,
            f"another program has destroyed this set: {_AGAIN}",
            id="a set that somebody removed meanwhile",
        ),
        pytest.param(
            f"{_NFT}\nline 3: CHAIN_DEL failed (Device or resource busy): chain PARAGLIDER-web",
            4,
            UnavailableError,
            "rules of another program are in it or lead to it: find them with "
            "'iptables-save | grep -e PARAGLIDER-web'",
            id="chain in use",
        ),
        pytest.param(
            f"{_NFT}\nline 2: RULE_APPEND failed (Invalid argument): rule in chain PARAGLIDER-web",
            4,
            UnavailableError,
            "the kernel does not take this rule: 'dmesg' may say why",
            id="rule refused",
        ),
        pytest.param(
            "iptables-restore: line 3 failed",
            1,
            UnavailableError,
            "iptables gives no reason; if the kernel refused the line, 'dmesg' may",
            id="legacy gives no reason",
        ),
    ],
)
def test_a_failure_names_its_mend(
    stderr: str, returncode: int, error: type[ParagliderError], mend: str
) -> None:
    """Each failure becomes the error of its exit code, and says what to do."""
    with pytest.raises(error) as caught:
        _failing(stderr, returncode).read_state()
    assert mend in str(caught.value)


@pytest.mark.parametrize(
    ("stderr", "returncode", "came_back"),
    [
        pytest.param("", 4, "failed with exit code 4: no message", id="nothing printed"),
        pytest.param("", -9, "was ended by SIGKILL: no message", id="killed"),
        pytest.param(
            f"{_NFT}\nline 2: RULE_APPEND failed (Cannot allocate memory): rule in chain X",
            4,
            "failed with exit code 4: line 2: RULE_APPEND failed (Cannot allocate memory): rule in "
            "chain X",
            id="no memory",
        ),
        pytest.param(
            "Fatal: can't open lock file /run/xtables.lock: Too many open files",
            4,
            "failed with exit code 4: Fatal: can't open lock file /run/xtables.lock: Too many open "
            "files",
            id="lock file, no descriptor",
        ),
        pytest.param(
            "Can't lock /run/xtables.lock: No locks available\nAnother app is currently holding "
            "the xtables lock. Stopped waiting after 10s.",
            4,
            "failed with exit code 4: Can't lock /run/xtables.lock: No locks available Another app "
            "is currently holding the xtables lock. Stopped waiting after 10s.",
            id="lock file that cannot be locked",
        ),
    ],
)
def test_an_unknown_cause_gets_no_mend(stderr: str, returncode: int, came_back: str) -> None:
    """The message is what was tried and what came back."""
    with pytest.raises(UnavailableError) as caught:
        _failing(stderr, returncode).read_state()
    assert not isinstance(caught.value, LockHeldError)
    assert str(caught.value) == f"'iptables-save --counters' {came_back}"


def test_a_failure_shows_the_lines_around_the_one_it_names() -> None:
    """The numbered neighbours of the line that iptables-restore could not take."""
    text = "*nat\n-A PARAGLIDER-web -j A\n-A PARAGLIDER-web -j B\nCOMMIT\n"
    tools = _failing("iptables-restore: line 2 failed", 1)
    with pytest.raises(UnavailableError, match="line 2 failed\n") as caught:
        tools.apply_restore(text)
    assert "\n      1 *nat\n>     2 -A PARAGLIDER-web -j A\n      3 -A" in str(caught.value)


def test_iptables_restore_is_told_to_leave_others_alone_and_to_wait() -> None:
    """--noflush keeps what is not ours; --counters keeps totals; --wait takes turns."""
    seen: list[tuple[Sequence[str], str]] = []

    def run(argv: Sequence[str], *, text: str = "", **_: object) -> Finished:
        seen.append((argv, text))
        return Finished(tuple(argv), 0, "", "")

    tools = Iptables(Variant.NFT, Family.IPV4, "save", "restore", run)
    tools.test_restore("a")
    tools.apply_restore("b")
    options = ["restore", "--noflush", "--counters", "--wait", str(LOCK_WAIT_S)]
    assert seen == [([*options, "--test"], "a"), (options, "b")]
