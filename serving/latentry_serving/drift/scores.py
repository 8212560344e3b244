"""From a window's sums and the reference's sums to one number per statistic.

Every vector is compared with the reference *of its hour* where there are hour-of-day slots: with shares ``f_s`` of the
window in slot s, the expected mean of anything is ``sum f_s mean_s``, and the variance of "window minus expected" is
the variance of one vector times ``c = 1/w + sum f_s² / n_s``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latentry_serving.drift import bins
from latentry_serving.drift.subspace import Metric
from latentry_serving.drift.types import Floats, Integers, Reference, Statistic
from latentry_serving.drift.windows import Sums

COUNTED = (Statistic.NON_FINITE, Statistic.DUPLICATES, Statistic.DEAD_DIMENSIONS)
_SMALLEST_LOG_SD = 1e-3  # relative changes of norm or residual energy below .1 % per vector are rounding


@dataclass(frozen=True)
class Baseline:
    """What the reference expects, per slot [S, ...].

    Attributes:
        counts: [S] vectors. features: [S, D], z: [S, d], coordinates: [S, k], norm_log: [S]: means.
        shares: [S, d, B] of the bins.
        held_out: [S] vectors of the calibration half; residual_log: [S] their mean ln residual energy.
    """

    counts: Floats
    features: Floats
    z: Floats
    coordinates: Floats
    shares: Floats
    norm_log: Floats
    held_out: Floats
    residual_log: Floats

    @classmethod
    def of(cls, everything: Sequence[Sums], held_out: Sequence[Sums]) -> "Baseline":
        """From the sums of each slot: of all vectors, and of those held out from the subspace fit."""
        counts = np.array([s.size for s in everything], np.float64)
        n = np.maximum(counts, 1)
        held = np.array([s.size for s in held_out], np.float64)
        return cls(
            counts,
            np.array([s.features for s in everything]) / n[:, None],
            np.array([s.z for s in everything]) / n[:, None],
            np.array([s.coordinates for s in everything]) / n[:, None],
            _shares(everything),
            np.array([s.norm_log for s in everything]) / n,
            held,
            np.array([s.residual_log for s in held_out]) / np.maximum(held, 1),
        )

    def at(self, slots: Integers) -> "Expected":
        """What a window with so many vectors in each slot [S] is expected to hold."""
        size = int(slots.sum())
        used = np.flatnonzero(slots)
        share = slots[used] / max(size, 1)
        with np.errstate(divide="ignore"):
            noise = 1 / max(size, 1) + float(np.sum(share**2 / self.counts[used]))
            held_noise = 1 / max(size, 1) + float(np.sum(share**2 / self.held_out[used]))
        return Expected(
            share @ self.features[used],
            share @ self.z[used],
            share @ self.coordinates[used],
            self._bins(used, share),
            float(share @ self.norm_log[used]),
            float(share @ self.residual_log[used]),
            noise,
            held_noise,
        )

    def _bins(self, used: NDArray[np.intp], share: Floats) -> bins.Shares:
        """Mixed for a window; those of the latest window of a single slot are remembered, as most are of one."""
        if used.size != 1:
            return bins.Shares(np.tensordot(share, self.shares[used], axes=1))
        slot = int(used[0])
        if slot not in self._latest:
            self._latest.clear()
            self._latest[slot] = bins.Shares(self.shares[slot])
        return self._latest[slot]

    @cached_property
    def _latest(self) -> dict[int, bins.Shares]:
        return {}


@dataclass(frozen=True, slots=True)
class Expected:
    """``Baseline`` mixed for one window. ``noise``: c of all reference vectors; ``held_noise``: of those held out."""

    features: Floats
    z: Floats
    coordinates: Floats
    binned: bins.Shares
    norm_log: float
    residual_log: float
    noise: float
    held_noise: float

    @property
    def shares(self) -> Floats:
        """[d, B]"""
        return self.binned.values


def _shares(slots: Sequence[Sums]) -> Floats:
    """Bin shares [S, d, B]; a slot borrows one vector per bin from the whole, so no bin in use is empty in it."""
    counts = np.array([bins.counts_from_above(s.above, s.size) for s in slots], np.float64)
    total = counts.sum(axis=0)
    overall = total / np.maximum(total.sum(axis=-1, keepdims=True), 1)
    borrowed = counts + overall * overall.shape[-1]
    return np.asarray(borrowed / borrowed.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Geometry:
    """What turns deviations into scores: the Gaussian metric and the scale of each statistic.

    ``feature_variance``, ``whitened_variance``: traces of the covariance of the features and of the whitened vectors,
    so that the quadratic scores have mean 1 on independent undrifted vectors.
    """

    metric: Metric
    feature_variance: float
    whitened_variance: float
    degrees: Integers
    residual_log_sd: float
    norm_log_sd: float

    @classmethod
    def of(
        cls, reference: Reference, degrees: Integers, feature_variance: float, whitened_variance: float
    ) -> "Geometry":
        metric = Metric(reference.basis, reference.basis_variance, reference.residual_variance, reference.alive)
        residual_sd = max(reference.residual_energy_log_sd, _SMALLEST_LOG_SD)
        norm_sd = max(reference.norm_log_sd, _SMALLEST_LOG_SD)
        return cls(metric, feature_variance, whitened_variance, degrees, residual_sd, norm_sd)


def deviations(sums: Sums, expected: Expected, geometry: Geometry) -> dict[Statistic, Floats]:
    """Window minus expectation per quadratic statistic, scaled so that its squared norm is the score."""
    root = np.sqrt(expected.noise)
    features = sums.features / sums.size - expected.features
    whitened = geometry.metric.whiten(
        sums.z / sums.size - expected.z, sums.coordinates / sums.size - expected.coordinates
    )
    norm = (sums.norm_log / sums.size - expected.norm_log) / (geometry.norm_log_sd * root)
    residual = (sums.residual_log / sums.size - expected.residual_log) / geometry.residual_log_sd
    binned = expected.binned.pearson_residuals(bins.counts_from_above(sums.above, sums.size))
    binned[geometry.degrees == 0] = 0
    return {
        Statistic.MMD2: features / (root * np.sqrt(geometry.feature_variance)),
        Statistic.T2: whitened / (root * np.sqrt(geometry.whitened_variance)),
        Statistic.SPE: np.array([residual / np.sqrt(expected.held_noise)]),
        Statistic.BINS_MEAN: binned.ravel(order="K") / (root * np.sqrt(max(1, geometry.degrees.sum()))),
        Statistic.NORM: np.array([norm]),
    }


def likelihood_ratios(sums: Sums, expected: Expected) -> Floats:
    """G² per dimension [d], reduced by ``1 / (w c)`` for the finite reference: about chi² with the bins' degrees."""
    counts = bins.counts_from_above(sums.above, sums.size)
    return expected.binned.likelihood_ratio(counts) / (sums.size * expected.noise)
