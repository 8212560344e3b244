"""Same space, alignable, or re-index."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from latentry_serving.compare.bounds import Bounded, bootstrap, of_median, of_share, resolves
from latentry_serving.compare.pairs import MOST_RATIO, cosines, cross_recall, neighbour_overlap, norm_ratios, paired
from latentry_serving.compare.procrustes import PAIRS_PER_DIMENSION, OrthogonalMap, fit, halves

ERROR = 0.05
"""Probability that one bound misses the truth, both sides together."""
FEWEST_PAIRS = 8
"""The golden inputs of a bundle that does not say how many. Below, nothing is decided."""
NEIGHBOURS = 10


class Space(StrEnum):
    """What to do with stored vectors."""

    SAME = "same"
    """Nothing: both versions' vectors may be mixed."""
    ALIGNABLE = "alignable"
    """Map new vectors before they meet old ones, or old ones once."""
    REINDEX = "reindex"
    """Embed everything anew."""
    UNDECIDED = "undecided"
    """The pairs leave it open."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Smallest mean cosine of pairs, neighbour overlap and cross-version recall@1 of one space, and the largest ratio
    of norms, as it is or inverted."""

    cosine: float = 0.98
    overlap: float = 0.9
    recall: float = 0.95
    norm_ratio: float = 1.25


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions on the same inputs.

    Attributes:
        pairs: inputs.
        neighbours: how many of each are compared in ``overlap``.
        cosine, overlap: means over inputs, bootstrap bounds.
        recall: cross-version recall@1 as the vectors are, exact bounds.
        norm_ratio: median of |new| / |old|, exact bounds; what the other figures cannot see.
        aligned_recall: recall after the map, on the half it was not fitted on; None with too few pairs for a map.
        map: fitted on the other half; the caller may write its files.
        notes: sentences.
    """

    pairs: int
    neighbours: int
    cosine: Bounded
    overlap: Bounded
    recall: Bounded
    norm_ratio: Bounded
    aligned_recall: Bounded | None
    map: OrthogonalMap | None
    space: Space
    notes: tuple[str, ...] = ()


def compare(
    old: NDArray[np.floating],
    new: NDArray[np.floating],
    rng: np.random.Generator,
    thresholds: Thresholds | None = None,
) -> Comparison:
    """Compares embeddings of the same inputs by two versions.

    Args:
        old, new: [n, d] and [n, e], row by row the same inputs, FEWEST_PAIRS to MOST_PAIRS of them for a judgement.
            Of fewer than 2 nothing is known: bounds are as wide as they can be.
        rng: for the split into halves and the bootstrap; the same seed gives the same result.

    Raises:
        InvalidInput: the arrays are no pairs, or not finite, or too large.
    """
    limits = thresholds if thresholds is not None else Thresholds()
    first, second = paired(old, new)
    if len(first) < 2:
        share, ratio = Bounded(0.0, 0.0, 1.0), Bounded(1.0, 1 / MOST_RATIO, MOST_RATIO)
        return Comparison(len(first), 0, Bounded(0.0, -1.0, 1.0), share, share, ratio, None, None, Space.UNDECIDED)
    k = max(1, min(NEIGHBOURS, len(first) // 4))
    cosine = bootstrap(cosines(first, second), ERROR, rng)
    overlap = bootstrap(neighbour_overlap(first, second, k), ERROR, rng)
    recall = of_share(cross_recall(first, second), ERROR)
    lengths = of_median(norm_ratios(first, second), ERROR, 1 / MOST_RATIO, MOST_RATIO)
    aligned, found, notes = None, None, []
    if _outside(lengths, limits.norm_ratio):
        notes.append(f"embeddings are {lengths.value:.4g} times as long, and an orthogonal map keeps lengths")
    fitting, judging = halves(len(first), rng)
    needed = PAIRS_PER_DIMENSION * min(first.shape[1], second.shape[1])
    if len(fitting) >= needed:
        found = fit(first[fitting], second[fitting])
        aligned = of_share(cross_recall(first[judging], found.apply(second[judging])), ERROR)
    else:
        notes.append(f"no map was fitted: {2 * needed} pairs are needed for these dimensions, {len(first)} are there")
    space = _space(len(first), limits, cosine, overlap, recall, lengths, aligned)
    return Comparison(len(first), k, cosine, overlap, recall, lengths, aligned, found, space, tuple(notes))


def _outside(lengths: Bounded, most: float) -> bool:
    return lengths.low > most or lengths.high < 1 / most


def _space(
    pairs: int,
    limits: Thresholds,
    cosine: Bounded,
    overlap: Bounded,
    recall: Bounded,
    lengths: Bounded,
    aligned: Bounded | None,
) -> Space:
    if pairs < FEWEST_PAIRS:
        return Space.UNDECIDED
    if _outside(lengths, limits.norm_ratio):
        return Space.REINDEX
    as_long = 1 / limits.norm_ratio <= lengths.low and lengths.high <= limits.norm_ratio
    measured = ((cosine, limits.cosine), (overlap, limits.overlap), (recall, limits.recall))
    # Too few pairs to show a recall can still disprove it: then the cosine shows what there is to show.
    shown = measured if resolves(pairs, limits.recall, ERROR) else measured[:1]
    if all(figure.high >= least for figure, least in measured):
        return Space.SAME if as_long and all(figure.low >= least for figure, least in shown) else Space.UNDECIDED
    if aligned is None:
        return Space.REINDEX
    if aligned.low >= limits.recall and as_long:
        return Space.ALIGNABLE
    return Space.UNDECIDED if aligned.high >= limits.recall else Space.REINDEX
