"""``make bench-tap``: what standing in front of Triton costs: the tap, nginx and HAProxy against the direct path.

Run from the repository: ``python -m bench.tap [--rounds N] [--seconds N] [--render]``.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from bench import report, tap_report
from bench.check import check_answer
from bench.light import MAX_BATCH_SIZE, MODEL, VALUES, build_light, tensor_of
from bench.load.generator import put_load, require_generators
from bench.load.payload import CheckedCall, Protocol, encode_call
from bench.measure import Row, measure_case
from bench.servers.base import Endpoint, Serving
from bench.servers.proxies import haproxy, nginx, require_proxies
from bench.servers.tap import observed_ok, tap
from bench.servers.triton import triton
from bench.tap_report import TapRow
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, Sampling

PROTOCOLS = (Protocol.BINARY, Protocol.GRPC)
PAYLOADS = (1 << 10, 1 << 16, 1 << 22)
IN_FLIGHT = (1, 8, 64)
SAMPLING_RATES = (0.0, 0.01, 0.1)
_DEFAULT_PER_SECOND = 50.0
_NO_LIMIT_PER_SECOND = 100_000.0
_WARM_UP_CONNECTIONS, _WARM_UP_SECONDS = 8, 2
_FEW = 8
_LARGE = 1 << 20
"""From here on a call takes milliseconds: runs are longer and fewer, and of the sampling taps only one takes part."""
_LARGE_RATES = (0.0, 0.1)


@dataclass(frozen=True, slots=True)
class Tap:
    """One of the taps under test."""

    endpoint: Endpoint
    admin: Address
    sampling: float | str


@dataclass(frozen=True, slots=True)
class Field:
    """Everything that runs."""

    direct: Endpoint
    taps: Sequence[Tap]
    proxies: Sequence[Endpoint]

    def endpoints(self, payload: int) -> list[Endpoint]:
        """Who takes part in the cases of a payload; direct first."""
        taps = [one.endpoint for one in self.taps if payload < _LARGE or one.sampling in _LARGE_RATES]
        return [self.direct, *taps, *self.proxies]


def rounds_of(rounds: int, payload: int, in_flight: int) -> int:
    """Runs of each path in a case."""
    fewer = 0 if payload < _LARGE else 1 if in_flight <= _FEW else 2
    return max(rounds - fewer, 1)


def seconds_of(seconds: int, payload: int, in_flight: int) -> int:
    """Length of a run. Many large calls in flight share the way: their first answers take seconds by themselves."""
    return seconds if payload < _LARGE else seconds * (2 if in_flight <= _FEW else 8)


async def bench(rounds: int, seconds: int, console: Console) -> dict[str, Any]:
    """Starts every path, checks its answers, measures all cases; everything is stopped afterwards.

    Returns:
        The results as saved.

    Raises:
        InvalidInput: a load generator or a proxy is missing.
        OperationFailed: something does not start, answers wrongly or fails calls.
    """
    require_generators()
    require_proxies()
    with tempfile.TemporaryDirectory(prefix="latentry-bench-") as folder:
        async with _everything(Path(folder), console) as field:
            rows = await _measure(field, rounds, seconds, console)
            await _check_observed(rows, field)
    labelled = [TapRow.of(row, payload, *_label(field, row.server)) for payload, row in rows]
    return {
        "machine": report.machine_facts({}) | tap_report.proxy_versions(),
        "rounds": rounds,
        "seconds": seconds,
        "targets": tap_report.targets(labelled),
        "rows": [row.as_dict() for row in labelled],
    }


@contextlib.asynccontextmanager
async def _everything(folder: Path, console: Console) -> AsyncIterator[Field]:
    bundle = folder / "bundle"
    manifest = build_light(bundle)
    serving = Serving(MODEL, bundle, folder, MAX_BATCH_SIZE, 0)
    async with contextlib.AsyncExitStack() as stack:
        with console.status("starting Triton") as status:
            direct = await stack.enter_async_context(triton(serving, bundle, manifest))
            status.update("starting the taps and proxies")
            taps = []
            for name, label, sampling in _samplings():
                endpoint, admin = await stack.enter_async_context(
                    tap(serving, manifest, direct, name=name, sampling=sampling)
                )
                taps.append(Tap(endpoint, admin, label))
            proxies = [await stack.enter_async_context(start(serving, direct)) for start in (nginx, haproxy)]
        yield Field(direct, taps, proxies)


def _samplings() -> list[tuple[str, float | str, Sampling]]:
    """Name, label and settings of every tap: a share of the calls each, and what `50 per second` costs."""
    shares = [
        (
            f"tap, {rate:.0%} sampled" if rate else "tap",
            rate,
            Sampling(max_per_second=_NO_LIMIT_PER_SECOND if rate else 0, rates={Operation.ENCODE: rate}),
        )
        for rate in SAMPLING_RATES
    ]
    text = f"{_DEFAULT_PER_SECOND:g}/s"
    return [*shares, (f"tap, {text} sampled".replace("/", " per "), text, Sampling(max_per_second=_DEFAULT_PER_SECOND))]


def _label(field: Field, server: str) -> tuple[str, float | str]:
    """Path and sampling rate of a row."""
    for one in field.taps:
        if one.endpoint.server == server:
            return "tap", one.sampling
    return ("direct" if server == field.direct.server else server.lower()), 0.0


async def _measure(field: Field, rounds: int, seconds: int, console: Console) -> list[tuple[int, Row]]:
    """Rows with their payload's size."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows: list[tuple[int, Row]] = []
    with Progress(*columns, console=console) as progress:
        runs = sum(
            len(field.endpoints(payload)) * rounds_of(rounds, payload, in_flight)
            for payload in PAYLOADS
            for in_flight in IN_FLIGHT
        )
        task = progress.add_task("", total=len(PROTOCOLS) * runs)
        for protocol in PROTOCOLS:
            for payload in PAYLOADS:
                calls = await _checked(field, protocol, payload)
                for in_flight in IN_FLIGHT:

                    def step(server: str, case: str = f"{protocol}, {payload:,} bytes, {in_flight} in flight") -> None:
                        progress.update(task, description=f"{case}: {server}", advance=1)

                    measured = await measure_case(
                        calls,
                        connections=in_flight,
                        rounds=rounds_of(rounds, payload, in_flight),
                        seconds=seconds_of(seconds, payload, in_flight),
                        step=step,
                    )
                    rows += [(payload, row) for row in measured]
    return rows


async def _checked(field: Field, protocol: Protocol, payload: int) -> dict[Endpoint, CheckedCall]:
    """What is sent to every endpoint, after a short warm-up."""
    x = tensor_of(payload)
    call = encode_call(protocol, MODEL, {"x": x})
    calls = {
        endpoint: await check_answer(endpoint, call, {"y": x[:, :VALUES]}) for endpoint in field.endpoints(payload)
    }
    await put_load(field.direct, calls[field.direct], connections=_WARM_UP_CONNECTIONS, seconds=_WARM_UP_SECONDS)
    return calls


async def _check_observed(rows: Sequence[tuple[int, Row]], field: Field) -> None:
    """A tap that only forwards would be quick: every call must have been counted."""
    for one in field.taps:
        sent = sum(run.load.requests for _, row in rows if row.server == one.endpoint.server for run in row.runs)
        seen, opaque = await observed_ok(one.admin)
        if seen < sent or opaque:
            raise OperationFailed(
                f"{one.endpoint.server} counted {seen} successful calls of {sent} sent, and gave up on {opaque} "
                "connections",
                remedy="its observers failed under load; these figures compare nothing",
            )


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each path per case.")] = 4,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a run; 2 to 8 times that at 4 MB.")] = 1,
    out: Annotated[Path, typer.Option(help="Results file.")] = tap_report.RESULTS,
    render: Annotated[
        bool, typer.Option("--render", help="Only write the figures into docs/benchmarks.md from the results file.")
    ] = False,
) -> None:
    """Measure the tap, nginx and HAProxy in front of Triton against Triton alone."""
    console = Console()
    with report.failures_told():
        if render:
            tap_report.render(report.load(out, make="bench-tap"))
            return
        results = asyncio.run(bench(rounds, seconds, console))
        report.save(results, out)
    console.print(tap_report.table(results["rows"]))
    for target in results["targets"]:
        console.print(tap_report.line(target), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
