"""Per-dimension histograms against the reference: Pearson's chi², the likelihood ratio, and PSI to show.

Edges come from reference quantiles. A bin that would hold less than ``SMALLEST_SHARE`` of the reference is merged into
its neighbour (its edge becomes infinite), so that discrete and binary dimensions have fewer bins instead of empty
ones, and no empty bin decides anything.
"""

from functools import cached_property

import numpy as np
from scipy import special

from latentry_serving.drift.across import across
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
    """Rows above each edge: [bins - 1, d]. rows: [n, d], n <= 255. edges: [bins - 1, d], or those ``across.repeated``.
    scratch: [>= n, d]."""
    counts = np.empty((len(edges), rows.shape[1]), np.int64)
    above, given = scratch[: len(rows)], np.ascontiguousarray(rows)
    for b, edge in enumerate(edges):
        across(np.greater, given, edge, above)
        counts[b] = np.add.reduce(above.view(np.uint8), axis=0, dtype=np.uint8)
    return counts


def counts_from_above(above: Integers, size: int) -> Integers:
    """Vectors per bin [d, bins] from counts above the edges [bins - 1, d]; in memory dimensions lie side by side."""
    counts = np.empty((len(above) + 1, above.shape[1]), np.int64)
    np.subtract(size, above[:1], out=counts[:1])
    np.subtract(above[:-1], above[1:], out=counts[1:-1])
    counts[-1:] = above[-1:]
    return counts.T


def likelihood_ratio(counts: Integers, shares: Floats) -> Floats:
    """G² = 2 sum observed ln(observed / expected) per dimension [d], against shares [d, bins].

    Bins with share zero (merged) are left out. On undrifted traffic about chi² with ``degrees(shares)``; unlike
    Pearson's X² its tail decays as chi²'s does far out (Sanov), where the worst of thousands of dimensions lies.
    """
    return Shares(shares).likelihood_ratio(counts)


class Shares:
    """Shares of the bins [d, bins], ready to be compared with window after window."""

    def __init__(self, values: Floats) -> None:
        self.values: Floats = np.asfortranarray(values, np.float64)  # side by side as in ``counts_from_above``

    @cached_property
    def _used(self) -> Booleans:
        return np.asarray(self.values > 0)

    @cached_property
    def _logs(self) -> Floats:
        return np.log(np.where(self._used, self.values, 1.0))

    @cached_property
    def _inverse_roots(self) -> Floats:
        return np.where(self._used, 1 / np.sqrt(np.where(self._used, self.values, 1.0)), 0.0)

    def likelihood_ratio(self, counts: Integers) -> Floats:
        """``likelihood_ratio`` [d] of counts [d, bins]."""
        size = counts.sum(axis=-1)
        kept = counts if self._used.all() else np.where(self._used, counts, 0)
        every = np.arange(kept.max(initial=0) + 1)
        own = special.xlogy(every, every)[kept]  # n ln n, of few different n
        return np.asarray(2 * ((own - kept * self._logs).sum(axis=-1) - special.xlogy(kept.sum(axis=-1), size)))

    def pearson_residuals(self, counts: Integers) -> Floats:
        """[d, bins] (share in the window - share) / sqrt(share), zero for bins that are not used.

        Their squares add up to Pearson's X² / size.
        """
        size = max(1, int(counts[0].sum()))
        return np.asarray((counts / size - self.values) * self._inverse_roots)


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
