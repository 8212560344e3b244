"""Counted events: vectors that are not finite, that repeat, dimensions that stand still; and their tails.

A rate is known from a reference of finite size, so the number in the next window is beta-binomial (Jeffreys prior):
one event after none in 20,000 vectors is rare, not impossible. Where the reference's own windows vary more than
independent events would, the reference counts for as much less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from latentry_serving.drift.types import Booleans, Floats, Integers, Singles

_GRID = 1e3  # keys distinguish projections (in units of the kernel's phase, about 1) a thousandth apart
KEY_PROJECTIONS = 3
_RAW_GRID = 1e4
_PRIMES = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63], np.uint64
)
_SMALLEST_LOG_P = -690.0


def squared_norms(rows: Singles) -> Singles:
    """Squared Euclidean norms [n] of rows [n, d]; infinite beyond float32's range."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((rows[:, None, :] @ rows[:, :, None])[:, 0, 0])  # BLAS; einsum takes three times as long


def finite_rows(rows: Singles, squares: Singles | None = None) -> Booleans | None:
    """Which rows [n] hold finite values only; None when all do. squares: [n] their squared norms, if known.

    Costs one pass when nothing is wrong.
    """
    if np.isfinite(squared_norms(rows) if squares is None else squares).all():
        return None
    finite = np.isfinite(rows).all(axis=1)
    return None if finite.all() else np.asarray(finite)


def keys(projected: Singles, raw: Floats) -> NDArray[np.uint64]:
    """One key per row [n] of random projections [n, >= 3]: equal vectors, up to rounding noise, have equal keys.

    Different vectors share one by accident with a probability near 1e-9; rounding noise of 1e-6 separates equal ones
    with a probability near 2 %.

    raw: [n, 2] of the raw vectors: ln of the norm, and a random projection over the norm. They tell apart vectors whose
        other projections are equal because what lies beyond the reference's range is cut off before: drifted ones.
    """
    grid = np.concatenate([projected[:, :KEY_PROJECTIONS].astype(np.float64) * _GRID, raw * _RAW_GRID], axis=1)
    return np.asarray(np.rint(grid).astype(np.int64).astype(np.uint64) @ _PRIMES)


def repeated(window_keys: NDArray[np.uint64]) -> int:
    """Vectors of a window that came before in it."""
    return int(window_keys.size - np.unique(window_keys).size)


@dataclass(frozen=True, slots=True)
class EventRate:
    """What the reference says about events: so many among so many vectors, ``dispersion`` >= 1 times as variable."""

    events: float
    trials: float
    dispersion: float = 1.0

    @classmethod
    def fit(cls, counts: Integers | Floats, sizes: Integers | Floats) -> "EventRate":
        """From events per reference window [M] and vectors per window [M]."""
        events, trials = float(np.sum(counts)), float(np.sum(sizes))
        rate = events / trials if trials else 0.0
        expected = rate * np.asarray(sizes, np.float64)
        binomial = expected * (1 - rate)
        if events < 1 or len(counts) < 2 or rate >= 1:
            return cls(events, trials)
        # Pearson's dispersion; its upper 95 % limit would refuse nothing: the mean alone is what enters the variance.
        dispersion = float(np.sum((np.asarray(counts) - expected) ** 2 / binomial) / (len(counts) - 1))
        return cls(events, trials, max(1.0, dispersion))

    def tail(self, count: int, size: int) -> float:
        """P(at least ``count`` events among ``size`` vectors), in (0, 1].

        Over-dispersed counts: the beta's parameters are reduced so that a window's variance is ``dispersion`` times
        the binomial one (intra-window correlation (dispersion - 1) / (size - 1)), whichever is less certain.
        """
        if count <= 0:
            return 1.0
        a, b = self.events + 0.5, self.trials - self.events + 0.5
        correlation = max(1 / (a + b + 1), min(0.999, (self.dispersion - 1) / max(1, size - 1)))
        total = 1 / correlation - 1
        a, b = a / (a + b) * total, b / (a + b) * total
        k = np.arange(count, size + 1)
        log_choose = special.gammaln(size + 1) - special.gammaln(k + 1) - special.gammaln(size - k + 1)
        log_p = float(special.logsumexp(log_choose + special.betaln(k + a, size - k + b) - special.betaln(a, b)))
        return float(np.exp(min(0.0, max(log_p, _SMALLEST_LOG_P))))
