"""A server process of the control plane: its log kept, its end tied to ours."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

STOP_SECONDS = 10
TAIL_LINES = 25


class Child:
    """One program, started and stopped any number of times, its output appended to one log.

    Start it from a thread that lives as long as the child should: Linux sends the death signal (prctl(2)) when the
    starting *thread* ends.
    """

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; does not wait until it serves."""
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, *self._command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        """Resident memory now, bytes; 0 when it does not run."""
        if self._process is None or not self.running:
            return 0
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def pause(self) -> None:
        """SIGSTOP: it is there and does nothing, until :meth:`resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, and kill it where it has not after ten seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def tail(self) -> str:
        """The last lines of its log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return f"last lines of {self.name}:\n" + "\n".join(text.splitlines()[-TAIL_LINES:])
