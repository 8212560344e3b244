"""`latentry up`: LatentModels from files, served on this machine until Ctrl-C or a given time."""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentry_operator.api.load import load_files
from latentry_operator.local.edits import WatchedFile
from latentry_operator.local.follow import follow_files
from latentry_operator.local.model import LocalModel, Place
from latentry_operator.local.page import PageServer
from latentry_operator.local.ports import HOST, PortAllocator
from latentry_operator.local.screen import Screen
from latentry_operator.local.snapshot import Phase, Snapshot
from latentry_operator.local.wanted import Wanted, read_wanted
from latentry_serving.contract import ports
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.contract.units import Duration
from latentry_serving.triton.install import TritonInstall, find_triton

RUN_FOLDER = Path(".latentry/run")


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What the command line decides.

    Attributes:
        stop_after: how long to serve once every model is ready; None until interrupted.
        http_port, grpc_port, admin_port, page_port: first port tried for each listener; the next free one above is
            taken.
        run_dir: where logs and generated files go.
        triton_traces_url: where every Triton exports its own spans over OTLP/HTTP; None for nowhere.
    """

    stop_after: Duration | None = None
    http_port: int = ports.TAP_HTTP
    grpc_port: int = ports.TAP_GRPC
    admin_port: int = ports.TAP_ADMIN
    page_port: int = ports.UP_PAGE
    run_dir: Path = field(default=RUN_FOLDER)
    triton_traces_url: str | None = None


def plan_files(files: Sequence[Path]) -> dict[Path, list[Wanted]]:
    """Plans every LatentModel of the files before anything is started; by file.

    Raises:
        InvalidInput: a file, a spec or a bundle is wrong; every problem of every model is named.
    """
    load_files(files)  # names that stand in two files
    found = {path: read_wanted(path) for path in files}
    everything = [one for models in found.values() for one in models.values()]
    if not everything:
        raise InvalidInput.one(
            ", ".join(map(str, files)), path="kind", problem="no LatentModel", remedy="name a file that holds one"
        )
    if refused := [one for one in everything if isinstance(one, InvalidInput)]:
        raise InvalidInput.merged(f"{len(refused)} models", refused)
    return {path: [one for one in models.values() if isinstance(one, Wanted)] for path, models in found.items()}


def serve(files: Sequence[Path], settings: UpSettings, screen: Screen) -> None:
    """Serves every LatentModel of the files, and follows their edits.

    Raises:
        InvalidInput: before anything is started.
        OperationFailed: Triton is missing; or a model did not become ready, or did not stay so.
    """
    watched = [WatchedFile(path) for path in dict.fromkeys(files)]  # before they are read: no edit is missed
    wanted = plan_files([file.path for file in watched])
    allocate = PortAllocator()
    page = Address(host=HOST, port=allocate.take(settings.page_port))
    install = find_triton()
    with screen:
        screen.note(f"page: http://{page}/")
        models = asyncio.run(_Up(wanted, watched, page, install, allocate, settings, screen).run())
    for model in models:
        if isinstance(model.failure, InvalidInput):
            raise model.failure
    if problem := unhealthy([model.snapshot for model in models]):
        failures = (model.failure for model in models)
        details = "\n".join(one.details for one in failures if isinstance(one, OperationFailed) and one.details)
        raise OperationFailed(problem, remedy=f"see the logs in {settings.run_dir}", details=details)


def unhealthy(snapshots: Sequence[Snapshot]) -> str:
    """What kept the models from being ready and staying so; empty when nothing did."""
    problems = []
    for snapshot in snapshots:
        if snapshot.phase is Phase.FAILED:
            problems.append(f"{snapshot.name} failed: {snapshot.message}")
        elif not snapshot.was_ready:
            problems.append(f"{snapshot.name} was stopped before it was ready")
        elif snapshot.interruptions:
            times = "once" if snapshot.interruptions == 1 else f"{snapshot.interruptions} times"
            problems.append(f"{snapshot.name} was not ready {times} while it served")
    return "; ".join(problems)


class _Up:
    """One `latentry up` inside the event loop."""

    def __init__(
        self,
        wanted: Mapping[Path, Sequence[Wanted]],
        watched: Sequence[WatchedFile],
        page: Address,
        install: TritonInstall,
        allocate: PortAllocator,
        settings: UpSettings,
        screen: Screen,
    ) -> None:
        self._watched, self._page, self._settings, self._screen = watched, page, settings, screen
        self._settled, self._stop, self._all_failed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._models: dict[Path, list[LocalModel]] = {}
        for file in watched:
            self._models[file.path] = [
                LocalModel(
                    one,
                    _place(one.plan.model, settings, allocate, page),
                    install,
                    allocate,
                    changed=self._changed,
                    clock=time.time,  # noqa: TID251 - this is where it becomes an argument
                    retried=file.forget,
                )
                for one in wanted[file.path]
            ]
        self.models = [model for models in self._models.values() for model in models]

    async def run(self) -> list[LocalModel]:
        """Serves until stopped, or until no model can be served; the models as they ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        self._changed()
        tasks = [asyncio.create_task(model.run()) for model in self.models]
        helpers = [
            asyncio.create_task(self._stop_in_time()),
            asyncio.create_task(follow_files(self._watched, self._models, self._screen.note)),
        ]
        ends = [asyncio.create_task(event.wait()) for event in (self._stop, self._all_failed)]
        try:
            with PageServer(self._page, lambda: [model.snapshot for model in self.models]):
                await asyncio.wait([*ends, *tasks, *helpers[1:]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, *helpers, *ends):
                task.cancel()
            results = await asyncio.gather(*tasks, *helpers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self.models

    def _changed(self) -> None:
        snapshots = [model.snapshot for model in self.models]
        self._screen.show(snapshots)
        if all(snapshot.phase in (Phase.READY, Phase.FAILED) for snapshot in snapshots):
            self._settled.set()
        if all(snapshot.phase is Phase.FAILED for snapshot in snapshots):
            self._all_failed.set()

    async def _stop_in_time(self) -> None:
        if self._settings.stop_after is not None:
            await self._settled.wait()
            await asyncio.sleep(self._settings.stop_after.seconds)
            self._stop.set()


def _place(name: str, settings: UpSettings, allocate: PortAllocator, page: Address) -> Place:
    url = settings.triton_traces_url
    return Place(
        name=name,
        http=Address(host=HOST, port=allocate.take(settings.http_port)),
        grpc=Address(host=HOST, port=allocate.take(settings.grpc_port)),
        admin=Address(host=HOST, port=allocate.take(settings.admin_port)),
        page=f"http://{page}/#{name}",
        run_dir=settings.run_dir / name,
        triton_traces=None if url is None else TraceExport(url, name),
    )
