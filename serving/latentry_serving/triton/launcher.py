"""Becomes tritonserver, after asking the kernel to stop it when the process that started it dies.

Run as a script: ``python -I -S launcher.py PARENT_PID BINARY ARGUMENT...``. A script of its own rather than a
``preexec_fn``, which can deadlock in a program with threads. SIGTERM rather than SIGKILL, so that Triton still stops
its model processes and removes its shared memory. Source: prctl(2), PR_SET_PDEATHSIG.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replaces this process; returns never, exits 1 when the parent is already gone."""
    parent, binary, *rest = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the request was in force
        sys.exit(1)
    os.execv(binary, [binary, *rest])  # noqa: S606 - the purpose of this file


if __name__ == "__main__":
    main(sys.argv[1:])
