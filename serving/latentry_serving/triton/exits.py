"""Sees processes end that are not our children, the moment they do."""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def exits(pids: Iterable[int]) -> Iterator[asyncio.Event]:
    """An event that is set when one of the processes ends, or has. Where the kernel cannot tell (before Linux 5.3, or
    forbidden) of one of them nothing is heard. Source: pidfd_open(2)."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def told(descriptor: int) -> None:
        loop.remove_reader(descriptor)  # it would stay readable
        ended.set()

    descriptors = []
    try:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                ended.set()
            except OSError:
                continue
            else:
                descriptors.append(descriptor)
                loop.add_reader(descriptor, told, descriptor)
        yield ended
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
            os.close(descriptor)
