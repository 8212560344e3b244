"""``make bench-drift``, first part: false alarms, measured against stated, on undrifted traffic of many kinds.

Run from the repository: ``python -m bench.drift_false_alarms [--windows N] [--only CASE] [--render]``. Every p-value is
kept in the cache folder under a digest of the code, so a run that was stopped goes on where it was.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench import drift_real, drift_report, report
from bench.drift_interval import onsets, rate_of, significant
from bench.drift_traffic import DAY_S, Stream, binary, daily, dead_dimensions, heavy_tails, mixture, pool
from bench.servers.venvs import cache_folder
from rich.console import Console
from threadpoolctl import threadpool_limits

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.rules import Cusum, cusum_design
from latentry_serving.drift.scores import COUNTED
from latentry_serving.drift.types import Settings

RUN_LENGTH = 100
"""Windows between false alarms as stated to the detector: few enough that 10,000 windows measure it."""
SINGLE = 0.01
"""Stated rate of each statistic by itself, for each rule."""
REFERENCE_WINDOWS = (20, 30, 40)
FAR = 1e-4
"""How far out all p-values together (statistics times windows) are held to what they say."""
_WINDOW_S = 1.1**67 * (1 + 1e-6)  # ten minutes; the detector rounds durations down to a power of 1.1: nothing is lost
_REFERENCE_DAYS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of traffic. ``timed``: the reference comes with times, over 8 days; ``window_s``: of a live window."""

    name: str
    stream: Callable[[int], Stream]
    window: int = 500
    timed: bool = False
    window_s: float = _WINDOW_S


CASES = (
    Case("Gaussian mixture, 64-d", mixture(64)),
    Case("runs of 1, 128-d", mixture(128)),
    Case("runs of 2, 128-d", mixture(128, 2)),
    Case("runs of 10, 128-d", mixture(128, 10)),
    Case("runs of 50, 128-d", mixture(128, 50)),
    Case("daily cycle, 64-d", daily(64), timed=True),
    Case("heavy tails, 64-d", heavy_tails(64)),
    Case("dead dimensions, 64-d", dead_dimensions(64)),
    Case("binary embeddings, 256-d", binary(256)),
    Case("digits VAE, 4 tensors", pool(drift_real.digits_vae)),
    Case("MiniLM embeddings, 384-d", pool(lambda: drift_real.minilm(cache_folder() / "drift"))),
    Case("Gaussian mixture, 768-d", mixture(768)),
    Case("Gaussian mixture, 4096-d, windows of 200", mixture(4096), window=200),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What one reference led to: names ``tensor/statistic`` [m], p-values [n, m] (NaN: not judged), alarms raised
    [n, m], share of the reference in the variance of each [m]."""

    names: tuple[str, ...]
    p: np.ndarray
    raised: np.ndarray
    shared: np.ndarray


def judge(case: Case, seed: int, reference_windows: int, windows: int) -> Judged:
    """Fits one reference and judges ``windows`` rounds of windows, one per tensor, of traffic like it."""
    stream = case.stream(seed)
    size = reference_windows * case.window
    times = np.arange(size) * (_REFERENCE_DAYS * DAY_S / size) if case.timed else np.zeros(size)
    parts = [stream(part) for part in np.array_split(times, reference_windows)]
    how = FitSettings(window=case.window, seed=seed)
    tensors = {
        name: fit_tensor(
            name, np.concatenate([part[name] for part in parts]), how, times_s=times if case.timed else None
        )
        for name in parts[0]
    }
    del parts
    settings = Settings(
        window=case.window,
        expected_run_time_s=RUN_LENGTH * case.window_s,
        max_wait_s=5 * case.window_s,
        min_window=min(50, case.window),
    )
    detector = Detector(Profile(tensors, seed), settings)
    names = tuple(f"{t.name}/{s}" for t in tensors.values() for s in t.statistics)
    judged = Judged(
        names,
        np.full((windows, len(names)), np.nan),
        np.zeros((windows, len(names)), np.bool_),
        np.array([t.shared(s) for t in tensors.values() for s in t.statistics]),
    )
    column = {name: index for index, name in enumerate(names)}
    opened = _REFERENCE_DAYS * DAY_S
    for row in range(windows):
        at = opened + case.window_s * np.arange(case.window) / case.window
        for name, vectors in stream(at).items():
            half = case.window // 2
            results = detector.update(name, vectors[:half], opened)
            results += detector.update(name, vectors[half:], opened + case.window_s)
            (result,) = results
            for score in result.scores:
                judged.p[row, column[f"{name}/{score.statistic}"]] = score.p
            for alarm in result.alarms:
                judged.raised[row, column[f"{name}/{alarm.statistic}"]] = True
        opened += case.window_s
    return judged


def rows_of(case: Case, found: list[Judged]) -> Iterator[dict[str, Any]]:
    """The whole model; p-values of all but counters, far out; then each statistic by each rule at its own rate."""
    raised = [int(j.raised.any(axis=1).sum()) for j in found]
    yield _row(case, "whole model", "both rules", 1 / RUN_LENGTH, raised, [len(j.raised) for j in found])
    far = [np.stack([j.p[:, i] for i, name in enumerate(j.names) if not _counted(name)]) for j in found]
    sizes = [int((~np.isnan(p)).sum()) for p in far]
    yield _row(case, "any statistic", "one window", FAR, [int((p <= FAR).sum()) for p in far], sizes)
    every = sorted({name for j in found for name in j.names}, key=[n for j in found for n in j.names].index)
    for name in every:
        watched = [(j, j.names.index(name)) for j in found if name in j.names]
        p = [values[~np.isnan(values)] for values in (j.p[:, i] for j, i in watched)]
        sizes = [len(values) for values in p]
        yield _row(case, name, "one window", SINGLE, [int((v <= SINGLE).sum()) for v in p], sizes) | {
            "smallest_p": float(f"{min(float(v.min()) for v in p):.2g}")
        }
        alarmed = [_cusum_alarms(v, float(j.shared[i])) for v, (j, i) in zip(p, watched, strict=True)]
        quiet = [max(1, int((~a).sum()) + onsets(a)) for a in alarmed]
        yield _row(case, name, "CUSUM", SINGLE, [onsets(a) for a in alarmed], quiet)


def _cusum_alarms(p: np.ndarray, shared: float) -> np.ndarray:
    k, h = cusum_design(1 / SINGLE, min(shared, 0.24))
    rule = Cusum(k, h, 1)
    states = np.zeros(len(p), np.bool_)
    for index, value in enumerate(p):
        rule.update([value])
        states[index] = rule.alarmed[0]
    return states


def _counted(name: str) -> bool:
    return name.rsplit("/", 1)[-1] in {str(s) for s in COUNTED}


def _row(case: Case, what: str, rule: str, stated: float, events: list[int], windows: list[int]) -> dict[str, Any]:
    rate = rate_of(events, windows)
    return {
        "case": case.name,
        "statistic": what,
        "rule": rule,
        "stated": stated,
        "measured": significant(rate.measured),
        "ci_low": significant(rate.ci_low),
        "ci_high": significant(rate.ci_high),
        "windows": rate.windows,
        "alarms": rate.events,
        "references": len(events),
        "lowest_reference": significant(rate.lowest),
        "highest_reference": significant(rate.highest),
        "reached": rate.ci_high <= 2 * stated and (_counted(what) or rate.ci_low >= stated / 5),
    }


def kept(case: Case, index: int, windows: int, folder: Path) -> Judged:
    """One reference of a case: judged now, or read where an earlier run of the same code left it."""
    name = f"{case.name.replace(', ', '-').replace(' ', '-')}-{index}-{windows}.npz"
    if not (folder / name).is_file():
        size = REFERENCE_WINDOWS[index % len(REFERENCE_WINDOWS)]
        judged = judge(case, 1000 + index, size, windows)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"unfinished-{name}"
        np.savez(unfinished, names=np.array(judged.names), p=judged.p, raised=judged.raised, shared=judged.shared)
        unfinished.rename(folder / name)
    with np.load(folder / name) as arrays:
        return Judged(tuple(arrays["names"].tolist()), arrays["p"], arrays["raised"], arrays["shared"])


def measure(cases: list[Case], windows: int, references: int, out: Path, console: Console) -> None:
    """Reference by reference, each through all cases: results are complete at any time, with fewer windows."""
    code = drift_report.code_digest(Path(__file__).with_name("drift_traffic.py"), Path(drift_real.__file__))
    folder = cache_folder() / "drift" / f"false-alarms-{code}"
    found: dict[str, list[Judged]] = {case.name: [] for case in cases}
    for index in range(references):
        for case in cases:
            started = time.process_time()
            found[case.name].append(kept(case, index, -(-windows // references), folder))
            rows = [{**row, "code": code} for row in rows_of(case, found[case.name])]
            drift_report.merge(out, case.name, rows)
            spent = f"({time.process_time() - started:.0f} s of CPU)"
            console.print(f"{index + 1}: {drift_report.verdict(rows)} {spent}", markup=False, soft_wrap=True)


def chosen(only: list[str]) -> list[Case]:
    """Cases whose name contains one of the words; all for none.

    Raises:
        InvalidInput: a word fits no case.
    """
    for word in only:
        if not any(word.lower() in case.name.lower() for case in CASES):
            names = "; ".join(case.name for case in CASES)
            raise InvalidInput.one("benchmark", path="--only", problem=f"{word!r} is in no case", remedy=names)
    return [case for case in CASES if not only or any(word.lower() in case.name.lower() for word in only)]


def main(
    windows: Annotated[int, typer.Option(min=10, help="Windows per case, over all references.")] = 10_000,
    references: Annotated[int, typer.Option(min=1, help="Independent references per case.")] = 12,
    only: Annotated[list[str] | None, typer.Option(help="Cases whose name contains this.")] = None,
    out: Annotated[Path, typer.Option(help="Results file; the cases measured replace theirs in it.")] = (
        drift_report.FALSE_ALARMS
    ),
    render: Annotated[bool, typer.Option("--render", help="Only write the table into docs/benchmarks.md.")] = False,
) -> None:
    """Measure how often undrifted traffic raises an alarm, against the rate that was stated."""
    console = Console()
    with report.failures_told():
        if render:
            drift_report.render_false_alarms(report.load(out, make="bench-drift"))
            return
        with threadpool_limits(1):
            measure(chosen(only or []), windows, references, out, console)


if __name__ == "__main__":
    typer.run(main)
