"""Watch: whether the configuration file has another content.

Looks at what the path leads to, so that a file that is replaced (as editors do) and a symbolic link
that is swapped (as Kubernetes does) count like one that is written over; no kernel event tells of
all three, least of all through a bind mount. A look costs one stat(2).
"""

from __future__ import annotations

import os
from collections.abc import Callable

LOOK_S = 0.5

_Mark = tuple[int, int, int, int]


class FileWatch:
    """Watches `path`; None is nothing to watch."""

    def __init__(
        self, path: str | None, *, stat: Callable[[str], os.stat_result] = os.stat
    ) -> None:
        self._path = path
        self._stat = stat
        self._known = self._last = self._mark()

    def is_changed(self) -> bool:
        """Return whether the file is another one than at the last yes (or the beginning), and has
        rested since the last call: one that is still being written is looked at later. A file that
        is gone has not changed: it may be on its way back."""
        mark = self._mark()
        is_at_rest, self._last = mark == self._last, mark
        if mark is None or mark == self._known or not is_at_rest:
            return False
        self._known = mark
        return True

    def is_read(self) -> None:
        """The file has just been read as it is: that is no change any more."""
        self._known = self._last = self._mark() or self._known

    def _mark(self) -> _Mark | None:
        if self._path is None:
            return None
        try:
            found = self._stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
