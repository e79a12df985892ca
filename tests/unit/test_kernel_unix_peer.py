"""Who is at the other end of a unix socket, when its process has ended."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from paraglider.kernel import unix_peer
from paraglider.kernel.unix_peer import Peer, read_peer

# An option that no kernel knows, as SO_PEERPIDFD before Linux 6.5.
_UNKNOWN_OPTION = 9999


def read_listener(path: Path) -> Peer:
    """Return the peer behind a listening socket."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(path))
        peer = read_peer(asking)
        assert peer is not None
        return peer


@pytest.mark.parametrize("option", [unix_peer._SO_PEERPIDFD, _UNKNOWN_OPTION])
def test_a_process_that_has_ended_is_known_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: int
) -> None:
    """With the kernel's pidfd and without it; another process, here this one, has its socket."""
    monkeypatch.setattr(unix_peer, "_SO_PEERPIDFD", option)
    path = tmp_path / "socket"
    go_reading, go_writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        child = os.fork()
        if child == 0:
            listening.listen()
            os.write(go_writing, b".")
            signal.pause()
            os._exit(0)
        os.read(go_reading, 1)
        alive = read_listener(path)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ended = read_listener(path)
    os.close(go_reading)
    os.close(go_writing)
    assert (alive.pid, alive.uid, alive.is_ended) == (child, os.geteuid(), False)
    assert (ended.pid, ended.uid, ended.is_ended) == (child, os.geteuid(), True)
    assert str(ended).startswith(f"(a child of process {child}, which has ended, user ")


def test_a_name_is_found_with_its_process() -> None:
    """Without asking it; and none where no process has the name, or none that is visible."""
    name = f"paraglider-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        assert unix_peer.find_keeper(name) is None
        listening.listen()
        keeper = unix_peer.find_keeper(name)
        assert keeper is not None
        assert (keeper.pid, keeper.uid) == (os.getpid(), os.geteuid())
    assert unix_peer.find_keeper(name) is None


def test_a_number_that_another_user_has_now_is_not_the_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by the users of the process where the kernel gives no pidfd."""
    monkeypatch.setattr(unix_peer, "_SO_PEERPIDFD", _UNKNOWN_OPTION)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert not read_listener(path).is_ended
        other = os.geteuid() + 1
        monkeypatch.setattr(unix_peer, "_read_status", lambda _: ((other,) * 4, True))
        assert read_listener(path).is_ended
