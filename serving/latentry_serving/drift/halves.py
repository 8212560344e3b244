"""T² of a reference's own windows as a live window would have it: by a metric that has not seen them.

A metric that knows a window makes it look calmer: directions chosen on it leave less of it outside, variances measured
with it are larger where it is off. With runs of similar requests, where a window holds few of them, that is a tenth to
a quarter of T². So each half of the windows is judged in the subspace fitted on the other half, by variances measured
on its own half without the window.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latentry_serving.drift.subspace import Metric
from latentry_serving.drift.types import Booleans, Floats, Integers, Singles


@dataclass(frozen=True, slots=True)
class _Squares:
    """Of some vectors: how many, sums of squares along the basis [k] and of the residual [d]."""

    size: int
    along: Floats
    residual: Floats


@dataclass(frozen=True, slots=True)
class Half:
    """One half's metric: a subspace it did not choose and its own variances, of all its windows or of all but one."""

    basis: Singles
    alive: Booleans
    total: _Squares
    windows: Mapping[int, _Squares]

    @classmethod
    def of(cls, z: Singles, basis: Singles, slots: Integers, windows: Integers, alive: Booleans) -> "Half":
        """z: [n, d] of the half, in hour-of-day slots [n] and windows [n]. basis: [d, k] fitted on the other half."""
        coordinates = z @ basis
        residual = within(z - coordinates @ basis.T, slots)
        along = within(coordinates, slots)
        of_window = {
            int(m): _Squares(int(chosen.sum()), _squares(along[chosen]), _squares(residual[chosen]))
            for m, chosen in ((m, windows == m) for m in np.unique(windows))
        }
        total = _Squares(len(z), _squares(along), _squares(residual))
        return cls(basis, alive, total, of_window)

    @property
    def basis_variance(self) -> Floats:
        return self.total.along / self.total.size

    @property
    def residual_variance(self) -> Floats:
        return self.total.residual / self.total.size

    def without(self, window: int) -> Metric:
        """The metric measured on the other windows of the half."""
        left = self.windows.get(window)
        if left is None or left.size == self.total.size:
            return Metric(self.basis, self.basis_variance, self.residual_variance, self.alive)
        size = self.total.size - left.size
        along = np.maximum(self.total.along - left.along, 0) / size
        residual = np.maximum(self.total.residual - left.residual, 0) / size
        return Metric(self.basis, along, residual, self.alive)


def _squares(values: Singles) -> Floats:
    return np.asarray(np.einsum("ij,ij->j", values, values, dtype=np.float64))


def within(values: Singles | Floats, slots: Integers) -> Singles:
    """values [n, p] less the mean of their slot [n]."""
    centred = np.array(values, np.float32)
    for slot in np.unique(slots):
        chosen = slots == slot
        centred[chosen] -= centred[chosen].mean(axis=0, dtype=np.float64).astype(np.float32)
    return centred
