"""Who the agent of the container is, by what process 1 has (image/agent_user.py)."""

from __future__ import annotations

import stat
from pathlib import Path

from image.agent_user import choose_user, share_lock

ALL = frozenset({"kill", "setuid", "setpcap", "net_admin", "net_raw"})


def test_with_all_capabilities_it_is_a_user_and_the_others_are_taken_away() -> None:
    """The bounding set goes too, and nobody needs to be told."""
    command, note = choose_user(ALL - {"net_raw"})
    assert " ".join(command) == (
        "setpriv --no-new-privs --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin "
        "--bounding-set=-all,+net_admin --reuid=65532 --keep-groups"
    )
    assert note == ""


def test_without_setpcap_the_bounding_set_stays() -> None:
    """To ask for it would be an error, and no agent."""
    command, _ = choose_user(ALL - {"setpcap"})
    assert not [word for word in command if "bounding" in word]
    assert "--inh-caps=-all,+net_admin,+net_raw" in command


def test_it_stays_root_where_process_1_could_not_signal_it() -> None:
    """What is missing is named, and nothing else."""
    command, note = choose_user(ALL - {"kill", "net_raw"})
    assert "--reuid=65532" not in command
    assert note == (
        "the agent runs as root, with NET_ADMIN: --cap-add=KILL would give it a user of its own"
    )


def test_it_stays_root_where_the_lock_is_for_root_alone() -> None:
    """The reason is the lock's."""
    command, note = choose_user(ALL, lock_refused="the lock is for its owner alone")
    assert "--reuid=65532" not in command
    assert (
        note
        == "the agent runs as root, with NET_ADMIN and NET_RAW: the lock is for its owner alone"
    )


def test_the_lock_is_let_to_its_group_and_else_as_it_was(tmp_path: Path) -> None:
    """One bit more, and only where it is missing; the same file."""
    lock = tmp_path / "xtables.lock"
    lock.touch(0o600)
    before = lock.stat().st_ino
    assert share_lock(str(lock)) == ""
    assert (lock.stat().st_ino, stat.S_IMODE(lock.stat().st_mode)) == (before, 0o640)


def test_a_lock_that_is_not_there_is_made_as_iptables_makes_it(tmp_path: Path) -> None:
    """For root, and its group as far as it takes to lock it."""
    assert share_lock(str(tmp_path / "xtables.lock")) == ""
    assert stat.S_IMODE((tmp_path / "xtables.lock").stat().st_mode) == 0o640


def test_a_lock_that_nobody_can_have_is_no_reason_to_stay_root(tmp_path: Path) -> None:
    """A folder, say, as Docker makes one for a file that was not there: the agent tells."""
    assert share_lock(str(tmp_path)) == ""
