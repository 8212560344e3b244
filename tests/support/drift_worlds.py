"""Traffic that drifts in stated ways, and its description by plain numpy (not by the code under test)."""

import numpy as np

from latentry_serving.drift import subspace
from latentry_serving.drift.types import Reference, WindowSummary


def reference_of(x: np.ndarray, seed: int = 0) -> Reference:
    """The profile's description of vectors [n, d], by plain numpy: first half fits the subspace, second its
    variances."""
    lower, upper = np.quantile(x, [0.001, 0.999], axis=0)
    clipped = np.clip(x, lower, upper)
    mean, scale = clipped.mean(axis=0), clipped.std(axis=0)
    alive = scale > 1e-6 * np.median(scale)
    z = np.where(alive, (clipped - mean) / np.where(alive, scale, 1), 0)
    half, living = len(z) // 2, int(alive.sum())
    k = subspace.components_for(living, half) if living > 1 else 0
    basis = subspace.fit_basis(z[:half].astype(np.float32), k, np.random.default_rng(seed))
    held_out = z[half:]
    along = held_out @ basis
    energy = log_energy(held_out, along, living)
    edges = np.quantile(x, np.arange(1, 10) / 10, axis=0).T
    shares = counted(x, edges) / len(x)
    return Reference(
        alive, mean, np.where(alive, scale, 1), lower, upper, edges, shares, basis, along.var(axis=0),
        (held_out - along @ basis.T).var(axis=0), energy.mean(), energy.std(), 0.0, 1.0, 0.0, 0.0,
    )  # fmt: skip


def counted(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Rows per bin [d, B] for inner edges [d, B - 1]."""
    above = np.stack([(x > edge).sum(axis=0) for edge in edges.T], axis=1)
    everything, nothing = np.full((len(above), 1), len(x)), np.zeros((len(above), 1), int)
    return -np.diff(np.concatenate([everything, above, nothing], axis=1), axis=1)


def log_energy(z: np.ndarray, along: np.ndarray, living: int) -> np.ndarray:
    squares = np.einsum("nd,nd->n", z, z).astype(np.float32)
    return subspace.log_residual_energy(squares, along.astype(np.float32), max(1, living - along.shape[1]))


def summary_of(rows: np.ndarray, reference: Reference, *, bins: bool = False) -> WindowSummary:
    """What a window of rows [n, d] holds; ``bins`` are counted on demand, as they take longest."""
    finite = np.isfinite(rows).all(axis=1)
    x, alive = rows[finite], reference.alive
    z = np.where(alive, (np.clip(x, reference.lower, reference.upper) - reference.mean) / reference.scale, 0)
    along = z @ reference.basis
    energy = log_energy(z, along, int(alive.sum()))
    counts = counted(x, reference.bin_edges) if bins else np.zeros(reference.bin_shares.shape, int)
    distinct = len(np.unique(x @ np.sqrt(np.arange(1, x.shape[1] + 1))))
    return WindowSummary(
        "embedding", 100.0, 160.0, len(x), z.mean(axis=0), (z**2).mean(axis=0), counts,
        np.zeros(len(alive)), reference.bin_shares, along.mean(axis=0), (along**2).mean(axis=0), float(energy.mean()),
        0.0, int((~finite).sum()), len(x) - distinct, alive & (np.ptp(x, axis=0) == 0),
        np.zeros(len(alive), bool),
    )  # fmt: skip


class World:
    """Traffic and its drifts. Magnitudes are in the units of the sensitivity table: standard deviations, radians,
    shares."""

    def __init__(self, seed: int, d: int = 128, groups: int = 16) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.d = d
        self.centres = rng.normal(size=(groups, d)) * 0.6
        self.offset, self.scales = rng.normal(size=d) * 0.5, np.exp(0.3 * rng.normal(size=d))
        self.weights = rng.dirichlet(np.full(groups, 5.0))
        self.factors = rng.normal(size=(12, d)) * 0.5
        self.turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
        reference = self.draw(5000)
        self.sd = reference.std(axis=0)
        self.reference = reference_of(reference)

    def draw(self, n: int, weights: np.ndarray | None = None) -> np.ndarray:
        group = self.rng.choice(len(self.weights), n, p=self.weights if weights is None else weights)
        own = self.rng.normal(size=(n, 12)) @ self.factors + self.rng.normal(size=(n, self.d))
        return (self.offset + self.centres[group] + own) * self.scales

    def drifted(self, kind: str, size: float, n: int = 500) -> np.ndarray:
        if kind == "mixture":
            return self.draw(n, self.weights * (1 - size) + size * (np.arange(len(self.weights)) == 3))
        x = self.draw(n)
        if kind == "duplicates":
            x[-int(size * n) :] = x[: int(size * n)]
        elif kind == "dead":
            x[:, : int(size)] = x[0, : int(size)]
        elif kind == "shift of 8":
            x[:, :8] += size * self.sd[:8]
        elif kind == "rotation":  # every plane of two random orthogonal directions
            left, right = np.split(x @ self.turn, 2, axis=1)
            turned = [left * np.cos(size) - right * np.sin(size), left * np.sin(size) + right * np.cos(size)]
            x = np.concatenate(turned, axis=1) @ self.turn.T
        else:
            x = {
                "shift": lambda: x + size * self.sd,
                "scale": lambda: x * (1 + size),
                "noise": lambda: x + size * self.sd * self.rng.normal(size=x.shape),
                "non-finite": lambda: np.where(np.arange(n)[:, None] < size * n, np.nan, x),
                "none": lambda: x,
            }[kind]()
        return x
