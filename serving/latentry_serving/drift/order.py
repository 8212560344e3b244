"""What the order and the times of a reference say: correlated neighbours, and a daily cycle worth its slots."""

from dataclasses import dataclass

import numpy as np

from latentry_serving.drift.types import Floats, Integers

HOURS = 24
DAY_S = 86400.0
FEWEST_DAYS = 3
_STRETCH = 1024
_LAGS = 256
_PERMUTATIONS = 199
_LEVEL = 0.01
_SLOT_HOURS = (1, 2, 3, 4, 6)


@dataclass(frozen=True, slots=True)
class Dependence:
    """Correlation of neighbours in feature space.

    Attributes:
        inflation: 1 + 2 sum of the lagged correlations: the variance of a window's mean over that of independent
            vectors (the integrated autocorrelation time). At least 1.
        dependent: whether the correlations are beyond chance (three standard errors).
        time: integrated autocorrelation time of the part that is correlated at all (clusters without the noise around
            them): twice the mean run length less 1 for runs of random length. At least 1.
    """

    inflation: float
    dependent: bool
    time: float = 1.0


def dependence(features: Floats, freedom: float) -> Dependence:
    """From features [n, D] in their order, of one or more stretches of 1024 neighbours.

    freedom: Satterthwaite's of the features' covariance; a lag's correlation has standard error 1/sqrt(n freedom).
    """
    length = min(_STRETCH, len(features))
    lags = min(_LAGS, length // 4)
    total = np.zeros(lags + 1)
    stretches = [features[i : i + length] for i in range(0, len(features) - length + 1, length)]
    for stretch in stretches:
        centred = stretch - stretch.mean(axis=0)
        padded = np.fft.rfft(centred, 2 * length, axis=0)
        covariance = np.fft.irfft((padded * padded.conj()).real.sum(axis=1), 2 * length)
        total += covariance[: lags + 1]
    if total[0] <= 0:
        return Dependence(1.0, False)
    n = len(stretches) * length
    correlation = total[1:] / total[0] + 1 / length  # centring a stretch takes 1/length from every lag
    error = 1 / np.sqrt(n * freedom)
    # Cut at the first lag within noise, as what follows adds noise alone (the idea of Geyer's initial sequences).
    noise = np.flatnonzero(correlation < 2 * error)
    together = float(correlation[: int(noise[0]) if noise.size else correlation.size].sum())
    beyond = correlation.sum() > 3 * error * np.sqrt(correlation.size)
    dependent = bool(correlation[0] > 3 * error or beyond)
    time = 2 * together / correlation[0] - 1 if dependent and correlation[0] > 3 * error else 1.0
    return Dependence(max(1.0, 1 + 2 * together), dependent, max(1.0, float(time)))


def hour_of(times_s: Floats) -> Integers:
    """Hour of day, UTC, 0 to 23, of Unix times [n]."""
    return np.asarray((np.asarray(times_s, np.float64) % DAY_S) // 3600, np.int64)


@dataclass(frozen=True, slots=True)
class Cycle:
    """The decision about hour-of-day slots. ``slot_of_hour``: [24]; all zero without slots."""

    slot_of_hour: Integers
    reason: str

    @property
    def slots(self) -> int:
        return int(self.slot_of_hour.max()) + 1


def one_slot(reason: str) -> Cycle:
    return Cycle(np.zeros(HOURS, np.int64), reason)


def daily_cycle(features: Floats, times_s: Floats, hours: Integers, window: int, rng: np.random.Generator) -> Cycle:
    """Whether the same hours of different days resemble each other more than other hours do.

    The mean features of each (day, hour), less the day's mean, are multiplied with the same hour's of other days. The
    null shifts every day's hours round by a random number, which keeps all dependence within a day.

    features: [m, D] and their times [m]: a sample. hours: [24] vectors of the whole reference in each hour.
    """
    days = np.floor(np.asarray(times_s) / DAY_S).astype(np.int64)
    names, day = np.unique(days, return_inverse=True)
    if names.size < FEWEST_DAYS:
        return one_slot(f"no hour-of-day slots: the reference spans {names.size} days, a cycle shows in {FEWEST_DAYS}")
    cells = np.zeros((names.size, HOURS, features.shape[1]))
    counts = np.zeros((names.size, HOURS))
    hour = hour_of(times_s)
    np.add.at(cells, (day, hour), features)
    np.add.at(counts, (day, hour), 1)
    mean = cells.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1), 1)[:, None, None]
    cells = np.where(counts[..., None] > 0, cells / np.maximum(counts, 1)[..., None] - mean, 0)
    observed = _agreement(cells)
    shifted = 0
    for _ in range(_PERMUTATIONS):
        offsets = rng.integers(0, HOURS, names.size)
        index = (np.arange(HOURS)[None, :] + offsets[:, None]) % HOURS
        shifted += _agreement(np.take_along_axis(cells, index[..., None], axis=1)) >= observed
    p = (1 + shifted) / (1 + _PERMUTATIONS)
    if p > _LEVEL:
        return one_slot(f"no hour-of-day slots: no daily cycle shows over {names.size} days (p = {p:.3f})")
    for width in _SLOT_HOURS:
        per_slot = hours.reshape(-1, width).sum(axis=1)
        if per_slot[per_slot > 0].min() >= 2 * window:
            reason = f"{HOURS // width} hour-of-day slots: a daily cycle shows over {names.size} days (p = {p:.3f})"
            return Cycle(np.arange(HOURS) // width, reason)
    return one_slot(
        f"no hour-of-day slots: a daily cycle shows (p = {p:.3f}), but some hours hold fewer than {2 * window} vectors"
    )


def _agreement(cells: Floats) -> float:
    """Sum over hours of the inner products of different days. cells: [days, 24, D]."""
    together = cells.sum(axis=0)
    return float(np.einsum("hd,hd->", together, together) - np.einsum("yhd,yhd->", cells, cells))
