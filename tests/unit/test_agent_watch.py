"""The file watch: what counts as a change, and when it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from paraglider.agent.watch import FileWatch

# As long as the file that it replaces.
OLD, NEW = "one: 1\n", "two: 2\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there."""
    path = tmp_path / "glider.yaml"
    path.write_text(OLD)
    return path


def _looks(watch: FileWatch, count: int) -> list[bool]:
    return [watch.is_changed() for _ in range(count)]


def _rest(watch: FileWatch) -> None:
    """Look until the watch trusts stat alone."""
    assert not any(_looks(watch, 15))


def test_a_file_that_stays_is_never_a_change(path: Path) -> None:
    """Nor when it was read meanwhile."""
    watch = FileWatch(str(path))
    path.read_text()
    assert not any(_looks(watch, 30))


WAYS = {
    "write over": "printf 'two: 2\\n' > FILE",
    "append": "echo more >> FILE",
    "cp": "cp NEW FILE",
    "cp -p, with the time of the old one": "touch -r FILE NEW; cp -p NEW FILE",
    "cp --remove-destination -p": "touch -r FILE NEW; cp --remove-destination -p NEW FILE",
    "touch -d after a write": "printf 'two: 2\\n' > FILE; touch -d 2020-01-01 FILE",
    "sed -i": "sed -i s/one/two/ FILE",
    "mv": "mv NEW FILE",
    "mv, with the time of the old one": "touch -r FILE NEW; mv NEW FILE",
    "install": "install -m 644 NEW FILE",
    "backup by rename, as vim": "mv FILE FILE~; cat NEW > FILE; rm FILE~",
    "backup by copy, as nano": "cp -p FILE FILE~; cat NEW > FILE",
    "dd, without a truncation": "dd if=NEW of=FILE conv=notrunc status=none",
    "swapped folders": "mkdir FOLDER.2; mv NEW FOLDER.2/glider.yaml; mv FOLDER FOLDER.1; "
    "mv FOLDER.2 FOLDER",
    "a symbolic link in its place": "ln -sfn NEW FILE",
    "a hard link in its place": "ln -f NEW FILE",
    "rsync": "rsync -c NEW FILE",
    "rsync -t --inplace": "touch -r FILE NEW; rsync -tc --inplace NEW FILE",
    "deleted and made again": "rm FILE; cat NEW > FILE; touch -r NEW FILE",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_change_is_told_once_after_it_has_rested(way: str, tmp_path: Path) -> None:
    """Whatever program makes it; the size is the same, and often the time, too."""
    if "rsync" in way and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    folder = tmp_path / "folder"
    folder.mkdir()
    path, new = folder / "glider.yaml", tmp_path / "new.yaml"
    path.write_text(OLD)
    new.write_text(NEW)
    watch = FileWatch(str(path))
    _rest(watch)
    line = way.replace("FILE", str(path)).replace("NEW", str(new)).replace("FOLDER", str(folder))
    subprocess.run(["/bin/sh", "-ec", line], check=True)
    assert _looks(watch, 14) == [False, True, *[False] * 12]
    assert watch.missing == ""


def test_a_write_within_one_tick_of_the_clock_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stat tells nothing then, at the start and after a change."""
    found = os.stat(path)
    watch = FileWatch(str(path))
    monkeypatch.setattr(os, "stat", lambda _: found)
    path.write_text(NEW)
    assert _looks(watch, 2) == [True, False]


def test_a_write_between_the_mark_and_the_reading_is_told(path: Path) -> None:
    """The agent reads the file after the watch does."""
    watch = FileWatch(str(path))
    path.write_text(NEW)
    watch.is_read()
    path.write_text(OLD)
    assert _looks(watch, 3) == [False, True, False]


@pytest.mark.parametrize("what", ["touch FILE", "chmod 600 FILE", "cp FILE X; mv X FILE"])
def test_the_same_content_is_no_change(what: str, path: Path) -> None:
    """Nothing has to be read again."""
    watch = FileWatch(str(path))
    line = what.replace("FILE", str(path)).replace("X", f"{path}.x")
    subprocess.run(["/bin/sh", "-ec", line], check=True)
    assert not any(_looks(watch, 15))


def test_a_file_that_may_be_read_again_is_a_change(path: Path, tmp_path: Path) -> None:
    """As after `chmod`; here it was a folder in between."""
    watch = FileWatch(str(path))
    path.rename(tmp_path / "away")
    path.mkdir()
    assert _looks(watch, 3) == [False, True, False]
    path.rmdir()
    (tmp_path / "away").rename(path)
    assert _looks(watch, 3) == [False, True, False]


def test_a_file_that_is_still_being_written_is_not_read(path: Path) -> None:
    """Half of a configuration is none."""
    watch = FileWatch(str(path))
    seen = []
    for size in range(5, 9):
        path.write_text("x" * size)
        seen.append(watch.is_changed())
    assert seen == [False] * 4
    assert watch.is_changed()


def test_the_swap_of_a_symbolic_link_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a mounted ConfigMap: the file's own link never changes."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "glider.yaml").write_text(version)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "glider.yaml").symlink_to("..data/glider.yaml")
    watch = FileWatch(str(tmp_path / "glider.yaml"))
    (tmp_path / "new").symlink_to("2")
    os.replace(tmp_path / "new", tmp_path / "..data")
    assert _looks(watch, 3) == [False, True, False]


def test_a_file_that_is_gone_is_told_and_no_change_until_it_is_back(path: Path) -> None:
    """Some editors take it away first: one look alone is not believed."""
    watch = FileWatch(str(path))
    path.unlink()
    assert not watch.is_changed()
    assert watch.missing == ""
    assert not watch.is_changed()
    assert watch.missing == (
        f"{path} is gone (No such file or directory): the configuration in force stays, but the "
        "next start needs the file"
    )
    path.write_text(NEW)
    assert _looks(watch, 2) == [False, True]
    assert watch.missing == ""


def test_a_dangling_link_is_a_file_that_is_gone(path: Path) -> None:
    """Whatever the path leads to counts."""
    watch = FileWatch(str(path))
    path.unlink()
    path.symlink_to("nowhere")
    assert _looks(watch, 2) == [False, False]
    assert "is gone" in watch.missing


def test_a_reload_without_a_file_is_made_good_by_its_return(path: Path) -> None:
    """Also with the content that is in force: the error that was told is over."""
    watch = FileWatch(str(path))
    path.unlink()
    watch.is_read()
    path.write_text(OLD)
    assert _looks(watch, 3) == [False, True, False]


def test_where_there_is_no_file_nothing_changes() -> None:
    """The environment, standard input."""
    assert _looks(FileWatch(None), 2) == [False, False]
