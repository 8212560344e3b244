"""The shared memory regions Triton's python backend keeps in /dev/shm: ours are named, so ours can be removed.

A stub that dies by SIGKILL together with its server leaves its region behind. Names carry the process that started
Triton, so that a later start can tell whose owner is gone.
"""

import contextlib
import os
import re
import uuid
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, where Triton puts its regions

_OWNED = re.compile(r"latentry-(\d+)-[0-9a-f]{8}-")


def new_prefix() -> str:
    """A prefix no other server uses."""
    return f"latentry-{os.getpid()}-{uuid.uuid4().hex[:8]}-"


def remove_regions(prefix: str, folder: Path = SHARED_MEMORY) -> int:
    """Removes the regions of one server that is gone. Returns how many there were."""
    return sum(_remove(path) for path in folder.glob(f"{prefix}*"))


def remove_orphans(folder: Path = SHARED_MEMORY) -> int:
    """Removes regions whose starter no longer lives. Returns how many there were."""
    return sum(_remove(path) for path in folder.glob("latentry-*") if _orphaned(path.name))


def _orphaned(name: str) -> bool:
    match = _OWNED.match(name)
    return match is not None and not Path("/proc", match[1]).exists()


def _remove(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, PermissionError):  # gone meanwhile, or another user's
        path.unlink()
        return True
    return False
