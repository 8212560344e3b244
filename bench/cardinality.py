"""The series that models cost Prometheus, counted in the registries of real taps.

Run from the repository: ``python -m bench.cardinality [--bundle DIR] [--models N]``. Each tap has seen everything once:
every operation over both protocols in every way it can end, windows of drift and health that alarm, golden probes that
failed, samples lost for every reason.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from latentry_serving.bundle.profile import BundleProfile, load_profile
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract import triton_metrics
from latentry_serving.contract.manifest import BundleManifest, OperationContract, TensorSpec
from latentry_serving.contract.metrics import (
    DRIFT_CONTRIBUTION,
    MANAGEMENT_OPERATION,
    OTHER_OPERATION,
    POSTERIOR_KL_NATS,
    PROTOCOL_FAULTS,
    SERVER_FAULTS,
    CallKind,
    LoadOutcome,
    Outcome,
    ProbeOutcome,
    Protocol,
    RefusedReason,
    SampleLoss,
)
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, DriftSettings, LoadOverrides, Sampling, TapConfig
from latentry_serving.oip import DecodedTensor
from latentry_serving.sli.calls import Call
from latentry_serving.tap.analysis_decode import Sample
from latentry_serving.tap.analysis_setup import AnalysisSetup
from latentry_serving.tap.golden import Verdict
from latentry_serving.tap.lifecycle import Tap
from latentry_serving.tap.monitor import Monitor
from latentry_serving.tap.probes import ProbeRecord
from latentry_serving.tap.score_probes import ScoreProbes

TOP_K = frozenset({DRIFT_CONTRIBUTION, POSTERIOR_KL_NATS})
"""Families that show the largest few of many dimensions."""
RESULTS = Path(__file__).parent / "results" / "cardinality.json"
_ROWS = 25
_LARGE = np.float32(8.0)


def used_tap(bundle: Path, manifest: BundleManifest, watched: bytes, *, model: str, stream: bool = False) -> Tap:
    """A tap that was not started, whose figures are as if it had seen everything.

    Args:
        bundle: folder with the manifest.
        watched: from ``watched_windows``.
        stream: whether every operation was streamed too.
    """
    tap = Tap(
        TapConfig(
            model=model,
            bundle_dir=str(bundle),
            sampling=Sampling(max_per_second=50),
            load=LoadOverrides(instances=1, max_batch_size=8, max_queue_delay_us=500),
        )
    )
    for kind in CallKind if stream else (CallKind.UNARY,):
        _calls(tap, [*(str(one) for one in manifest.contract.operations), OTHER_OPERATION, MANAGEMENT_OPERATION], kind)
    tap.watchers.monitoring.take(watched)
    _probes(tap, manifest)
    return tap


def _calls(tap: Tap, operations: Iterable[str], kind: CallKind) -> None:
    for operation in operations:
        for protocol in Protocol:
            for outcome in Outcome:
                if outcome not in SERVER_FAULTS or outcome in PROTOCOL_FAULTS[protocol]:
                    call = Call(protocol, operation, kind, 1.0, 1.1, 1.2, 10, 10, outcome)
                    tap.book.call_started(call)
                    tap.book.call_finished(call)
    for protocol in Protocol:
        tap.book.connection_refused(protocol, RefusedReason.UPSTREAM_UNAVAILABLE, 1.0)


def watched_windows(manifest: BundleManifest, profile: BundleProfile) -> bytes:
    """The analysis process' line once inputs far from the reference have filled some windows."""
    drift, now_s = DriftSettings(), 1e9
    monitor = Monitor(
        AnalysisSetup(limit_bytes=1, drift=drift),
        manifest,
        profile,
        clock=lambda: now_s,
        probes=ScoreProbes(manifest.contract, Address(port=0), drift.score_probes),
    )
    rng, line = np.random.default_rng(11), b""
    for _ in range(4 * profile.window // _ROWS):
        for operation in (Operation.ENCODE, Operation.SCORE):
            if call := manifest.contract.operations.get(operation):
                monitor.consume(_sample(operation, call, rng, now_s))
        now_s += 1.0
        line = monitor.step() or line
    return line


def _sample(operation: Operation, call: OperationContract, rng: np.random.Generator, now_s: float) -> Sample:
    def drawn(tensors: Iterable[TensorSpec]) -> tuple[DecodedTensor, ...]:
        shapes = [(t, (_ROWS, *t.shape)) for t in tensors]
        return tuple(
            DecodedTensor(t.name, t.datatype, shape, np.abs(rng.normal(size=shape)).astype(np.float32) * _LARGE)
            for t, shape in shapes
        )

    return Sample(operation, drawn(call.inputs), drawn(call.outputs), now_s)


def _probes(tap: Tap, manifest: BundleManifest) -> None:
    watch = tap.watch
    assert watch is not None and watch.loader is not None
    for model, operation in manifest.operations_by_model.items():
        watch.loader.loaded[model] = True
        watch.loader.loads.update({(operation, outcome): 1 for outcome in LoadOutcome})
        watch.prober.records[operation] = ProbeRecord(
            Verdict(ProbeOutcome.OUT_OF_TOLERANCE, "", 1.0, 0.0),
            ended_unix_s=1e9,
            outcomes=Counter((ProbeOutcome.PASSED, ProbeOutcome.OUT_OF_TOLERANCE)),
        )
    samples = tap.watchers.samples
    assert samples is not None
    samples.lost.update({(samples.operations[0], reason): 1 for reason in SampleLoss})


def series(tap: Tap) -> Counter[str]:
    """Series by metric family, as Prometheus would store them."""
    return Counter({family.name: len(family.samples) for family in tap.registry().collect() if family.samples})


def main(
    bundle: Annotated[Path, typer.Option(help="A bundle with a profile.")] = Path(".latentry/digits-vae"),
    models: Annotated[int, typer.Option(help="Taps, one for each model.")] = 50,
) -> None:
    """Counts, and writes bench/results/cardinality.json."""
    manifest = load_manifest(bundle)
    profile = load_profile(bundle, manifest)
    if profile is None:
        raise typer.BadParameter(f"{bundle} has no profile; take one that was built with reference inputs")
    logging.disable()  # every alarm is a line
    watched = watched_windows(manifest, profile)
    counts = [series(used_tap(bundle, manifest, watched, model=f"model-{number:02}")) for number in range(models)]
    streamed = series(used_tap(bundle, manifest, watched, model="streamed", stream=True))
    unused = series(Tap(TapConfig(bundle_dir=str(bundle), sampling=Sampling(max_per_second=50))))
    operations = len(manifest.contract.operations)
    tritons = operations * len(triton_metrics.PER_MODEL) + len(triton_metrics.PER_GPU)
    each = [sum(count for name, count in one.items() if name not in TOP_K) for one in counts]
    document = {
        "bundle": f"{manifest.name} {manifest.version}",
        "operations": operations,
        "models": models,
        "series": sum(sum(one.values()) for one in counts),
        "series_per_model": {"least": min(each), "most": max(each), "before_the_first_call": sum(unused.values())},
        "kept_of_triton_per_model": tritons,
        "scraped_per_model": max(each) + tritons,
        "top_k_per_model": max(sum(one[name] for name in TOP_K) for one in counts),
        "more_when_every_operation_is_streamed_too": sum(streamed.values()) - sum(counts[0].values()),
        "families": dict(counts[0].most_common()),
    }
    text = json.dumps(document, indent=2) + "\n"
    RESULTS.write_text(text, encoding="utf-8")
    typer.echo(text, nl=False)


if __name__ == "__main__":
    typer.run(main)
