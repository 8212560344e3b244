"""From how Triton ended to the sentence a user can act on. Pure."""

import signal
from pathlib import Path

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.triton.server_log import ServerLog

TAIL_LINES = 15
_VM_STATISTICS = Path("/proc/vmstat")
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)


class PortTaken(OperationFailed):
    """Another process listens where Triton should."""


class Crashed(OperationFailed):
    """Triton ended itself, and nothing it said is a reason."""


def diagnose(exit_code: int | None, log: ServerLog, *, oom_kills: int = 0) -> OperationFailed:
    """Why Triton is not serving.

    Args:
        exit_code: what the process returned, negative for a signal; None when it still runs.
        log: what it said.
        oom_kills: processes the kernel killed for lack of memory on this machine while Triton ran.
    """
    tail = log.tail(TAIL_LINES)
    if log.port_taken:
        return port_taken(log.port_taken, details=tail)
    if log.missing_library:
        return OperationFailed(
            f"Triton cannot start: the shared library {log.missing_library} is missing",
            remedy="install the package that holds it, or reinstall nvidia-pytriton",
            details=tail,
        )
    if log.shared_memory_full:
        return OperationFailed(
            "Triton ran out of shared memory in /dev/shm",
            remedy="give the container more (docker run --shm-size=1g), or use fewer instances",
            details=tail,
        )
    if memory := _memory_evidence(exit_code, log, oom_kills):
        return OperationFailed(
            f"Triton ran out of memory ({memory})",
            remedy="use fewer instances, a smaller maxBatchSize, or a machine with more memory",
            details=tail,
        )
    if log.failed:
        model, reason = next(iter(log.failed.items()))
        more = f" (and {len(log.failed) - 1} more)" if len(log.failed) > 1 else ""
        return OperationFailed(
            f"Triton could not load the model {model}{more}: {reason.splitlines()[0] if reason else 'no reason given'}",
            remedy="run `latentry bundle verify` on the bundle; Triton's last lines are below",
            details=tail,
        )
    kind = Crashed if exit_code in _CRASHES else OperationFailed
    return kind(f"Triton {_ending(exit_code)}", remedy="see its last lines below", details=tail or "(it wrote nothing)")


def port_taken(address: str, *, details: str = "") -> PortTaken:
    """The error for a port in use."""
    return PortTaken(
        f"{address} is in use by another process",
        remedy="stop that process, or give Triton another port (0 picks a free one)",
        details=details,
    )


def oom_kill_count(statistics: Path = _VM_STATISTICS) -> int:
    """Processes the kernel has killed for lack of memory since boot; 0 where it does not tell."""
    try:
        text = statistics.read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def _memory_evidence(exit_code: int | None, log: ServerLog, oom_kills: int) -> str:
    if log.out_of_memory:
        return log.out_of_memory.strip()[-200:]
    # The kernel counts for the whole machine: it is evidence only where one of ours was killed.
    killed = exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    killed = killed or any("stub process" in reason.lower() for reason in log.failed.values())
    if killed and oom_kills:
        return f"the kernel killed {oom_kills} process{'es' if oom_kills > 1 else ''} for lack of memory meanwhile"
    return ""


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "does not become ready"
    number = -exit_code if exit_code < 0 else exit_code - 128 if exit_code > 128 else 0  # shells report 128 + signal
    if not number:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(number).name if number in {entry.value for entry in signal.Signals} else f"signal {number}"
    likely = "; the kernel does this when memory runs out" if number == signal.SIGKILL else ""
    return f"was killed by {name}{likely}"
