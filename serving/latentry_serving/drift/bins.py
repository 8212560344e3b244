"""Per-dimension histograms against the reference: Pearson's chi², the likelihood ratio, and PSI to show.

Edges come from reference quantiles. A bin that would hold less than ``SMALLEST_SHARE`` of the reference is merged into
its neighbour (its edge becomes infinite), so that discrete and binary dimensions have fewer bins instead of empty
ones, and no empty bin decides anything.
"""

import numpy as np

from latentry_serving.drift.types import Booleans, Floats, Integers, Singles

BINS = 10
SMALLEST_SHARE = 0.02


def edges_from_sorted(columns: Singles, bins: int = BINS) -> Singles:
    """Inner edges [d, bins - 1] in raw units, ascending, infinite where merged. columns: [n, d], sorted along axis 0.

    Each edge lies midway between two neighbouring distinct values of the reference, so rounding noise in live values
    of a discrete dimension does not move a vector across it. A value belongs above an edge if it is greater.
    """
    n, d = columns.shape
    edges = np.full((d, bins - 1), np.inf, np.float32)
    taken = np.zeros(d)  # share of the reference below the last edge kept
    used = np.zeros(d, np.int64)
    everywhere = np.arange(d)
    for b in range(1, bins):
        value = columns[min(n - 1, max(0, round(n * b / bins) - 1))]
        below = (columns <= value).sum(axis=0)
        share = below / n
        keep = (share - taken >= SMALLEST_SHARE) & (1 - share >= SMALLEST_SHARE)
        above = columns[np.minimum(below, n - 1), everywhere]
        midway = value + (above - value) * np.float32(0.5)
        midway = np.where(midway < above, midway, value)
        edges[everywhere[keep], used[keep]] = midway[keep]
        used += keep
        taken = np.where(keep, share, taken)
    return edges


def count_above(rows: Singles, edges: Singles, scratch: Booleans) -> Integers:
    """Rows above each edge: [bins - 1, d]. rows: [n, d], n <= 255. edges: [bins - 1, d]. scratch: [>= n, d]."""
    counts = np.empty(edges.shape, np.int64)
    above = scratch[: len(rows)]
    for b, edge in enumerate(edges):
        np.greater(rows, edge, out=above)
        counts[b] = np.add.reduce(above.view(np.uint8), axis=0, dtype=np.uint8)
    return counts


def counts_from_above(above: Integers, size: int) -> Integers:
    """Vectors per bin [..., d, bins] from counts above the edges [..., bins - 1, d]."""
    shape = (*above.shape[:-2], 1, above.shape[-1])
    cumulative = np.concatenate([np.full(shape, size), above, np.zeros(shape, above.dtype)], axis=-2)
    return np.asarray(np.swapaxes(cumulative[..., :-1, :] - cumulative[..., 1:, :], -1, -2), np.int64)


def pearson(counts: Integers, shares: Floats) -> Floats:
    """Pearson's X² = sum (observed - expected)² / expected per dimension [d], against shares [d, bins].

    Bins with share zero (merged) are left out. On undrifted traffic about chi² with ``degrees(shares)``.
    """
    size = counts.sum(axis=-1, keepdims=True)
    expected = shares * size
    terms = (counts - expected) ** 2 / np.where(expected > 0, expected, 1)
    return np.asarray(np.where(expected > 0, terms, 0).sum(axis=-1))


def likelihood_ratio(counts: Integers, shares: Floats) -> Floats:
    """G² = 2 sum observed ln(observed / expected) per dimension [d].

    Unlike Pearson's X² its tail decays as chi²'s does far out (Sanov), where the worst of thousands of dimensions lies.
    """
    expected = shares * counts.sum(axis=-1, keepdims=True)
    seen = (counts > 0) & (expected > 0)
    ratio = np.where(seen, counts, 1) / np.where(seen, expected, 1)
    return np.asarray(2 * (counts * np.log(ratio)).sum(axis=-1))


def psi(counts: Integers, shares: Floats) -> Floats:
    """Population stability index per dimension [d], with half a count added to every bin in use."""
    used = shares > 0
    smoothed = np.where(used, counts + 0.5, 0.0)
    p = smoothed / smoothed.sum(axis=-1, keepdims=True)
    terms = (p - shares) * np.log(np.where(used, p, 1.0) / np.where(used, shares, 1.0))
    return np.asarray(np.where(used, terms, 0.0).sum(axis=-1))


def degrees(shares: Floats | Singles) -> Integers:
    """Degrees of freedom per dimension [d]: bins in use less one, at least zero."""
    return np.asarray(np.maximum((shares > 0).sum(axis=-1) - 1, 0), np.int64)
