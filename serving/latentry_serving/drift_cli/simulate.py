"""What settings cost: how long a drift stays unnoticed at a rate of traffic, and how many false alarms a month brings.

Delay: real inputs, drifted, are cut into random contiguous windows and judged; then the rules are run over windows
drawn from those, many times. The drift begins inside a window, which counts as undrifted: half a window is added.
Whatever of all tensors and statistics alarms first counts.

False alarms: the rules are run over p-values as the calibration promises them for undrifted traffic: uniform,
correlated between a tensor's statistics as in the calibration windows, and with what all windows share because the
reference is finite. This measures the rules and the sharing of the budget, not whether traffic is as it was.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from latentry_serving.bundle.profile import BundleProfile
from latentry_serving.bundle.tensors import Array
from latentry_serving.drift import budget, judge, order
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.rules import P_FLOOR
from latentry_serving.drift.scores import COUNTED
from latentry_serving.drift.types import Settings, Thresholds
from latentry_serving.drift.windows import Filled, Window
from latentry_serving.drift_cli.check import HEALTH_SHARE

MONTH_S = 30 * 86400.0
WINDOWS = 200
_RUNS, _BATCHES = 1000, 20
# Windows a run is followed; a drift not noticed by then is reported as such. Longer runs would say more about the drawn
# windows than about the drift: their chance deviation is the same in every draw.
_LONGEST = 2_000
_UNDRIFTED_RUNS = 1000
_ENOUGH_ALARMS = 100
_MOST_WINDOWS = 8_000_000

Floats = NDArray[np.float64]
Telling = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Price:
    """What the settings cost. Times in seconds; intervals are 95 % ones of the simulation.

    Attributes:
        window_s: that a window takes at the rate.
        noticed: share of runs that noticed the drift within ``followed_s``.
        delay_s, delay_interval: mean of those. median_s, late_s: quantiles .5 and .95 of all runs, None: not noticed.
        first: which ``tensor/statistic`` alarmed first, in which share of runs, most often first.
        stated_a_month: false alarms of drift that the budget allows. simulated_a_month, simulated_interval: in
            ``undrifted_windows`` simulated windows of every tensor.
    """

    window_s: float
    noticed: float
    followed_s: float
    delay_s: float | None
    delay_interval: tuple[float, float] | None
    median_s: float | None
    late_s: float | None
    first: tuple[tuple[str, float], ...]
    stated_a_month: float
    simulated_a_month: float
    simulated_interval: tuple[float, float]
    undrifted_windows: int

    def to_json(self) -> dict[str, Any]:
        """JSON friendly, camelCase."""
        return {
            "windowSeconds": self.window_s,
            "noticedShare": self.noticed,
            "followedSeconds": self.followed_s,
            "meanDelaySeconds": self.delay_s,
            "meanDelayInterval": self.delay_interval and list(self.delay_interval),
            "medianDelaySeconds": self.median_s,
            "p95DelaySeconds": self.late_s,
            "noticedFirstBy": [{"by": by, "share": share} for by, share in self.first],
            "falseAlarmsAMonthStated": self.stated_a_month,
            "falseAlarmsAMonthSimulated": self.simulated_a_month,
            "falseAlarmsAMonthInterval": list(self.simulated_interval),
            "undriftedWindows": self.undrifted_windows,
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of all statistics of all tensors side by side [m]; names are ``tensor/statistic``."""

    names: tuple[str, ...]
    alpha: Floats
    k: Floats
    h: Floats

    @classmethod
    def of(cls, profile: BundleProfile, settings: Settings) -> "Rules":
        """As the tap shares the budget out once windows fill at the rate: half of it belongs to model health."""
        status = Detector(profile.drift, settings).status(0.0)
        named: list[tuple[str, Thresholds]] = [
            (f"{tensor.tensor}/{each.statistic}", each.thresholds) for tensor in status for each in tensor.statistics
        ]
        alpha, k, h = (np.array([getattr(t, a) for _, t in named]) for a in ("alpha", "cusum_k", "cusum_h"))
        return cls(tuple(name for name, _ in named), alpha, k, h)


def live_settings(profile: BundleProfile, window: int, rate: float, run_time_s: float, replicas: int) -> Settings:
    """The tap's settings when windows fill at the rate."""
    share = 1 - HEALTH_SHARE if profile.health.present else 1.0
    smallest = min(50, window)
    return Settings(window, run_time_s / share, window * replicas / rate, replicas, min_window=smallest)


def judged_windows(
    profile: BundleProfile,
    values: Mapping[str, Array],
    starts: NDArray[np.int64],
    window: int,
    progress: Telling,
    *,
    times_s: Floats | None = None,
) -> Floats:
    """p-values [windows, m] of contiguous windows that begin at ``starts`` [windows]; NaN where not judged.

    times_s: [n] Unix seconds, which a profile with hour-of-day slots needs: each vector is held against its own hour.
    """
    columns = []
    hours = np.zeros(len(next(iter(values.values()))), np.int64) if times_s is None else order.hour_of(times_s)
    for count, (name, tensor) in enumerate(profile.drift.tensors.items()):
        progress(f"judging windows of {name}", count / len(profile.drift.tensors))
        kernel, rows, slots = tensor.kernel(), np.asarray(values[name], np.float32), tensor.slot_of_hour[hours]
        table = np.full((len(starts), len(tensor.statistics)), np.nan)
        place = {statistic: i for i, statistic in enumerate(tensor.statistics)}
        for index, start in enumerate(starts):
            part = slice(start, start + window)
            filled = _filled(Window(kernel, window, tensor.slots), rows[part], slots[part])
            for score in judge.judged(tensor, filled, min(50, window)):
                table[index, place[score.statistic]] = score.p
        columns.append(table)
    return np.concatenate(columns, axis=1)


def _filled(window: Window, rows: Array, slots: NDArray[np.int64]) -> Filled:
    """The window that the vectors [n, d] of slots [n] fill: those of one slot after the other, as they come."""
    closed: list[Filled] = []
    for start, stop in itertools.pairwise([0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(rows)]):
        closed += window.add(rows[start:stop], 0.0, int(slots[start]))
    (filled,) = closed
    return filled


def price(profile: BundleProfile, p: Floats, settings: Settings, rng: np.random.Generator, progress: Telling) -> Price:
    """The price of settings.

    Args:
        p: of drifted windows [windows, m], from ``judged_windows``.
        settings: from ``live_settings``.
    """
    rules = Rules.of(profile, settings)
    window_s = settings.max_wait_s
    runs, first = _delays(rules, p, rng, progress)
    noticed = np.isfinite(runs)
    seconds = (runs + 0.5) * window_s
    means = [
        float(batch[np.isfinite(batch)].mean()) for batch in seconds.reshape(_BATCHES, -1) if np.isfinite(batch).any()
    ]
    mean = float(seconds[noticed].mean()) if noticed.any() else None
    # Batches drew their own windows too, so their spread holds the error of both.
    error = float(stats.t.ppf(0.975, _BATCHES - 1) * np.std(means, ddof=1)) if len(means) == _BATCHES else np.inf
    median, late = (float(np.quantile(seconds, q, method="higher")) for q in (0.5, 0.95))
    alarms, windows = _false_alarms(profile, rules, rng, progress)
    a_month = MONTH_S / window_s / windows * settings.replicas
    # The exact interval of a Poisson count, from quantiles of chi²: Garwood, Biometrika 28 (1936) 437.
    low = float(stats.chi2.ppf(0.025, 2 * alarms)) / 2 if alarms else 0.0
    high = float(stats.chi2.ppf(0.975, 2 * alarms + 2)) / 2
    return Price(
        window_s=window_s,
        noticed=float(noticed.mean()),
        followed_s=_LONGEST * window_s,
        delay_s=mean,
        delay_interval=(max(mean - error, 0.0), mean + error) if mean is not None and np.isfinite(error) else None,
        median_s=median if np.isfinite(median) else None,
        late_s=late if np.isfinite(late) else None,
        first=first,
        stated_a_month=MONTH_S / settings.expected_run_time_s,
        simulated_a_month=alarms * a_month,
        simulated_interval=(low * a_month, high * a_month),
        undrifted_windows=windows,
    )


def _delays(
    rules: Rules, p: Floats, rng: np.random.Generator, progress: Telling
) -> tuple[Floats, tuple[tuple[str, float], ...]]:
    """Windows until the first alarm of each run, infinite when there was none; and what alarmed first."""
    judged = ~np.isnan(p)
    z = np.where(judged, -ndtri(np.maximum(np.nan_to_num(p, nan=1.0), P_FLOOR)), -np.inf)
    shewhart = judged & (p <= rules.alpha)
    each = _RUNS // _BATCHES
    drawn = np.concatenate([np.tile(rng.integers(len(p), size=len(p)), (each, 1)) for _ in range(_BATCHES)])
    runs = np.full(_RUNS, np.inf)
    counted = np.zeros(len(rules.names))
    going = np.arange(_RUNS)
    sums = np.zeros((_RUNS, p.shape[1]))
    for step in range(1, _LONGEST + 1):
        windows = drawn[going, rng.integers(drawn.shape[1], size=going.size)]
        moved = np.maximum(0.0, sums + z[windows] - rules.k)
        sums = np.where(judged[windows], moved, sums)
        signals = shewhart[windows] | (sums > rules.h)
        ended = signals.any(axis=1)
        if ended.any():
            runs[going[ended]] = step
            counted += (signals[ended] / signals[ended].sum(axis=1, keepdims=True)).sum(axis=0)
            going, sums = going[~ended], sums[~ended]
            if not going.size:
                break
        if step % 100 == 0:
            progress("waiting for the drift to be noticed", step / _LONGEST)
    order = np.argsort(-counted, kind="stable")[:3]
    total = max(counted.sum(), 1.0)
    return runs, tuple((rules.names[i], float(counted[i] / total)) for i in order if counted[i] > 0)


def _false_alarms(profile: BundleProfile, rules: Rules, rng: np.random.Generator, progress: Telling) -> tuple[int, int]:
    """Alarms, and the windows they came in. Counters, which hardly ever count, are left out: they alarm more rarely."""
    watched = [s not in COUNTED for t in profile.drift.tensors.values() for s in t.statistics]
    alpha, k, h = (values[watched].astype(np.float32) for values in (rules.alpha, rules.k, rules.h))
    limit, size = -ndtri(alpha.astype(np.float64)).astype(np.float32), int(sum(watched))
    roots, shares = [], []
    for tensor in profile.drift.tensors.values():
        kept = [i for i, statistic in enumerate(tensor.statistics) if statistic not in COUNTED]
        values, vectors = np.linalg.eigh(budget.correlation_of(tensor.left_out_p)[np.ix_(kept, kept)])
        roots.append((vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32))
        shares += [tensor.shared(tensor.statistics[i]) for i in kept]
    shared = np.array(shares)
    fixed = (np.sqrt(shared) * rng.standard_normal((_UNDRIFTED_RUNS, size))).astype(np.float32)
    free = np.sqrt(1 - shared).astype(np.float32)
    sums = np.zeros((_UNDRIFTED_RUNS, size), np.float32)
    alarms, windows = 0, 0
    while alarms < _ENOUGH_ALARMS and windows < _MOST_WINDOWS:
        draws = rng.standard_normal((_UNDRIFTED_RUNS, size), np.float32)
        parts, start = [], 0
        for root in roots:
            parts.append(draws[:, start : start + len(root)] @ root)
            start += len(root)
        z = fixed + free * np.concatenate(parts, axis=1)
        sums += z - k
        np.maximum(sums, 0, out=sums)
        alarmed = ((z >= limit) | (sums > h)).any(axis=1)
        alarms += int(alarmed.sum())
        sums[alarmed] = 0
        windows += _UNDRIFTED_RUNS
        if windows % (200 * _UNDRIFTED_RUNS) == 0:
            progress("counting false alarms", max(alarms / _ENOUGH_ALARMS, windows / _MOST_WINDOWS))
    return alarms, windows
