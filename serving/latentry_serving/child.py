"""Child processes that do not outlive their parent, however it dies.

Also a script: ``python -I -S child.py PARENT_PID PROGRAM ARGUMENT...`` becomes the program after asking the kernel to
stop it when the process that started it dies. A script rather than a ``preexec_fn``, which can deadlock in a program
with threads. SIGTERM rather than SIGKILL, so that Triton still stops its model processes and removes its shared memory.
Source: prctl(2), PR_SET_PDEATHSIG.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def bound_to_parent(command: Sequence[str], parent_pid: int) -> list[str]:
    """The command line that starts ``command`` such that the kernel stops it (SIGTERM) when the parent dies.

    Args:
        command: absolute path of the program, and its arguments.
        parent_pid: the process that will start it; the thread that does must live as long as the child.
    """
    return [sys.executable, "-I", "-S", __file__, str(parent_pid), *command]


def main(arguments: Sequence[str]) -> None:
    """Replaces this process; returns never, exits 1 when the parent is already gone."""
    parent, program, *rest = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the request was in force
        sys.exit(1)
    os.execv(program, [program, *rest])  # noqa: S606 - the purpose of this file


if __name__ == "__main__":
    main(sys.argv[1:])
