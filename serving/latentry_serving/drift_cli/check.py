"""The live verdict, offline: inputs through the bundle's model, window after window, judged as the tap would."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.bundle.profile import BundleProfile, Health
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.operations import EMBEDDING, POSTERIOR_LOG_VARIANCE, POSTERIOR_MEAN, RECONSTRUCTION_ERROR
from latentry_serving.drift import order
from latentry_serving.drift.budget import FEWEST_WINDOWS
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.explain import Explanation, explain
from latentry_serving.drift.types import Settings, TensorStatus, WindowScore
from latentry_serving.drift_cli.verdict import (
    Drifted,
    HealthWindow,
    JudgedWindow,
    StatisticWindow,
    TensorWindow,
    Verdict,
)
from latentry_serving.health.report import DisjointWindows

HEALTH_SHARE = 0.5
"""Of the false-alarm budget, as in the tap: the other half belongs to drift."""
LARGEST_ALPHA = 0.1
FEWEST_ROWS = 20
_SHORTEST_S = 1e-3

Telling = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How the inputs are judged.

    Attributes:
        window: inputs per window.
        false_alarms: probability that undrifted inputs, all windows together, are called drifted; None with a run time.
        expected_run_time_s, rate: as live: mean seconds between false alarms; inputs per second, None with times.
    """

    window: int
    false_alarms: float | None = 0.01
    expected_run_time_s: float | None = None
    rate: float | None = None


def window_of(profile: BundleProfile, rows: int, asked: int | None) -> int:
    """The window to judge with: what was asked for, else the profile's, or all inputs when they are fewer.

    Raises:
        InvalidInput: larger than the profile's, or fewer inputs than say anything.
    """
    window = min(profile.window, rows) if asked is None else asked
    if not FEWEST_ROWS <= window <= profile.window:
        if asked is None:
            remedy = f"give {FEWEST_ROWS} or more, {profile.window} fill a window of the profile"
            raise InvalidInput.one("drift check", path="--inputs", problem=f"{rows} inputs", remedy=remedy)
        raise InvalidInput.one(
            "drift check",
            path="--window",
            problem=f"{asked}; the profile was calibrated for {profile.window}",
            remedy=f"write {FEWEST_ROWS} to {profile.window}, or fit a profile with a larger window",
        )
    if rows < window:
        remedy = f"give {window} or more, or --window {rows}"
        raise InvalidInput.one("drift check", path="--inputs", problem=f"{rows} inputs fill no window", remedy=remedy)
    return window


def judge_inputs(
    profile: BundleProfile,
    values: Mapping[str, Array],
    settings: CheckSettings,
    *,
    times_s: NDArray[np.float64] | None = None,
    progress: Telling = lambda _, __: None,
) -> Verdict:
    """Judges watched tensors in their order.

    Args:
        profile: of the bundle whose model made them.
        values: [n, d] by tensor name, all of the same inputs.
        times_s: [n] ascending Unix seconds; needed by a profile with hour-of-day slots.

    Raises:
        InvalidInput: settings out of range, or times that the profile needs are missing.
    """
    rows = len(next(iter(values.values())))
    count = rows // settings.window
    _check_times(profile, settings, times_s)
    if times_s is None:
        times_s = np.arange(rows) / (settings.rate or 1.0)
    run_time_s, health_run_time = _run_times(profile, settings, times_s, count)
    # No window is cut short, and none lasts so much less than ``max_wait_s`` that the budget is shared out anew.
    longest_s = max(_lasted(times_s, slice(i * settings.window, (i + 1) * settings.window)) for i in range(count))
    _check_run_time(settings, longest_s)
    waiting = Settings(settings.window, run_time_s, longest_s * (1 + 1e-6), min_window=min(50, settings.window))
    detector = Detector(profile.drift, waiting)
    names = [name for name in detector.tensors if name in values]
    windows, alarms, opened = [], [], dict[float, int]()
    for index in range(count):
        progress("judging windows", index / count)
        part = slice(index * settings.window, (index + 1) * settings.window)
        opened.setdefault(float(times_s[part.start]), part.start)
        judged = []
        for name in names:
            tensor, raised = _window(detector, profile, name, values[name][part], times_s[part])
            judged.append(tensor)
            alarms += [
                Drifted(e, index, min(part.start, opened.get(e.alarm.since_s, part.start)), p) for e, p in raised
            ]
        windows.append(JudgedWindow(part.start, part.stop - 1, tuple(judged)))
    health = _health(profile.health, values, times_s, health_run_time)
    left_over = rows - count * settings.window
    parts = tuple(profile.health.present)
    return Verdict(rows, settings.window, tuple(windows), left_over, tuple(alarms), health, parts)


def _window(
    detector: Detector, profile: BundleProfile, name: str, rows: Array, times_s: NDArray[np.float64]
) -> tuple[TensorWindow, list[tuple[Explanation, float]]]:
    results = [
        result
        for piece, now_s in _pieces(times_s)
        for result in detector.update(name, rows[piece].astype(np.float32), now_s)
    ]
    (result,) = results
    p_of = {score.statistic: score.p for score in result.scores}
    reference = profile.drift.tensors[name].reference
    raised = [(explain(alarm, reference), p_of[alarm.statistic]) for alarm in result.alarms]
    (status,) = (status for status in detector.status(float(times_s[-1])) if status.tensor == name)
    return _tensor_window(status, result.scores), raised


def _tensor_window(status: TensorStatus, scores: tuple[WindowScore, ...]) -> TensorWindow:
    p_of = {score.statistic: score.p for score in scores}
    lowest = min(scores, key=lambda score: score.p, default=None)
    return TensorWindow(
        status.tensor,
        None if lowest is None else lowest.statistic,
        1.0 if lowest is None else lowest.p,
        tuple(s.statistic for s in status.statistics if s.alarm is not None),
        tuple(StatisticWindow(s.statistic, p_of.get(s.statistic), s.evidence, s.thresholds) for s in status.statistics),
    )


def _pieces(times_s: NDArray[np.float64]) -> Iterator[tuple[slice, float]]:
    """A window's inputs in pieces of one hour each, two at least: it opens at its first time and closes at its last."""
    hours = order.hour_of(times_s)
    cuts = sorted({0, len(times_s) // 2, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(times_s)})
    for start, stop in itertools.pairwise(cuts):
        last = stop == len(times_s)
        yield slice(start, stop), float(times_s[-1] if last else times_s[start])


def _check_times(profile: BundleProfile, settings: CheckSettings, times_s: NDArray[np.float64] | None) -> None:
    slots = [name for name, tensor in profile.drift.tensors.items() if tensor.slots > 1]
    if slots and times_s is None:
        raise InvalidInput.one(
            "drift check",
            path="--timestamps",
            problem=f"are missing; {', '.join(slots)} is held against the reference of its hour of the day",
            remedy="give the times of the inputs",
        )
    if settings.expected_run_time_s is not None and settings.rate is None and times_s is None:
        raise InvalidInput.one(
            "drift check",
            path="--rate",
            problem="is missing; an expected run time says nothing about inputs without times",
            remedy="give the inputs per second of the traffic, or --timestamps",
        )


def _check_run_time(settings: CheckSettings, longest_s: float) -> None:
    asked = settings.expected_run_time_s
    if asked is not None and asked < FEWEST_WINDOWS * longest_s:
        raise InvalidInput.one(
            "drift check",
            path="--expected-run-time",
            problem=f"{asked:g} s is {asked / longest_s:.3g} windows of {longest_s:g} s",
            remedy=f"write {FEWEST_WINDOWS * longest_s:.0f}s or more, or a smaller window",
        )


def _lasted(times_s: NDArray[np.float64], part: slice) -> float:
    """Seconds from a window's first input to its last."""
    return max(float(times_s[part.stop - 1] - times_s[part.start]), _SHORTEST_S)


def _run_times(
    profile: BundleProfile, settings: CheckSettings, times_s: NDArray[np.float64], count: int
) -> tuple[float, float]:
    """Expected run times of drift and of health, in seconds of the inputs' own clock."""
    share = HEALTH_SHARE if profile.health.present else 0.0
    whole = settings.expected_run_time_s
    if whole is None:
        assert settings.false_alarms is not None  # noqa: S101 - one of the two is given
        lasted = _lasted(times_s, slice(0, count * settings.window))
        whole = max(lasted, _SHORTEST_S * count) / settings.false_alarms
    return whole / (1 - share), whole / share if share else np.inf


def _health(
    health: Health, values: Mapping[str, Array], times_s: NDArray[np.float64], run_time_s: float
) -> tuple[HealthWindow, ...]:
    feeds = {
        "encoder": (EMBEDDING,),
        "reconstruction": (RECONSTRUCTION_ERROR,),
        "posterior": (POSTERIOR_MEAN, POSTERIOR_LOG_VARIANCE),
    }
    found = []
    for part, baseline in health.present.items():
        rows = [values[name] for name in feeds[part]]
        size = min(baseline.window, len(rows[0]))
        windows: DisjointWindows[Any] = DisjointWindows(baseline)
        for index, start in enumerate(range(0, len(rows[0]) - size + 1, size)):
            reports = windows.update(*(array[start : start + size] for array in rows))
            lasted_s = _lasted(times_s, slice(start, start + size))
            alpha = min(LARGEST_ALPHA, lasted_s / (run_time_s * len(health.present)))
            report = reports[0] if reports else windows.flush()
            found.append(HealthWindow(part, index, start, report, alpha))
    return tuple(found)
