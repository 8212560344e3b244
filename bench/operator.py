"""``make bench-operator``: how the operator does with 100, 500 and 1,000 LatentModels on a real API server.

Run from the repository: ``python -m bench.operator [--models N ...] [--render]``. Converged means that the operator's
own work is done: every object of every model is applied and ``status.observedGeneration`` is the newest generation.
Nothing plays the kubelet, so no pod gets ready; the deployment controller does make the pods, on the same cores.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
import yaml
from bench import operator_report, report
from bench.operator_report import OperatorRow
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from latentry_serving.contract.errors import OperationFailed

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from kube import Api, ControlPlane, Obj, find_assets, kinds, our_crds, upstream_crds
from kube.control_plane import free_ports

SIZES = (100, 500, 1000)
NAMESPACE = "bench"
IDLE_SECONDS = 30.0
QUIET_SECONDS = 5.0
LONGEST_SECONDS = 900.0
_SAMPLE_SECONDS = 0.5
_CALLERS = 32
_WRITES = ("apply", "create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Counts:
    """The operator's metrics at a moment; calls without watches, discovery and the Lease's."""

    calls: float
    written: Mapping[str, float]
    passes: float
    waiting: float
    cpu_seconds: float
    leads: bool


@dataclass(slots=True)
class Running:
    """The operator as a process."""

    process: psutil.Process
    http: httpx.AsyncClient
    memory_mb: list[float] = field(default_factory=list)

    async def counts(self) -> Counts:
        text = (await self.http.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

        def total(name: str, **labels: str) -> float:
            return sum(
                sample.value
                for sample in samples
                if sample.name == f"latentry_operator_{name}"
                and sample.labels.get("kind") not in ("Lease", "discovery")
                and sample.labels.get("verb") != "watch"
                and labels.items() <= sample.labels.items()
            )

        times = self.process.cpu_times()
        return Counts(
            calls=total("api_calls_total"),
            written={
                f"{verb} {kind}": count
                for verb in _WRITES
                for kind in sorted({sample.labels.get("kind", "") for sample in samples})
                if (count := total("api_calls_total", verb=verb, kind=kind))
            },
            passes=total("reconcile_duration_seconds_count", kind="LatentModel"),
            waiting=total("queue_depth"),
            cpu_seconds=times.user + times.system,
            leads=total("leader") == 1,
        )

    async def sample(self) -> None:
        """Note the memory until cancelled."""
        while True:
            self.memory_mb.append(self.process.memory_info().rss / 1e6)
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def quiet(self) -> Counts:
        """Return when no call was made for a while, with the counts of then."""
        before, since = await self.counts(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(_SAMPLE_SECONDS)
            now = await self.counts()
            if now.calls != before.calls:
                before, since = now, time.monotonic()
        return await self.counts()


@asynccontextmanager
async def operator(plane: ControlPlane, folder: Path) -> AsyncIterator[Running]:
    """The operator, with its defaults but for where it listens, from its start to an orderly end."""
    (port,) = free_ports(1)
    config = folder / "operator.yaml"
    settings = {"kubeconfig": str(plane.kubeconfig), "http": {"host": "127.0.0.1", "port": port}}
    config.write_text(yaml.safe_dump(settings))
    with (folder / "operator.log").open("ab") as log:
        command = (sys.executable, "-m", "latentry_operator", "operator", "--config", str(config))
        started = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
        running = Running(psutil.Process(started.pid), http)
        sampler = asyncio.create_task(running.sample())
        try:
            await _until(lambda: _leads(running), "the operator did not lead")
            yield running
        finally:
            sampler.cancel()
            with suppress(ProcessLookupError):
                started.terminate()
            await started.wait()


async def _leads(running: Running) -> bool:
    try:
        return (await running.counts()).leads
    except httpx.TransportError:
        return False


async def _until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not await holds():
        if time.monotonic() > deadline:
            raise OperationFailed(f"{otherwise} within {LONGEST_SECONDS:.0f} s", remedy="see its log; free the machine")
        await asyncio.sleep(0.1)


def latent_model(number: int) -> Obj:
    """A small encoder on the CPU."""
    spec = {
        "family": "Encoder",
        "bundle": {"uri": f"s3://models/{number}", "digest": f"sha256:{number:064x}"},
        "workload": "Deployment",
        "runtime": {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}},
        "scaling": {"metric": "None"},
    }
    return {"metadata": {"name": f"m{number}"}, "spec": spec}


async def _at_once(jobs: list[Callable[[], Awaitable[Any]]]) -> None:
    turn = asyncio.Semaphore(_CALLERS)

    async def do(job: Callable[[], Awaitable[Any]]) -> None:
        async with turn:
            await job()

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(do(job))


async def _converged(api: Api, version: str, names: set[str], generation: int) -> None:
    """Follow a watch until all models are observed at that generation."""
    left = set(names)
    async with asyncio.timeout(LONGEST_SECONDS):
        while left:
            async for _, obj in api.watch(kinds.latent_model, version):
                version = obj["metadata"]["resourceVersion"]
                if obj.get("status", {}).get("observedGeneration", 0) >= generation:
                    left.discard(obj["metadata"]["name"])
                if not left:
                    return


async def _phase(
    phase: str, api: Api, running: Running, jobs: dict[str, Callable[[], Awaitable[Any]]], generation: int
) -> OperatorRow:
    before = await running.counts()
    running.memory_mb.clear()
    version = str((await api.list(kinds.latent_model))["metadata"]["resourceVersion"])
    started = time.monotonic()
    watching = asyncio.create_task(_converged(api, version, set(jobs), generation))
    await _at_once(list(jobs.values()))
    await watching
    seconds = time.monotonic() - started
    return _row(phase, len(jobs), seconds, before, await running.quiet(), running)


def _row(phase: str, models: int, seconds: float, before: Counts, after: Counts, running: Running) -> OperatorRow:
    written = {what: count - before.written.get(what, 0) for what, count in after.written.items()}
    return OperatorRow(
        models=models,
        phase=phase,
        seconds=round(seconds, 1),
        calls_per_model=round((after.calls - before.calls) / models, 2),
        writes=round(sum(written.values())),
        written={what: round(count) for what, count in written.items() if count},
        cpu_seconds=round(after.cpu_seconds - before.cpu_seconds, 2),
        memory_mb_most=round(max(running.memory_mb)),
    )


async def _check(api: Api, models: int, revisions: int) -> None:
    """Converged must not be a word only: the objects are there, and none too many."""
    expected = ((kinds.service, models), (kinds.config_map, revisions + models), (kinds.deployment, revisions))
    for kind, wanted in expected:
        found = len((await api.list(kind, NAMESPACE, "app.kubernetes.io/managed-by=latentry"))["items"])
        if found != wanted:
            problem = f"{found} objects of kind {kind.name} for {models} models, not {wanted}"
            raise OperationFailed(problem, remedy="this is a fault of the operator; see its log")


async def measure(models: int, folder: Path, console: Console) -> list[OperatorRow]:
    """All phases with so many models, on a control plane of their own."""
    status = console.status(f"{models} models: starting the control plane")
    with status, ControlPlane(find_assets(), crds=[*upstream_crds(), *our_crds()]) as plane:
        async with plane.api() as api:
            await api.create(kinds.namespace, None, {"metadata": {"name": NAMESPACE}})
            return await _phases(models, plane, api, folder, lambda text: status.update(f"{models} models: {text}"))


async def _phases(
    models: int, plane: ControlPlane, api: Api, folder: Path, say: Callable[[str], None]
) -> list[OperatorRow]:
    names = [f"m{number}" for number in range(models)]
    change = {"spec": {"runtime": {"instances": 2}}}
    async with operator(plane, folder) as running:
        say("created at once")
        create = {
            name: lambda n=number: api.create(kinds.latent_model, NAMESPACE, latent_model(n))
            for number, name in enumerate(names)
        }
        rows = [await _phase("created at once", api, running, create, 1)]
        await _check(api, models, models)
        say("edited at once")
        edit = {name: lambda n=name: api.merge(kinds.latent_model, NAMESPACE, n, change) for name in names}
        rows.append(await _phase("edited at once", api, running, edit, 2))
        # No pod answers, so both revisions stay.
        await _check(api, models, 2 * models)
    say("restarted")
    started = time.monotonic()
    async with operator(plane, folder) as running:

        async def done() -> bool:
            now = await running.counts()
            return now.passes >= models and now.waiting == 0

        await _until(done, "the restarted operator did not settle")
        seconds = time.monotonic() - started
        nothing = Counts(0, {}, 0, 0, 0, False)
        rows.append(_row("restarted", models, seconds, nothing, await running.quiet(), running))
        say("idle")
        before = await running.counts()
        running.memory_mb.clear()
        await asyncio.sleep(IDLE_SECONDS)
        rows.append(_row("idle", models, IDLE_SECONDS, before, await running.counts(), running))
    return rows


def main(
    models: Annotated[
        list[int] | None, typer.Option(min=1, help="How many LatentModels; may be given again.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Results file.")] = operator_report.RESULTS,
    render: Annotated[
        bool, typer.Option("--render", help="Only write the figures into docs/benchmarks.md from the results file.")
    ] = False,
) -> None:
    """Measure the operator with many LatentModels on a real API server."""
    console = Console()
    with report.failures_told():
        if render:
            operator_report.render(report.load(out, make="bench-operator"))
            return
        rows: list[OperatorRow] = []
        for size in models or SIZES:
            with tempfile.TemporaryDirectory(prefix="latentry-bench-") as folder:
                rows += asyncio.run(measure(size, Path(folder), console))
        results = operator_report.results(rows)
        report.save(results, out)
    console.print(operator_report.table(results["rows"]))
    for target in results["targets"]:
        console.print(operator_report.line(target), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
