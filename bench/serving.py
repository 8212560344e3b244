"""``make bench``: digits encode through Triton + tap against Triton direct, MLServer and KServe's ModelServer.

Run from the repository: ``python -m bench.serving [--rounds N] [--seconds N] [--network 28x28] [--render]``.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from bench import report
from bench.check import check_answer
from bench.load.generator import put_load, require_generators
from bench.load.payload import CheckedCall, Protocol, encode_call
from bench.measure import CONNECTIONS, Row, measure_case
from bench.model import MAX_BATCH_SIZE, Network, Workload, build_workload
from bench.servers.base import Endpoint, Serving
from bench.servers.kserve import KSERVE, kserve
from bench.servers.mlserver import MLSERVER, mlserver
from bench.servers.tap import TAP, observed_ok, tap
from bench.servers.triton import triton
from bench.servers.venvs import environment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.units import Duration

_WARM_UP_SECONDS = 1
_TARGET_CONNECTIONS = 8
"""Where the project set itself a share of direct throughput to reach."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    network: Network
    max_queue_delay: Duration
    """Longest time a request waits for others to share its batch, in every server that makes batches."""
    rounds: int
    seconds: int


async def bench(plan: Plan, console: Console) -> dict[str, Any]:
    """Starts every server, checks its answers, measures all cases; everything is stopped afterwards.

    Returns:
        The results as saved.

    Raises:
        InvalidInput: a load generator is missing.
        OperationFailed: a server does not start, answers wrongly or fails calls.
    """
    require_generators()
    venvs = {name: await environment(name, console) for name in ("mlserver", "kserve")}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latentry-bench-")))
        with console.status("building the bundle") as status:
            workload = await asyncio.to_thread(build_workload, plan.network, plan.max_queue_delay, folder)
            serving = Serving(workload.model, workload.graph, folder, MAX_BATCH_SIZE, plan.max_queue_delay.microseconds)
            status.update("starting Triton")
            direct = await stack.enter_async_context(triton(serving, workload.bundle_dir, workload.manifest))
            status.update("starting the tap")
            tapped, admin = await stack.enter_async_context(tap(serving, workload.manifest, direct))
            status.update("starting MLServer")
            others = [await stack.enter_async_context(mlserver(serving, venvs["mlserver"]))]
            status.update("starting KServe's ModelServer")
            others.append(await stack.enter_async_context(kserve(serving, venvs["kserve"])))
            status.update("checking every server's answers")
            cases = {
                protocol: await _checked_calls(protocol, [direct, tapped, *others], workload) for protocol in Protocol
            }
        rows = await _measure(plan, cases, console)
        await _check_observed(rows, admin)
    return {
        "machine": report.machine_facts(venvs),
        "network": plan.network.value,
        "max_queue_delay": str(plan.max_queue_delay),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "summary": _summary(rows),
        "rows": [row.as_dict() for row in rows],
    }


async def _checked_calls(
    protocol: Protocol, endpoints: Sequence[Endpoint], workload: Workload
) -> dict[Endpoint, CheckedCall]:
    call = encode_call(protocol, workload.model, workload.inputs)
    return {
        endpoint: await check_answer(endpoint, call, workload.expected)
        for endpoint in endpoints
        if protocol in endpoint.protocols
    }


async def _measure(plan: Plan, cases: dict[Protocol, dict[Endpoint, CheckedCall]], console: Console) -> list[Row]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows: list[Row] = []
    with Progress(*columns, console=console) as progress:
        total = sum(len(calls) * (1 + plan.rounds * len(CONNECTIONS)) for calls in cases.values())
        task = progress.add_task("", total=total)
        for protocol, calls in cases.items():
            for endpoint, call in calls.items():
                progress.update(task, description=f"warming up {endpoint.server}", advance=1)
                await put_load(endpoint, call, connections=max(CONNECTIONS), seconds=_WARM_UP_SECONDS)
            for connections in CONNECTIONS:

                def step(server: str, case: str = f"{protocol}, {connections} in flight") -> None:
                    progress.update(task, description=f"{case}: {server}", advance=1)

                rows += await measure_case(
                    calls, connections=connections, rounds=plan.rounds, seconds=plan.seconds, step=step
                )
    return rows


async def _check_observed(rows: Sequence[Row], admin: Address) -> None:
    """The tap's figures are worth having only if it read along: it must have counted every call."""
    sent = sum(run.load.requests for row in rows if row.server == TAP for run in row.runs)
    seen, opaque = await observed_ok(admin)
    if seen < sent or opaque:
        raise OperationFailed(
            f"the tap counted {seen} successful calls of {sent} sent, and gave up on {opaque} connections",
            remedy="its observers failed under load; these figures compare nothing",
        )


def _summary(rows: Sequence[Row]) -> dict[str, str]:
    """The figures the project set itself, from this run; ratios are medians [least, most] over the rounds."""
    by_case = {(row.server, row.protocol, row.connections): row for row in rows}
    tapped = [row for row in rows if row.server == TAP]
    result = {
        f"Triton + tap as a share of direct, {row.protocol}, {row.connections} in flight": report.spread(row.ratios)
        for row in tapped
        if row.connections == _TARGET_CONNECTIONS
    }
    for server in (MLSERVER, KSERVE):
        for row in tapped:
            if row.protocol is Protocol.JSON:
                times = row.throughput_over(by_case[server, row.protocol, row.connections])
                result[f"Triton + tap over {server}, {row.protocol}, {row.connections} in flight"] = report.spread(
                    times
                )
    memory = max(run.memory_mb for row in tapped for run in row.runs)
    result["largest memory of the tap under load"] = f"{memory:.0f} MB"
    busiest = max(row.median(lambda run: run.load.generator_cores) for row in rows)
    result["most CPU the load generator took, median of a case"] = f"{busiest:.2f} cores"
    return result


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        path = "--max-queue-delay"
        raise InvalidInput.one("benchmark", path=path, problem=str(error), remedy="0s for no waiting") from error


def main(
    network: Annotated[Network, typer.Option(help="Which encoder.")] = Network.DIGITS,
    max_queue_delay: Annotated[str, typer.Option(help="How long a request may wait for a batch.")] = "0s",
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each server per case.")] = 6,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a run.")] = 2,
    out: Annotated[Path, typer.Option(help="Results file.")] = report.RESULTS,
    render: Annotated[
        bool, typer.Option("--render", help="Only write the table into docs/benchmarks.md from the results file.")
    ] = False,
) -> None:
    """Measure Triton + tap against Triton direct, MLServer and KServe's ModelServer."""
    console = Console()
    with report.failures_told():
        if render:
            report.render(report.load(out))
            return
        results = asyncio.run(bench(Plan(network, _duration(max_queue_delay), rounds, seconds), console))
        report.save(results, out)
    console.print(report.table(results["rows"]))
    for name, value in results["summary"].items():
        console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
