"""Traffic that drifts in stated ways and sizes: the rows of the sensitivity table."""

from collections.abc import Callable, Mapping

import numpy as np
from bench.drift_traffic import Mixture, Singles

SIZES: Mapping[str, tuple[float, float, float]] = {
    "shift, all dims (sigma)": (0.02, 0.05, 0.1),
    "shift, 8 dims (sigma)": (0.1, 0.2, 0.5),
    "rotation (rad)": (0.05, 0.1, 0.2),
    "scale": (0.005, 0.02, 0.05),
    "mixture weight": (0.05, 0.1, 0.4),
    "noise (sigma)": (0.05, 0.2, 0.4),
    "stale duplicates": (0.02, 0.05, 0.2),
}
"""Kinds, each with a small, a middling and a large size."""


class Drifting:
    """A mixture in ``d`` dimensions and its drifts; sigma is the standard deviation of each dimension."""

    def __init__(self, d: int, seed: int) -> None:
        self._world, self._rng = Mixture.drawn(d, d), np.random.default_rng(seed)
        fixed = np.random.default_rng(d + 2)
        groups = fixed.choice(len(self._world.weights), 4000, p=self._world.weights)
        self._sd = self._world.rows(groups, fixed).std(axis=0)
        self._turn = np.linalg.qr(fixed.standard_normal((d, d)))[0].astype(np.float32)
        self._grown = int(np.argmin(self._world.weights))

    def draw(self, n: int) -> Singles:
        """Undrifted [n, d]."""
        return self._rows(n, self._world.weights)

    def drifted(self, kind: str, size: float, n: int) -> Singles:
        """Drifted [n, d]."""
        if kind == "mixture weight":  # the rarest cluster grows by ``size`` of all traffic
            grown = np.arange(len(self._world.weights)) == self._grown
            return self._rows(n, self._world.weights * (1 - size) + size * grown)
        rows = self.draw(n)
        change: Mapping[str, Callable[[], Singles]] = {
            "shift, all dims (sigma)": lambda: rows + size * self._sd,
            "shift, 8 dims (sigma)": lambda: rows + size * self._sd * (np.arange(rows.shape[1]) < 8),
            "rotation (rad)": lambda: self._rotated(rows, size),
            "scale": lambda: rows * (1 + size),
            "noise (sigma)": lambda: rows + size * self._sd * self._rng.standard_normal(rows.shape, np.float32),
            "stale duplicates": lambda: self._stale(rows, size),
        }
        return change[kind]().astype(np.float32)

    def _rows(self, n: int, weights: np.ndarray) -> Singles:
        return self._world.rows(self._rng.choice(len(weights), n, p=weights), self._rng)

    def _rotated(self, rows: Singles, angle: float) -> Singles:
        """Every plane of two of d random orthogonal directions turned by ``angle``."""
        left, right = np.split(rows @ self._turn, 2, axis=1)
        turned = [left * np.cos(angle) - right * np.sin(angle), left * np.sin(angle) + right * np.cos(angle)]
        return np.concatenate(turned, axis=1) @ self._turn.T

    def _stale(self, rows: Singles, share: float) -> Singles:
        """That share of the vectors is one and the same answer again."""
        stale = self._rng.random(len(rows)) < share
        rows[stale] = rows[0]
        return rows
