"""T² and SPE on a low-rank-plus-diagonal Gaussian.

``z`` in standard units is split into coordinates ``u = basisᵀ z`` (k principal directions) and the residual
``r = z - basis u``. T² is the mean shift of a window in that metric; SPE (squared prediction error, the Q statistic of
multivariate process control: Jackson, Mudholkar 1979) is the energy of the residual. The basis is fitted on one part
of the reference and every variance is measured on the other: an energy outside the subspace measured on the very data
that chose the subspace is too small, and every later window then looks like drift.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentry_serving.drift.types import Booleans, Floats, Singles

VARIANCE_FLOOR = 1e-4  # of a standard unit: numerically dead directions carry no weight
ENERGY_FLOOR = 1e-9
_OVERSAMPLING = 10
_POWER_ITERATIONS = 3


def components_for(alive: int, rows: int) -> int:
    """How many principal directions a reference supports: at most 64, half the dimensions and a tenth of the rows."""
    return max(0, min(64, alive // 2, rows // 10))


def fit_basis(z: Singles, components: int, rng: np.random.Generator) -> Singles:
    """Orthonormal principal directions [d, k] of the rows of z [n, d], by randomised SVD.

    Source: Halko, Martinsson, Tropp 2011, algorithm 4.4 (three power iterations). Signs are fixed (largest entry
    positive), so that equal data give equal bytes.
    """
    if components == 0:
        return np.zeros((z.shape[1], 0), np.float32)
    centred = z - z.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = min(components + _OVERSAMPLING, *z.shape)
    span = rng.standard_normal((z.shape[1], width)).astype(np.float32)
    for _ in range(_POWER_ITERATIONS):
        span = np.linalg.qr(centred.T @ (centred @ span))[0]
    _, _, right = np.linalg.svd(centred @ span, full_matrices=False)
    basis = span @ right[:components].T
    signs = np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])
    return np.linalg.qr(basis * signs)[0].astype(np.float32) if components > 1 else (basis * signs).astype(np.float32)


@dataclass(frozen=True)
class Metric:
    """The Gaussian's variances: [k] along the basis, [d] of the residual, floored. ``alive``: [d]."""

    basis: Singles
    basis_variance: Floats
    residual_variance: Floats
    alive: Booleans

    def whiten(self, shift: Floats, coordinates: Floats) -> Floats:
        """Shifts in units of their standard deviations: [..., k + d] from z [..., d] and ``basisᵀ z`` [..., k].

        The squared norm of a window's whitened mean shift is T²; dead dimensions give zeros.
        """
        residual = shift - coordinates.astype(np.float32) @ self.basis.T
        along = coordinates / np.sqrt(np.maximum(self.basis_variance, VARIANCE_FLOOR))
        return np.concatenate([along, residual * self._inverse], axis=-1)

    @cached_property
    def _inverse(self) -> Floats:
        return np.where(self.alive, 1 / np.sqrt(np.maximum(self.residual_variance, VARIANCE_FLOOR)), 0.0)

    def contributions(self, shift: Floats, coordinates: Floats) -> Floats:
        """What each dimension [d] adds to T²: its residual term and its share of the subspace terms.

        A subspace term ``(basisᵀ z)_i² / variance_i`` is shared out by ``z_j basis_ji``, so all of it adds up to T².
        """
        whitened = self.whiten(shift, coordinates)
        along = coordinates / np.maximum(self.basis_variance, VARIANCE_FLOOR)
        return np.asarray(whitened[along.size :] ** 2 + shift * (self.basis @ along.astype(np.float32)))


def log_residual_energy(z_energy: Singles, coordinates: Singles, free: int) -> Floats:
    """ln of the mean squared residual per vector [n].

    z_energy: [n] squared norms of z. coordinates: [n, k]. free: alive dimensions less k, at least 1. The logarithm
    keeps the statistic's moments finite for heavy tails and makes it a change of scale in decibels.
    """
    inside = np.einsum("ij,ij->i", coordinates, coordinates)
    energy = np.maximum(z_energy.astype(np.float64) - inside, 0.0) / free
    return np.asarray(np.log(np.maximum(energy, ENERGY_FLOOR)))
