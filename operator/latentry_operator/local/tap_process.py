"""The tap as a child process of `latentry up`: started, kept running on the same sockets, stopped."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from latentry_serving.child import bound_to_parent
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.triton.backoff import Backoff

START_SECONDS = 30.0
"""Longest time from start to listening."""
_KILL_AFTER_SECONDS = 5.0
_TAIL_BYTES = 4_000

Report = Callable[[str], None]


class TapProcess:
    """A tap that is started again, with growing waits, whenever it dies; an async context manager."""

    def __init__(
        self,
        config: TapConfig,
        run_dir: Path,
        *,
        accepting: Callable[[], bool],
        hold_seconds: Callable[[], float],
        report: Report,
        backoff: Backoff | None = None,
    ) -> None:
        """
        Args:
            config: with the listening sockets that it inherits and its admin port chosen, so that a restarted tap is
                found where it was.
            run_dir: existing folder for ``tap.json`` (the configuration), ``tap.log`` and control sockets.
            accepting: whether it is to take clients, asked at each start.
            hold_seconds: how long clients may wait in it for another tap, asked at each start.
            report: called with a sentence when the tap died and is started again.
            backoff: waits between restarts.
        """
        self._config = config
        self._run_dir = run_dir
        self._log_file = run_dir / "tap.log"
        self._accepting = accepting
        self._hold_seconds = hold_seconds
        self._report = report
        self._backoff = backoff or Backoff()
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._starts = 0
        self.control: str | None = None
        """Where this tap takes orders; None while it does not run."""

    async def __aenter__(self) -> Self:
        """Starts the tap and returns when it listens.

        Raises:
            OperationFailed: it did not come to listen, with the end of its log.
        """
        try:
            await self._start()
        except BaseException:
            await self._stop_process()
            raise
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets calls in flight finish for the configured drain time, then ends it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._stop_process()

    @property
    def restarts(self) -> int:
        """Starts after the first one."""
        return max(0, self._starts - 1)

    def kill(self) -> None:
        """Ends a process that does not do as it is told; another is started."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _start(self) -> None:
        control = self._run_dir / f"tap-{self._starts}.sock"  # each process its own: the last one's may be left over
        self._starts += 1
        told = {"accepting": self._accepting(), "control": str(control), "hold_seconds": self._hold_seconds()}
        config = self._config.model_copy(update=told)
        config_file = self._run_dir / "tap.json"
        config_file.write_text(config.model_dump_json(by_alias=True, exclude_none=True, indent=2))
        command = [sys.executable, "-m", "latentry_serving", "tap", "--config", str(config_file)]
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_parent(command, os.getpid()), stdin=DEVNULL, stdout=PIPE, stderr=log,
                start_new_session=True, pass_fds=[fd for fd in (config.http_fd, config.grpc_fd) if fd is not None],
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await _first_line(self._process)
        except TimeoutError as error:
            raise self._failure(f"the tap does not listen after {START_SECONDS:g} s") from error
        if not line:
            raise self._failure(f"the tap ended with exit code {await self._process.wait()}")
        if json.loads(line).get("event") != "listening":
            raise self._failure(f"the tap said {line!r} where it should say that it listens")
        self.control = config.control

    async def _keep(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            since, reason = loop.time(), "the tap could not be started"
            if self._process is not None:
                reason = f"the tap ended with exit code {await self._process.wait()}"
            self.control = None
            failures = self._backoff.failures(failures, loop.time() - since)
            delay = self._backoff.delay_seconds(failures)
            self._report(f"{reason}; starting it again in {delay:g} s")
            await self._stop_process()
            await asyncio.sleep(delay)
            try:
                await self._start()
            except OperationFailed as error:
                self._report(error.problem)
                await self._stop_process()

    async def _stop_process(self) -> None:
        process, self._process, self.control = self._process, None, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._config.drain_seconds + _KILL_AFTER_SECONDS):
                await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _failure(self, problem: str) -> OperationFailed:
        return OperationFailed(problem, remedy=f"see {self._log_file}", details=_end_of(self._log_file))


async def _first_line(process: Process) -> bytes:
    return b"" if process.stdout is None else await process.stdout.readline()


def _end_of(path: Path) -> str:
    data = path.read_bytes()[-_TAIL_BYTES:] if path.exists() else b""
    return data.decode("utf-8", errors="replace").strip()
