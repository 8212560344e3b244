"""``make bench-drift``, third part: windows until drift is noticed, by Latentry and others at one false-alarm rate.

Run from the repository: ``python -m bench.drift_delay [--quick] [--heavy] [--runs N] [--render]``.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench import drift_report, report
from bench.drift_kinds import SIZES, Drifting
from bench.drift_rivals import METHODS, Method, environments, score
from bench.drift_traffic import EMBEDDING, Singles
from rich.console import Console
from threadpoolctl import threadpool_limits

from latentry_serving.drift import bins
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile, TensorProfile
from latentry_serving.drift.types import Settings

RUN_LENGTH = 100
"""Windows between false alarms: stated to Latentry; for the others the threshold is the quantile of fresh undrifted
windows' scores, which no user has: it flatters them."""
OURS = "Latentry"
PSI_RULE = "PSI > 0.2 on any dimension"
PSI_CALIBRATED = "largest PSI, calibrated"
_PSI_LIMIT = 0.2
_RIVAL_REFERENCE = 2000
_WINDOW_S = 1.1**67 * (1 + 1e-6)


@dataclass(frozen=True, slots=True)
class Plan:
    """How large. ``most``: windows after which a run is given up. ``calibration``: undrifted windows for thresholds."""

    dimensions: int = 768
    window: int = 500
    reference_windows: int = 40
    runs: int = 10
    most: int = 20
    calibration: int = 300


QUICK = Plan(dimensions=64, reference_windows=20, runs=3, most=8, calibration=100)


class Ours:
    """Latentry: alarms of the whole model, from a fresh detector per run."""

    def __init__(self, plan: Plan, tensor: TensorProfile) -> None:
        self._profile = Profile({EMBEDDING: tensor}, 0)
        run_time = RUN_LENGTH * _WINDOW_S
        self._settings = Settings(window=plan.window, expected_run_time_s=run_time, max_wait_s=2 * _WINDOW_S)

    def delays(self, runs: Singles) -> list[int | None]:
        """Windows until the alarm [runs], None where there is none within [runs, m, w, d]."""
        return [self._delay(windows) for windows in runs]

    def _delay(self, windows: Singles) -> int | None:
        detector = Detector(self._profile, self._settings)
        for index, window in enumerate(windows):
            half, opened = len(window) // 2, index * _WINDOW_S
            results = detector.update(EMBEDDING, window[:half], opened)
            results += detector.update(EMBEDDING, window[half:], opened + _WINDOW_S)
            if any(result.alarms for result in results):
                return index + 1
        return None


class Psi:
    """The largest PSI over the dimensions, as most tools compute it."""

    def __init__(self, tensor: TensorProfile) -> None:
        self._reference = tensor.reference

    def score(self, window: Singles) -> float:
        edges = np.ascontiguousarray(self._reference.bin_edges.T)
        scratch = np.empty((240, window.shape[1]), np.bool_)
        parts = [bins.count_above(window[i : i + 240], edges, scratch) for i in range(0, len(window), 240)]
        counts = bins.counts_from_above(np.sum(parts, axis=0), len(window))
        return float(bins.psi(counts, self._reference.bin_shares.astype(np.float64)).max())

    def delays(self, runs: Singles, limit: float) -> list[int | None]:
        return [first(map(self.score, windows), limit) for windows in runs]


def first(scores: Iterator[float] | Sequence[float], threshold: float) -> int | None:
    """Number, from 1, of the first score above the threshold."""
    return next((index for index, value in enumerate(scores, 1) if value > threshold), None)


def threshold_of(scores: Sequence[float]) -> float:
    """What undrifted windows exceed once in RUN_LENGTH."""
    return float(np.quantile(scores, 1 - 1 / RUN_LENGTH))


def rows_of(kind: str, size: float, delays: Mapping[str, Sequence[int | None]], most: int) -> Iterator[dict[str, Any]]:
    """One row per method; ``median_windows`` is null where half of the runs were given up."""
    given_up = most + 1
    middle = {n: statistics.median_high(given_up if d is None else d for d in found) for n, found in delays.items()}
    best = min((value for name, value in middle.items() if name not in (OURS, PSI_RULE)), default=given_up)
    for name, found in delays.items():
        row: dict[str, Any] = {
            "case": f"{kind} {size:g}",
            "kind": kind,
            "size": size,
            "method": name,
            "median_windows": None if middle[name] > most else middle[name],
            "caught": sum(d is not None for d in found),
            "runs": len(found),
            "most": most,
        }
        yield row | ({"reached": middle[name] <= best} if name == OURS else {})


def measure(plan: Plan, methods: Sequence[Method], kinds: Sequence[str], out: Path, console: Console) -> None:
    """Kind by kind; rows are saved as they come."""
    venvs = environments(console) if methods else {}
    code = drift_report.code_digest()
    world = Drifting(plan.dimensions, 1)
    reference = world.draw(plan.reference_windows * plan.window)
    tensor = fit_tensor(EMBEDDING, reference, FitSettings(window=plan.window))
    ours, psi = Ours(plan, tensor), Psi(tensor)
    # Thresholds come from runs as long as the drifting ones: some methods remember, and are noisier at first.
    count = -(-plan.calibration // plan.most)
    fresh = world.draw(count * plan.most * plan.window).reshape(count, plan.most, plan.window, -1)
    psi_limit = threshold_of([psi.score(window) for run in fresh for window in run])
    short = reference[:: max(1, len(reference) // _RIVAL_REFERENCE)]
    limits = {}
    for method in methods:
        with console.status(f"{method.label}: undrifted windows"):
            undrifted = score(method, venvs[method.library], short, fresh).runs
            limits[method] = threshold_of([value for run in undrifted for value in run])
    del fresh
    for kind in kinds:
        runs = np.stack([_runs(world, kind, size, plan) for size in SIZES[kind]])
        delays: dict[str, list[list[int | None]]] = {
            OURS: [ours.delays(some) for some in runs],
            PSI_RULE: [psi.delays(some, _PSI_LIMIT) for some in runs],
            PSI_CALIBRATED: [psi.delays(some, psi_limit) for some in runs],
        }
        for method, limit in limits.items():  # all sizes at once: some libraries take seconds to import
            together = runs.reshape(-1, *runs.shape[2:])
            with console.status(f"{kind}: {method.label}"):
                found = score(method, venvs[method.library], short, together, threshold=limit)
            each = [first(scores, limit) for scores in found.runs]
            delays[method.label] = [each[i : i + plan.runs] for i in range(0, len(each), plan.runs)]
        for index, size in enumerate(SIZES[kind]):
            of_size = {name: found[index] for name, found in delays.items()}
            rows = [{**row, **_how(plan), "code": code} for row in rows_of(kind, size, of_size, plan.most)]
            drift_report.merge(out, f"{kind} {size:g}", rows)
            console.print(drift_report.delay_line(rows), markup=False, soft_wrap=True)


def _runs(world: Drifting, kind: str, size: float, plan: Plan) -> Singles:
    """[runs, most, window, d]."""
    rows = world.drifted(kind, size, plan.runs * plan.most * plan.window)
    return rows.reshape(plan.runs, plan.most, plan.window, -1)


def _how(plan: Plan) -> dict[str, int]:
    return {"dimensions": plan.dimensions, "window": plan.window, "reference": plan.reference_windows * plan.window}


def main(
    quick: Annotated[bool, typer.Option("--quick", help="64 dimensions, 3 short runs: does everything work?")] = False,
    heavy: Annotated[bool, typer.Option("--heavy", help="Also the methods that take hours at 768 dimensions.")] = False,
    rivals: Annotated[bool, typer.Option(help="Also the other libraries.")] = True,
    runs: Annotated[int | None, typer.Option(min=1, help="Runs per kind and size.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Results file; what is measured replaces its rows. Left out: by what is asked.")
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Only write the tables into docs/benchmarks.md.")] = False,
) -> None:
    """Measure how many windows each kind and size of drift stays unnoticed."""
    console = Console()
    plan = QUICK if quick else Plan()
    if runs is not None:
        plan = Plan(plan.dimensions, plan.window, plan.reference_windows, runs, plan.most, plan.calibration)
    with report.failures_told():
        if render:
            drift_report.render_delay(report.load(drift_report.DELAY, make="bench-drift"))
            every_method = report.load(drift_report.DELAY_ALL_METHODS, make="bench-drift")
            drift_report.render_delay(every_method, "drift delay figures, all methods")
            return
        out = out or (drift_report.DELAY_ALL_METHODS if heavy else drift_report.DELAY)
        with threadpool_limits(1):
            methods = [m for m in METHODS if rivals and (heavy or not m.heavy)]
            measure(plan, methods, list(SIZES), out, console)


if __name__ == "__main__":
    typer.run(main)
