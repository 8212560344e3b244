"""Keeps a tritonserver running: start, wait until ready, restart with growing waits when it breaks, stop."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.triton.backoff import Backoff
from latentry_serving.triton.diagnosis import Crashed, PortTaken
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.process import Addresses, TritonProcess, TritonSettings, choose_addresses
from latentry_serving.triton.server_log import ServerLog
from latentry_serving.triton.shared_memory import remove_orphans

_START_ATTEMPTS = 3
"""Between picking a free port and Triton listening on it somebody else may take it. And Triton 2.51 crashes when one of
its python models' processes gets no core for a second or two while it starts."""


class Phase(StrEnum):
    """Where a supervised Triton stands."""

    STARTING = "Starting"
    READY = "Ready"
    BROKEN = "Broken"
    """It ended or lost a model process this moment; why is being found out."""
    WAITING = "Waiting"
    """Broken; it is started again after a wait."""
    STOPPING = "Stopping"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A moment of a supervised Triton, for people and for status."""

    phase: Phase
    text: str
    """What it is doing or why it broke, one line or more."""
    models_loaded: tuple[str, ...] = ()
    models_total: int = 0
    restarts: int = 0
    """Starts after the first one that became ready."""
    pid: int | None = None


Observer = Callable[[ServerState], None]


def _ignore(_state: ServerState) -> None:
    """The observer of nobody."""


class TritonServer:
    """A Triton that is kept running until ``stop``; also an async context manager.

    The event loop's thread must live as long as the server: the kernel stops Triton when it ends. Cancelling
    ``start`` or ``stop`` leaves no process and no shared memory behind; neither does our death by SIGKILL.
    """

    def __init__(
        self,
        install: TritonInstall,
        repository: Path,
        work_dir: Path,
        settings: TritonSettings | None = None,
        *,
        backoff: Backoff | None = None,
        observer: Observer = _ignore,
    ) -> None:
        """
        Args:
            install: which Triton, from ``find_triton``.
            repository: model repository, from ``write_local_repository``.
            work_dir: a folder of this server's own; gets ``triton.log`` and links to backends.
            settings: ports and time limits.
            backoff: waits between restarts.
            observer: called in the event loop at every change of state; must not block.
        """
        self._install = install
        self._repository = repository
        self._work_dir = work_dir
        self._settings = settings or TritonSettings()
        self._backoff = backoff or Backoff()
        self._observer = observer
        self._models_total = sum(1 for path in repository.iterdir() if path.is_dir())
        self._addresses: Addresses | None = None
        self._process: TritonProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._restarts = 0
        self.state = ServerState(phase=Phase.STOPPED, text="not started", models_total=self._models_total)

    @property
    def addresses(self) -> Addresses:
        """Where it listens; the same over all restarts. Known once ``start`` has returned."""
        if self._addresses is None:
            raise OperationFailed("Triton has no addresses yet", remedy="start it first")
        return self._addresses

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts Triton and returns when every model is ready; from then on it is restarted whenever it breaks.

        Raises:
            OperationFailed: it did not become ready, and why; nothing is left running.
        """
        remove_orphans()
        self._work_dir.mkdir(parents=True, exist_ok=True)
        try:
            process = await self._first_start()
        except BaseException as error:
            await self._stop_process()
            self._report(Phase.STOPPED, str(error) or "start cancelled")
            raise
        self._keeper = asyncio.create_task(self._keep(process))

    async def stop(self) -> None:
        """Stops Triton, letting requests in flight finish. Takes 2 to 3 s: Triton looks once a second."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        self._report(Phase.STOPPING, "stopping")
        await self._stop_process()
        self._report(Phase.STOPPED, "stopped")

    async def _first_start(self) -> TritonProcess:
        for _ in range(_START_ATTEMPTS - 1):
            try:
                return await self._run_on_free_ports()
            except (PortTaken, Crashed) as error:
                await self._stop_process()
                self._report(Phase.STARTING, f"{error.problem}; starting it again")
        return await self._run_on_free_ports()

    async def _run_on_free_ports(self) -> TritonProcess:
        self._addresses = choose_addresses(self._settings)
        return await self._run_until_ready(self._addresses)

    async def _run_until_ready(self, addresses: Addresses) -> TritonProcess:
        self._report(Phase.STARTING, "starting Triton")
        process = await TritonProcess.launch(self._install, self._repository, self._work_dir, addresses, self._settings)
        self._process = process
        await process.wait_ready(self._report_loading)
        self._report(Phase.READY, f"ready with {self._models_total} models", loaded=process.log.loaded)
        return process

    async def _keep(self, process: TritonProcess) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        since = loop.time()
        error = await process.wait_broken(self._noticed)
        while True:
            await self._stop_process()
            failures = self._backoff.failures(failures, loop.time() - since)
            delay = self._backoff.delay_seconds(failures)
            self._report(Phase.WAITING, f"{error}\nstarting again in {delay:g} s")
            await asyncio.sleep(delay)
            self._restarts += 1
            since = loop.time()
            try:
                error = await (await self._run_until_ready(self.addresses)).wait_broken(self._noticed)
            except OperationFailed as again:
                error = again

    def _noticed(self) -> None:
        self._report(Phase.BROKEN, "Triton broke")

    def _report_loading(self, log: ServerLog) -> None:
        pending = ", ".join(sorted(log.loading - log.loaded))
        text = f"loading models, {len(log.loaded)} of {self._models_total} ready" + (f": {pending}" if pending else "")
        self._report(Phase.STARTING, text, loaded=log.loaded)

    def _report(self, phase: Phase, text: str, *, loaded: Collection[str] = ()) -> None:
        self.state = ServerState(
            phase=phase,
            text=text,
            models_loaded=tuple(sorted(loaded)),
            models_total=self._models_total,
            restarts=self._restarts,
            pid=self._process.pid if self._process is not None else None,
        )
        self._observer(self.state)

    async def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
