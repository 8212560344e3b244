"""``make bench-drift``, fourth part: what watching costs the traffic. p99 through a tap that samples, decodes and holds
against a profile every call, over p99 through the same tap without sampling.

Two taps stand in front of one Triton and take turns round by round; the ratio is the median of the rounds' ratios. A
thousand gRPC calls a second are offered on eight connections; each answers one embedding of 768 dimensions. All calls
send the same vector, so the watching tap raises its alarms, and explains them, in the first round.

Run from the repository: ``python -m bench.drift_traffic_cost [--rounds N] [--seconds N] [--out FILE]``.
"""

import asyncio
import contextlib
import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from bench import drift_report, report
from bench.check import check_answer
from bench.light import MAX_BATCH_SIZE, MODEL, build_light
from bench.load.generator import Load, put_load, require_generators
from bench.load.payload import CheckedCall, Protocol, encode_call
from bench.servers.base import Endpoint, Serving
from bench.servers.tap import tap
from bench.servers.triton import triton
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from latentry_serving.bundle.profile import BundleProfile, Health, save_profile
from latentry_serving.bundle.store import file_entries
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.metrics import REASON, SAMPLES_LOST_TOTAL, SAMPLES_TOTAL
from latentry_serving.contract.operations import EMBEDDING
from latentry_serving.contract.tap_config import Address, Sampling
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.health.encoder import EncoderBaseline

RESULTS = report.RESULTS.with_name("drift_traffic_cost.json")
PER_SECOND = 1000
DIMENSIONS = 768
CONNECTIONS = 8
TARGET = 1.05
_WINDOW = 500
_REFERENCE_WINDOWS = 12
_WARM_UP_SECONDS = 3
_ANALYSED = "analysed"


async def bench(rounds: int, seconds: int, console: Console) -> dict[str, Any]:
    """One row: p50 and p99 of both taps, the ratio of p99, what became of the samples.

    Raises:
        OperationFailed: something does not start, answers wrongly or fails calls, or nothing was watched.
    """
    require_generators()
    with tempfile.TemporaryDirectory(prefix="latentry-bench-") as name:
        async with _taps(Path(name), console) as (off, on, admin):
            calls = {endpoint: await _checked(endpoint) for endpoint in (off, on)}
            for endpoint, call in calls.items():
                await _load(endpoint, call, _WARM_UP_SECONDS)
            before = await _samples(admin)
            runs: dict[Endpoint, list[Load]] = {off: [], on: []}
            for turn in range(rounds):
                for endpoint in (off, on) if turn % 2 else (on, off):
                    with console.status(f"round {turn + 1} of {rounds}: {endpoint.server}"):
                        runs[endpoint].append(await _load(endpoint, calls[endpoint], seconds))
            await asyncio.sleep(1)  # verdicts of the last samples are on their way
            samples = await _samples(admin) - before
    if not samples[_ANALYSED]:
        raise OperationFailed(f"no sample was analysed: {dict(samples)}", remedy="see the log of the watching tap")
    return _row(runs[off], runs[on], seconds, samples)


async def _load(endpoint: Endpoint, call: CheckedCall, seconds: int) -> Load:
    return await put_load(endpoint, call, connections=CONNECTIONS, seconds=seconds, per_second=PER_SECOND)


@contextlib.asynccontextmanager
async def _taps(folder: Path, console: Console) -> AsyncIterator[tuple[Endpoint, Endpoint, Address]]:
    """The tap that watches nothing, the one that watches all, and the latter's admin address."""
    bundle = folder / "bundle"
    with console.status("fitting a profile"):
        manifest = _watched_bundle(bundle)
    serving = Serving(MODEL, bundle, folder, MAX_BATCH_SIZE, 0)
    async with contextlib.AsyncExitStack() as stack:
        direct = await stack.enter_async_context(triton(serving, bundle, manifest))
        off, _ = await stack.enter_async_context(tap(serving, manifest, direct, name="tap"))
        sampling = Sampling(max_per_second=PER_SECOND)
        on, admin = await stack.enter_async_context(
            tap(serving, manifest, direct, name="tap that watches", sampling=sampling, bundle=bundle)
        )
        yield off, on, admin


def _watched_bundle(bundle: Path) -> BundleManifest:
    """The light encoder with an embedding, and its profile."""
    manifest = build_light(bundle, output=EMBEDDING, values=DIMENSIONS)
    vectors = np.random.default_rng(1).random((_REFERENCE_WINDOWS * _WINDOW, DIMENSIONS), dtype=np.float32)
    profile = Profile({EMBEDDING: fit_tensor(EMBEDDING, vectors, FitSettings(window=_WINDOW))}, 0)
    save_profile(bundle, BundleProfile(profile, Health(encoder=EncoderBaseline.fit(vectors, window=_WINDOW))))
    complete = manifest.model_copy(update={"files": file_entries(bundle)})
    (bundle / "bundle.json").write_bytes(complete.to_bytes())
    return complete


async def _checked(endpoint: Endpoint) -> CheckedCall:
    x = np.random.default_rng(7).random((1, DIMENSIONS), dtype=np.float32)
    return await check_answer(endpoint, encode_call(Protocol.GRPC, MODEL, {"x": x}), {EMBEDDING: x})


async def _samples(admin: Address) -> Counter[str]:
    """Sampled calls so far: analysed, or lost by reason."""
    async with httpx.AsyncClient(base_url=f"http://{admin}") as client:
        text = (await client.get("/metrics")).raise_for_status().text
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == SAMPLES_TOTAL:
                found[_ANALYSED] += int(sample.value)
            elif sample.name == SAMPLES_LOST_TOTAL:
                found[sample.labels[REASON]] += int(sample.value)
    return found


def _row(off: Sequence[Load], on: Sequence[Load], seconds: int, samples: Counter[str]) -> dict[str, Any]:
    ratios = [watched.p99_ms / plain.p99_ms for watched, plain in zip(on, off, strict=True)]
    ratio = statistics.median(ratios)
    sent = sum(load.requests for load in on)
    return {
        "case": f"gRPC, {DIMENSIONS}-d, {PER_SECOND} calls and samples per second",
        "per_second_offered": PER_SECOND,
        "connections": CONNECTIONS,
        "rounds": len(on),
        "seconds": seconds,
        **{
            f"{figure}_{name}": round(statistics.median(getattr(load, figure) for load in loads), 3)
            for name, loads in (("off", off), ("on", on))
            for figure in ("requests_per_second", "p50_ms", "p99_ms")
        },
        "p99_ratio": round(ratio, 3),
        "p99_ratio_least": round(min(ratios), 3),
        "p99_ratio_most": round(max(ratios), 3),
        "target": TARGET,
        "reached": ratio <= TARGET,
        "calls": sent,
        "samples": dict(samples),
        "analysed_share": round(samples[_ANALYSED] / sent, 3),
        "code": drift_report.code_digest(),
    }


def line(row: drift_report.Row) -> str:
    """The row for a person."""
    lost = {reason: count for reason, count in row["samples"].items() if reason != _ANALYSED and count}
    return (
        f"{row['case']}: p99 {row['p99_ms_on']:g} ms watched, {row['p99_ms_off']:g} ms not: "
        f"{row['p99_ratio']:g} [{row['p99_ratio_least']:g}, {row['p99_ratio_most']:g}], "
        f"{'reached' if row['reached'] else 'missed'} (at most {row['target']:g}); "
        f"{row['analysed_share']:.0%} of {row['calls']:,} calls analysed; lost: {lost or 'none'}"
    )


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each tap.")] = 15,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a run.")] = 10,
    quick: Annotated[bool, typer.Option("--quick", help="3 rounds of 3 s, to try it; nothing is saved.")] = False,
    out: Annotated[Path, typer.Option(help="Results file; what is measured replaces its row.")] = RESULTS,
) -> None:
    """Measure what watching every call costs the p99 of the traffic through the tap."""
    console = Console()
    with report.failures_told():
        row = asyncio.run(bench(3 if quick else rounds, 3 if quick else seconds, console))
    if not quick:
        drift_report.merge(out, row["case"], [row])
    console.print(line(row), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
