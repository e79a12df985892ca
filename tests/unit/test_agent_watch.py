"""The file watch: what counts as a change, and when it is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paraglider.agent.watch import FileWatch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there."""
    path = tmp_path / "glider.yaml"
    path.write_text("one")
    return path


def _looks(watch: FileWatch, count: int) -> list[bool]:
    return [watch.is_changed() for _ in range(count)]


def _write_over(path: Path) -> None:
    path.write_text("two, longer")


def _replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("two")
    new.replace(path)


def test_a_file_that_stays_is_never_a_change(path: Path) -> None:
    """Nor when it was read meanwhile."""
    watch = FileWatch(str(path))
    path.read_text()
    assert _looks(watch, 3) == [False, False, False]


@pytest.mark.parametrize("change", [_write_over, _replace])
def test_a_change_is_told_once_after_it_has_rested(path: Path, change: object) -> None:
    """Whether the file was written over, or another one was put in its place."""
    watch = FileWatch(str(path))
    assert callable(change)
    change(path)
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


def test_a_file_that_is_gone_is_no_change_until_it_is_back(path: Path) -> None:
    """Some editors take it away first."""
    watch = FileWatch(str(path))
    path.unlink()
    assert _looks(watch, 2) == [False, False]
    path.write_text("two, again")
    assert _looks(watch, 2) == [False, True]


def test_where_there_is_no_file_nothing_changes() -> None:
    """The environment, standard input."""
    assert _looks(FileWatch(None), 2) == [False, False]
