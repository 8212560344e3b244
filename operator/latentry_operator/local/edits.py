"""Whether a file was edited: looked at now and then, and taken only once it stands still."""

import hashlib
from pathlib import Path

LOOK_SECONDS = 1.0
"""Between two looks. A change counts when two looks saw the same: editors write in pieces, or by renaming."""

_Mark = tuple[int, int, int]


class WatchedFile:
    """One file. What it holds when this is made counts as known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = self._look()
        self._known = self._digest()
        self._moving = False

    def changed(self) -> bool:
        """Whether it holds something new that stands still since the last look. True once for each edit."""
        mark = self._look()
        if mark != self._mark:
            self._mark, self._moving = mark, True
            return False
        if not self._moving:
            return False
        self._moving = False
        digest = self._digest()
        if digest == self._known:
            return False
        self._known = digest
        return True

    def forget(self) -> None:
        """Has it read again: something it names may have changed."""
        self._known, self._moving = None, True

    def _look(self) -> _Mark | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _digest(self) -> bytes | None:
        try:
            return hashlib.sha256(self.path.read_bytes()).digest()
        except OSError:
            return b""
