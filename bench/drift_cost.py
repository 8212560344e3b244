"""``make bench-drift``, second part: what watching costs, per vector, beside other libraries; memory; loading.

Run from the repository: ``python -m bench.drift_cost [--rounds N] [--dimensions D] [--no-rivals] [--render]``.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench import drift_report, report
from bench.drift_rivals import METHODS, environments, score
from bench.drift_traffic import EMBEDDING, Singles, mixture
from rich.console import Console
from threadpoolctl import threadpool_limits

from latentry_serving.drift.detector import Detector
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import Settings
from latentry_serving.tap.analysis import child_environment

DIMENSIONS = (64, 768, 4096)
BATCHES = (1, 32, 256)
WINDOW = 500
_REFERENCE_WINDOWS = 20
_LIVE_WINDOWS = 4
_RIVAL_SECONDS = 20.0
_COLUMNS = 256
_RIVAL_REFERENCE = 2000


def vectors(d: int, windows: int, seed: int) -> Singles:
    """[windows * WINDOW, d] of a Gaussian mixture."""
    stream = mixture(d)(seed)
    return np.concatenate([stream(np.zeros(WINDOW))[EMBEDDING] for _ in range(windows)])


def ours(d: int, rounds: int, live: Singles, profile: Profile) -> Iterator[dict[str, Any]]:
    """CPU per vector of the whole path: windows filled, judged by every statistic, held against both rules."""
    for batch in BATCHES:
        detector = Detector(profile, Settings(window=WINDOW, expected_run_time_s=30 * 86400.0, max_wait_s=3600.0))
        _watch(detector, live, batch, 0.0)  # thresholds are found on the first windows
        spent = []
        for turn in range(1, rounds + 1):
            started = time.process_time()
            judged = _watch(detector, live, batch, 3600.0 * turn)
            spent.append((time.process_time() - started) / len(live) * 1e6)
            if judged != _LIVE_WINDOWS:
                raise AssertionError(f"{judged} windows judged, not {_LIVE_WINDOWS}")
        yield _row("Latentry, all statistics", d, batch, spent, WINDOW)


def _watch(detector: Detector, live: Singles, batch: int, opened: float) -> int:
    """Vectors at one a tenth of a second; returns the windows judged."""
    return sum(
        len(detector.update(EMBEDDING, live[start : start + batch], opened + start / 10))
        for start in range(0, len(live), batch)
    )


def product(d: int, rounds: int, live: Singles) -> dict[str, Any]:
    """What this machine takes for one matrix product of the size watching needs: costs are to be read against it."""
    matrix = np.random.default_rng(3).standard_normal((d, _COLUMNS), np.float32)
    spent = []
    for _ in range(rounds + 1):
        started = time.process_time()
        for start in range(0, len(live), BATCHES[-1]):
            live[start : start + BATCHES[-1]] @ matrix
        spent.append((time.process_time() - started) / len(live) * 1e6)
    return _row(f"numpy, product with [d, {_COLUMNS}] alone", d, BATCHES[-1], spent[1:], WINDOW)


def _row(what: str, d: int, batch: int | None, spent: list[float], window: int) -> dict[str, Any]:
    return {
        "what": what,
        "dimensions": d,
        "batch": batch,
        "window": window,
        "us_per_vector": round(statistics.median(spent), 2),
        "us_per_vector_least": round(min(spent), 2),
        "us_per_vector_most": round(max(spent), 2),
        "runs": len(spent),
    }


def theirs(
    d: int, venvs: Mapping[str, Path], live: Singles, reference: Singles, console: Console
) -> Iterator[dict[str, Any]]:
    """The same windows, given whole (batches do not matter then), against a reference of 2,000 vectors."""
    windows = live.reshape(1, -1, WINDOW, d)
    for method in METHODS:
        with console.status(f"{d}-d: {method.label}"):
            found = score(method, venvs[method.library], reference[:_RIVAL_REFERENCE], windows, most_s=_RIVAL_SECONDS)
        yield _row(method.label, d, None, [found.spent_s / (len(found.runs[0]) * WINDOW) * 1e6], WINDOW)


def process(profile: Profile, live: Singles) -> dict[str, float]:
    """Of a process of its own: memory and time to load."""
    with tempfile.TemporaryDirectory(prefix="latentry-drift-") as name:
        folder = Path(name)
        profile.save(folder / "profile")
        np.save(folder / "live.npy", live)
        command = [sys.executable, "-m", "bench.drift_process", str(folder / "profile"), str(folder / "live.npy")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1], env=child_environment()
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found


def measure(dimensions: list[int], rounds: int, rivals: bool, out: Path, console: Console) -> None:
    """Dimension by dimension; rows are saved as they come."""
    venvs = environments(console) if rivals else {}
    code = drift_report.code_digest()
    for d in dimensions:
        reference = vectors(d, _REFERENCE_WINDOWS, 1)
        live = vectors(d, _LIVE_WINDOWS, 2)
        started = time.process_time()
        profile = Profile({EMBEDDING: fit_tensor(EMBEDDING, reference, FitSettings(window=WINDOW))}, 0)
        fitted = time.process_time() - started
        case = f"{d}-d"
        rows = [*ours(d, rounds, live, profile), product(d, rounds, live)]
        if rivals:
            rows += theirs(d, venvs, live, reference, console)
        rows.append({"what": "process", "dimensions": d, "fit_s": round(fitted, 2), **process(profile, live)})
        drift_report.merge(out, case, [{"case": case, **row, "code": code} for row in rows])
        for row in rows:
            console.print(drift_report.cost_line(row), markup=False, soft_wrap=True)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of 4 windows per batch size.")] = 7,
    dimensions: Annotated[list[int] | None, typer.Option(help="Only these dimensions.")] = None,
    rivals: Annotated[bool, typer.Option(help="Also the other libraries.")] = True,
    out: Annotated[Path, typer.Option(help="Results file; what is measured replaces its rows.")] = drift_report.COST,
    render: Annotated[bool, typer.Option("--render", help="Only write the table into docs/benchmarks.md.")] = False,
) -> None:
    """Measure CPU per vector, memory and loading time of drift detection."""
    console = Console()
    with report.failures_told():
        if render:
            drift_report.render_cost(report.load(out, make="bench-drift"))
            return
        with threadpool_limits(1):
            measure(dimensions or list(DIMENSIONS), rounds, rivals, out, console)


if __name__ == "__main__":
    typer.run(main)
