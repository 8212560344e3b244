"""`latentry up`: LatentModels from files, served on this machine until Ctrl-C or a given time."""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.load import load_files
from latentry_operator.local.bundles import local_bundle
from latentry_operator.local.model import LocalModel, LocalPlan
from latentry_operator.local.page import PageServer
from latentry_operator.local.ports import PortAllocator
from latentry_operator.local.screen import Screen
from latentry_operator.local.snapshot import Phase, Snapshot
from latentry_operator.plan.planner import plan
from latentry_operator.plan.types import PlanSettings
from latentry_serving.contract import ports
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.contract.units import Duration
from latentry_serving.triton.install import TritonInstall, find_triton

HOST = "127.0.0.1"
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


def plan_files(files: Sequence[Path], settings: UpSettings, allocate: PortAllocator, page: Address) -> list[LocalPlan]:
    """Plans every LatentModel of the files before anything is started.

    Args:
        page: where the page will be.

    Raises:
        InvalidInput: a file, a spec or a bundle is wrong; every problem of every model is named.
    """
    models = [resource for resource in load_files(files) if isinstance(resource, LatentModel)]
    if not models:
        raise InvalidInput.one(
            ", ".join(map(str, files)), path="kind", problem="no LatentModel", remedy="name a file that holds one"
        )
    plans: list[LocalPlan] = []
    refused: list[InvalidInput] = []
    for model in models:
        try:
            plans.append(_plan_model(model, settings, allocate, page))
        except InvalidInput as error:
            refused.append(error)
    if refused:
        raise InvalidInput.merged(f"{len(refused)} models", refused)
    return plans


def _plan_model(model: LatentModel, settings: UpSettings, allocate: PortAllocator, page: Address) -> LocalPlan:
    bundle_dir, manifest = local_bundle(model)
    url = settings.triton_traces_url
    return LocalPlan(
        plan=plan(model, manifest, PlanSettings()),
        bundle_dir=bundle_dir,
        manifest=manifest,
        http=Address(host=HOST, port=allocate.take(settings.http_port)),
        grpc=Address(host=HOST, port=allocate.take(settings.grpc_port)),
        admin=Address(host=HOST, port=allocate.take(settings.admin_port)),
        page=f"http://{page}/#{model.metadata.name}",
        run_dir=settings.run_dir / model.metadata.name,
        triton_traces=None if url is None else TraceExport(url, model.metadata.name),
    )


def serve(files: Sequence[Path], settings: UpSettings, screen: Screen) -> None:
    """Serves every LatentModel of the files.

    Raises:
        InvalidInput: before anything is started.
        OperationFailed: Triton is missing; or a model did not become ready, or did not stay so.
    """
    allocate = PortAllocator()
    page = Address(host=HOST, port=allocate.take(settings.page_port))
    plans = plan_files(files, settings, allocate, page)
    install = find_triton()
    with screen:
        screen.note(f"page: http://{page}/")
        models = asyncio.run(_run(plans, page, install, settings, screen))
    if problem := unhealthy([model.snapshot for model in models]):
        details = "\n".join(model.failure.details for model in models if model.failure and model.failure.details)
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


async def _run(
    plans: Sequence[LocalPlan], page: Address, install: TritonInstall, settings: UpSettings, screen: Screen
) -> list[LocalModel]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    models: list[LocalModel] = []
    settled = asyncio.Event()

    def changed() -> None:
        snapshots = [model.snapshot for model in models]
        screen.show(snapshots)
        if all(snapshot.phase in (Phase.READY, Phase.FAILED) for snapshot in snapshots):
            settled.set()

    models.extend(LocalModel(local, install, changed) for local in plans)
    changed()
    tasks = [asyncio.create_task(model.run()) for model in models]
    ended = asyncio.create_task(_all_ended(tasks))
    timer = asyncio.create_task(_stop_in_time(settled, settings.stop_after, stop))
    stopped = asyncio.create_task(stop.wait())
    try:
        with PageServer(page, lambda: [model.snapshot for model in models]):
            await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, timer, stopped, ended):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return models


async def _all_ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _stop_in_time(settled: asyncio.Event, after: Duration | None, stop: asyncio.Event) -> None:
    if after is not None:
        await settled.wait()
        await asyncio.sleep(after.seconds)
        stop.set()
