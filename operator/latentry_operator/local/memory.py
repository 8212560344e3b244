"""How much memory a Triton takes: on one machine nobody else holds it to its limit."""

import contextlib
import signal

import psutil

LOOK_SECONDS = 1.0
"""Between two readings: one takes a few milliseconds, because the kernel walks the pages."""
WARN_SHARE = 0.9
"""Of the limit. A candidate that comes so far is given up while it still answers."""


def used_bytes(pid: int) -> int:
    """Proportional resident memory of a process and its descendants: pages they share count once. 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += member.memory_full_info().pss
    return total


def kill(pid: int) -> None:
    """Ends a process as the kernel would for lack of memory; its supervisor starts it again."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).send_signal(signal.SIGKILL)
