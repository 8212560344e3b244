"""The tap's side of the analysis process: hands captured calls over, adds up what comes back, restarts it."""

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from latentry_serving.child import bound_to_parent
from latentry_serving.contract.metrics import SampleLoss
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.sli.samples import SampleBook
from latentry_serving.tap.analysis_frames import Control, Finding, framed, framed_control, read_verdicts
from latentry_serving.tap.analysis_setup import AnalysisSetup
from latentry_serving.tap.capture import CapturedCall
from latentry_serving.tap.compare_recent import RecentInputs
from latentry_serving.tap.hold_back import HoldBack
from latentry_serving.tap.monitoring import MonitoringDesk
from latentry_serving.triton.backoff import Backoff

log = logging.getLogger(__name__)

STUCK_SECONDS = 10.0
"""Without a word for this long while calls wait, the process is stopped."""
START_SECONDS = 60.0
"""The same for a process that has not said anything yet: it may have a profile to read."""
_CHECK_SECONDS = 1.0
_STOP_SECONDS = 2.0
_LINE_BYTES = 16 * 2**20
"""Longest line taken; reports of wide models take some hundred kilobytes."""
_SHORTEST_PERMIT_SECONDS = 0.1
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Watching is to cost the traffic one core at most; and every further thread of a BLAS holds buffers of its own."""
_SMALL_HEAP = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}
"""glibc keeps some megabytes of what was freed once arrays of that size were; these give it back: 6 MB at 4096-d."""


def child_environment() -> dict[str, str]:
    """What the process is started with."""
    return os.environ | _ONE_THREAD | _SMALL_HEAP


class _Waiting(NamedTuple):
    """A call handed over."""

    operation: str
    bytes: int


class Analysis:
    """Runs the process. Traffic never waits for it: what it cannot take is refused with a reason."""

    def __init__(
        self,
        config: TapConfig,
        book: SampleBook,
        desk: MonitoringDesk,
        *,
        in_flight: Callable[[], int],
        clock: Callable[[], float],
        unix_offset_s: float,
    ) -> None:
        """
        Args:
            desk: takes what the process finds, and knows what the next one goes on from.
            in_flight: requests of users that are under way now.
            clock: monotonic seconds.
            unix_offset_s: unix time minus the clock.
        """
        self._sampling = config.sampling
        self._score_probes = config.drift.score_probes
        self._setup = AnalysisSetup.of(config)
        self._book = book
        self._desk = desk
        self._in_flight = in_flight
        self._clock = clock
        self._unix_offset_s = unix_offset_s
        self.released: Callable[[int], None] = lambda _: None
        """Told of the bytes of every call whose verdict is in."""
        self._recent = RecentInputs()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Waiting] = deque()
        self._held = HoldBack(self._send, queue=self._sampling.queue, in_flight=in_flight, later=_later)
        """The last of `_waiting`: not sent yet."""
        self._progress_s = 0.0
        self._spoken = False
        self._process: asyncio.subprocess.Process | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the process, and again whenever it ends."""
        self._loop = asyncio.get_running_loop()
        self._running = self._loop.create_task(self._keep_running())

    async def stop(self) -> None:
        """Lets the process finish what it has, for a moment."""
        self._held.flush()
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def submit(self, call: CapturedCall) -> SampleLoss | None:
        """Hands a call over; answers why not, when it cannot."""
        if len(self._waiting) >= self._sampling.queue.calls:
            return SampleLoss.QUEUE_FULL
        if self._process is None or self._process.stdin is None:
            return SampleLoss.ANALYSIS_FAILED
        if not self._waiting:
            self._progress_s = self._clock()
        self._waiting.append(_Waiting(call.operation, call.bytes))
        self._held.add(call)
        return None

    def _send(self, calls: Sequence[CapturedCall]) -> None:
        if self._process is not None and self._process.stdin is not None:
            frames = (framed(call, call.ended_s + self._unix_offset_s) for call in calls)
            self._process.stdin.writelines(chain.from_iterable(frames))

    def recent_inputs(self) -> bytes | None:
        """A sample of the live inputs that are kept; None where the process does not answer. Not from the loop's
        thread: it waits."""
        loop, process = self._loop, self._process
        if loop is None or process is None or process.stdin is None:
            return None
        send = process.stdin.writelines

        def order(number: int) -> None:
            loop.call_soon_threadsafe(send, framed_control(Control.INPUTS, number=number))

        return self._recent.ask(order)

    async def _keep_running(self) -> None:
        backoff, failures = Backoff(), 0
        while True:
            started_s = self._clock()
            try:
                await self._run_once()
            except Exception:
                log.exception("analysis could not run")
            failures = backoff.failures(failures, self._clock() - started_s)
            await asyncio.sleep(backoff.delay_seconds(failures))

    async def _run_once(self) -> None:
        state = self._desk.state
        setup = self._setup.model_copy(update={"resumes": state is not None})
        command = [sys.executable, "-m", "latentry_serving.tap.analysis_worker", setup.model_dump_json()]
        process = await asyncio.create_subprocess_exec(
            *bound_to_parent(command, os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            env=child_environment(),
        )
        if state is not None:
            self._order(process, framed_control(Control.RESTORE, state))
        self._process, self._spoken = process, False
        permits = asyncio.create_task(self._permit_scores(process))
        loss = SampleLoss.ANALYSIS_FAILED
        try:
            loss = await self._read_lines(process)
        finally:
            permits.cancel()
            if self._process is process:  # else it is being stopped in order
                self._process = None
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                log.warning("analysis ended", extra={"reason": loss, "status": process.returncode})
            self._give_up_waiting(loss)

    async def _permit_scores(self, process: asyncio.subprocess.Process) -> None:
        """Lets the process score some inputs, within the budget, whenever users leave room."""
        settings = self._score_probes
        if not settings.per_second or not self._desk.watches:
            return
        every_s = max(_SHORTEST_PERMIT_SECONDS, 1 / settings.per_second)
        frame = framed_control(Control.SCORE, rows=max(1, round(every_s * settings.per_second)))
        while self._process is process:
            await asyncio.sleep(every_s)
            if self._process is process and self._in_flight() <= settings.in_flight_limit:
                self._order(process, frame)

    def _order(self, process: asyncio.subprocess.Process, frame: list[bytes]) -> None:
        """Sends an order, unless the process is behind."""
        if process.stdin is not None and not process.stdin.transport.get_write_buffer_size():
            process.stdin.writelines(frame)

    async def _read_lines(self, process: asyncio.subprocess.Process) -> SampleLoss:
        """Takes lines until the process ends or gets stuck; answers what its open calls are lost to."""
        assert process.stdout is not None  # noqa: S101 - asked for above
        while True:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    line = await process.stdout.readline()
            except TimeoutError:
                patience_s = STUCK_SECONDS if self._spoken else START_SECONDS
                if self._waiting and self._clock() - self._progress_s > patience_s:
                    return SampleLoss.ANALYSIS_STUCK
                continue
            if not line:
                return SampleLoss.ANALYSIS_FAILED
            self._progress_s, self._spoken = self._clock(), True
            if not (self._desk.take(line) or self._recent.take(line)):
                self._add_up(line)

    def _add_up(self, line: bytes) -> None:
        for verdict in read_verdicts(line):
            call = self._waiting.popleft()
            self.released(call.bytes)
            if verdict.loss is not None:
                self._book.lost[call.operation, verdict.loss] += 1
                continue
            self._book.analysed[call.operation] += 1
            self._book.non_finite[call.operation] += verdict.found.get(Finding.NON_FINITE, 0)

    def _give_up_waiting(self, loss: SampleLoss) -> None:
        self._held.drop()
        while self._waiting:
            call = self._waiting.popleft()
            self.released(call.bytes)
            self._book.lost[call.operation, loss] += 1


def _later(seconds: float, run: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, run)
