"""Maximum mean discrepancy by random Fourier features.

For a Gaussian kernel of bandwidth ``sigma``, ``phi(z) = sqrt(2/D) cos(z @ omega + phase)`` with columns of ``omega``
drawn from N(0, I/sigma²) has ``E phi(x)·phi(y) = k(x, y)``, so the squared distance between the mean features of two
samples is (a biased estimate of) MMD². Sources: Rahimi, Recht 2007; Gretton et al. 2012, section 6; bandwidth: half the
median squared distance.
"""

import numpy as np

from latentry_serving.drift.types import Singles

MEDIAN_PAIRS = 4096


def bandwidth(z: Singles, rng: np.random.Generator) -> float:
    """Kernel bandwidth sigma with sigma² = half the median squared distance between random pairs of rows.

    z: [n, d], n >= 2. Falls back on 1 where the median distance is zero (more than half of all pairs are equal).
    """
    first = rng.integers(0, len(z), MEDIAN_PAIRS)
    second = (first + rng.integers(1, len(z), MEDIAN_PAIRS)) % len(z)
    squared = np.empty(MEDIAN_PAIRS)
    for start in range(0, MEDIAN_PAIRS, 256):
        part = slice(start, start + 256)
        difference = z[first[part]] - z[second[part]]
        squared[part] = np.einsum("ij,ij->i", difference, difference)
    median = float(np.median(squared))
    return float(np.sqrt(median / 2)) if median > 0 else 1.0


def draw(dimensions: int, features: int, sigma: float, rng: np.random.Generator) -> tuple[Singles, Singles]:
    """``omega`` [d, D] and ``phase`` [D] of a feature map."""
    omega = rng.standard_normal((dimensions, features)) / sigma
    phase = rng.uniform(0, 2 * np.pi, features)
    return omega.astype(np.float32), phase.astype(np.float32)


def joined(omega: Singles, basis: Singles) -> Singles:
    """``omega`` [d, D] and ``basis`` [d, k] side by side [d, D + k]; not copied where they lie like that already."""
    whole = omega.base
    if whole is not None and whole is basis.base and whole.shape == (len(omega), omega.shape[1] + basis.shape[1]):
        return whole
    return np.concatenate([omega, basis], axis=1)


def features(projected: Singles, phase: Singles) -> Singles:
    """``sqrt(2/D) cos(projected + phase)`` [n, D] of ``projected = z @ omega``; overwrites ``projected``."""
    np.add(projected, phase, out=projected)
    np.cos(projected, out=projected)
    projected *= np.float32(np.sqrt(2 / phase.size))
    return projected
