"""Confidence bounds of means and medians."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from latentry_serving.compare.pairs import Array

RESAMPLES = 999


@dataclass(frozen=True, slots=True)
class Bounded:
    """An estimate and what it may be in truth."""

    value: float
    low: float
    high: float


def of_share(hits: Array, error: float) -> Bounded:
    """Clopper-Pearson bounds of a share of independent hits (0 or 1), [n]: exact, never too narrow.

    Source: Clopper, Pearson, Biometrika 26 (1934).

    Args:
        error: probability that the truth is outside.
    """
    n, k = len(hits), round(float(hits.sum()))
    low = 0.0 if k == 0 else float(stats.beta.ppf(error / 2, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.ppf(1 - error / 2, k + 1, n - k))
    return Bounded(k / n, low, high)


def of_median(values: Array, error: float, lowest: float, highest: float) -> Bounded:
    """Bounds of a median by order statistics, [n], n >= 1: exact whatever the distribution, never too narrow.

    Source: David, Nagaraja, Order Statistics (2003), section 7.1.

    Args:
        error: probability that the truth is outside.
        lowest, highest: what values may be; the bounds where so few values give none.
    """
    ordered, n = np.sort(values), len(values)
    rank = int(stats.binom.ppf(error / 2, n, 0.5))
    low, high = (float(ordered[rank - 1]), float(ordered[n - rank])) if rank else (lowest, highest)
    return Bounded(float(np.median(ordered)), low, high)


def resolves(pairs: int, least: float, error: float) -> bool:
    """Whether so many pairs without a single miss would show a share of at least ``least``."""
    return float((error / 2) ** (1 / pairs)) >= least


def bootstrap(values: Array, error: float, rng: np.random.Generator) -> Bounded:
    """Percentile bootstrap of a mean, [n]: for values that depend on each other through shared neighbours it is the
    usual approximation, not a guarantee. Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
    """
    draws = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(draws, [error / 2, 1 - error / 2])
    return Bounded(float(values.mean()), float(low), float(high))


def bootstrap_ratio(above: Array, below: Array, error: float, rng: np.random.Generator, most: float) -> Bounded:
    """The same of mean(above) / mean(below), [n] each and none negative; pairs are drawn together.

    Args:
        most: largest ratio that is told, also for a ratio to zero; two zeros have the ratio 1.
    """
    draws = rng.integers(0, len(above), (RESAMPLES, len(above)))

    def ratio(numerator: Array, denominator: Array) -> Array:
        of_zero = np.where(numerator > 0, most, 1.0)
        divided = numerator / np.where(denominator > 0, denominator, 1.0)
        found: Array = np.minimum(np.where(denominator > 0, divided, of_zero), most)
        return found

    low, high = np.quantile(ratio(above[draws].mean(axis=1), below[draws].mean(axis=1)), [error / 2, 1 - error / 2])
    return Bounded(float(ratio(above.mean(), below.mean())), float(low), float(high))
