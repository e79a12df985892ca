"""Watch: whether the configuration file has another content, and whether it is still there.

Looks at what the path leads to, so that a file that is replaced (as editors do) and a symbolic link
that is swapped (as Kubernetes does) count like one that is written over; no kernel event tells of
all three, least of all through a bind mount. A look costs one stat(2); the file is read for some
looks after a change of what stat tells. `ctime` shows what keeps size and `mtime` (cp -p, touch -d,
rsync); two writes within one tick of the file system's clock are told apart by the content alone.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from paraglider.config.load import read_file
from paraglider.errors import ConfigError, explain

LOOK_S = 0.5
# How often the content is read once stat tells something new. Looks are 0.25 s apart or more, and
# the times of a file system are exact to 2 s or less (FAT).
_LOOKS_INSIDE = 10


class _Mark(NamedTuple):
    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int


class FileWatch:
    """Watches `path`; None is nothing to watch.

    `missing` says why the file cannot be read again at the next start, '' where it can.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self.missing = ""
        self._named: tuple[int, int] | None = None
        self._last: tuple[_Mark | None, str] = (None, "")
        self._looks_inside = 0
        self._content: int | str = ""
        self.is_read()

    def is_changed(self) -> bool:
        """Return whether the content is another one than at the last yes (or the beginning), and
        the file has rested since the last call: one that is still being written is looked at later.
        A file that is gone has not changed: it may be on its way back."""
        if self._path is None:
            return False
        mark, missing = self._look(self._path)
        if (mark, missing) != self._last:
            self._last, self._looks_inside = (mark, missing), _LOOKS_INSIDE
            return False
        self.missing = missing
        if mark is None or not self._looks_inside:
            return False
        self._looks_inside -= 1
        before, self._content = self._content, _read(self._path)
        return before != self._content

    def is_read(self) -> None:
        """The file has just been read as it is: that is no change any more."""
        if self._path is not None:
            self._last, self._looks_inside = self._look(self._path), _LOOKS_INSIDE
            self._content = _read(self._path)

    def _look(self, path: str) -> tuple[_Mark | None, str]:
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
            reason = error.strerror if isinstance(error, OSError) else explain(error)
            return None, (
                f"{path} is gone ({reason}): the configuration in force stays, but the next start "
                "needs the file"
            )
        mark = _Mark(
            found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
        )
        if found.st_nlink:  # some file systems count none at all
            self._named = mark[:2]
        elif self._named == mark[:2]:
            return mark, (
                f"{path} was replaced or deleted outside this mount, which still shows the old "
                "file: mount its folder, and start the container again"
            )
        return mark, ""


def _read(path: str) -> int | str:
    """Return what stands for the content, or for the reason why there is none."""
    try:
        return hash(read_file(path))
    except ConfigError as error:
        return str(error)
