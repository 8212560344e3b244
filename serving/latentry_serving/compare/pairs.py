"""Measures of paired embeddings: row i of both arrays is the same input."""

import numpy as np
from numpy.typing import NDArray

from latentry_serving.contract.errors import InvalidInput

Array = NDArray[np.float64]

MOST_PAIRS = 4_096
"""Similarities of all with all are n x n numbers: 128 MiB at this many, and bounds do not get much tighter."""
MOST_DIMENSIONS = 16_384
MOST_RATIO = 1e9
"""Ratios of norms beyond this, or below its inverse, count as this; also with a norm of zero."""


def paired(old: NDArray[np.floating], new: NDArray[np.floating]) -> tuple[Array, Array]:
    """Checked and as float64: two arrays [n, d] of as many rows, also none; dimensions may differ.

    Raises:
        InvalidInput: other shapes, more than MOST_PAIRS rows, or values that are not finite.
    """
    for name, array in (("old", old), ("new", new)):
        problem = ""
        if array.ndim != 2 or not 1 <= array.shape[1] <= MOST_DIMENSIONS:
            problem = f"has shape {list(array.shape)}, [inputs, dimensions up to {MOST_DIMENSIONS}] is needed"
        elif len(array) > MOST_PAIRS:
            problem = f"has {len(array)} rows, {MOST_PAIRS} at most can be compared"
        elif not np.isfinite(array).all():
            problem = "holds NaN or infinity"
        if problem:
            raise InvalidInput.one("embeddings", path=name, problem=problem, remedy="compare other samples")
    if len(old) != len(new):
        problem = f"{len(old)} old and {len(new)} new embeddings are no pairs"
        raise InvalidInput.one("embeddings", path="new", problem=problem, remedy="embed the same inputs with both")
    return old.astype(np.float64), new.astype(np.float64)


def cosines(old: Array, new: Array) -> Array:
    """cos(old_i, new_i), [n]; two zero vectors count as equal, a zero and another as orthogonal.

    Both arrays [n, d]; of two dimensions there is no cosine: then all are 0.
    """
    if old.shape[1] != new.shape[1]:
        return np.zeros(len(old))
    both_zero = ~old.any(axis=1) & ~new.any(axis=1)
    products: Array = np.einsum("nd,nd->n", unit(old), unit(new))
    return np.where(both_zero, 1.0, products)


def norm_ratios(old: Array, new: Array) -> Array:
    """|new_i| / |old_i|, [n], 1 / MOST_RATIO to MOST_RATIO; two zero vectors count as equally long."""
    before, after = (np.linalg.norm(array, axis=1) for array in (old, new))
    of_zero = np.where(after > 0, MOST_RATIO, 1.0)
    ratios = np.where(before > 0, after / np.where(before > 0, before, 1.0), of_zero)
    clipped: Array = np.clip(ratios, 1 / MOST_RATIO, MOST_RATIO)
    return clipped


def unit(array: Array) -> Array:
    """Rows of length 1, [n, d]; zero rows stay."""
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    lengths: Array = np.where(norms > 0, norms, 1.0)
    rows: Array = array / lengths
    return rows


def neighbour_overlap(old: Array, new: Array, k: int) -> Array:
    """Share of each input's k nearest neighbours, by cosine, that both versions agree on, [n].

    Args:
        k: 1 to n - 1.
    """
    first, second = (_neighbours(array, k) for array in (old, new))
    return np.array([len(np.intersect1d(a, b, assume_unique=True)) / k for a, b in zip(first, second, strict=True)])


def _neighbours(array: Array, k: int) -> NDArray[np.intp]:
    rows = unit(array)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -np.inf)
    return np.argpartition(-similar, k - 1, axis=1)[:, :k]


def cross_recall(index: Array, queries: Array, k: int = 1) -> Array:
    """Whether query i finds index row i among its k nearest by cosine, [n] of 0 and 1. Backward-compatible recall.

    Rows of the index that are as near as row i do not count against it: duplicates are not the new version's fault.
    Source: Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020.

    Args:
        index, queries: [n, d] of the same d; other dimensions cannot be compared: then all are 0.
        k: 1 to n.
    """
    if index.shape[1] != queries.shape[1]:
        return np.zeros(len(index))
    similar = unit(queries) @ unit(index).T
    own = np.diagonal(similar)
    # float64 products of equal rows may differ in their last bits
    nearer = (similar > own[:, None] + 1e-12).sum(axis=1)
    found: Array = (nearer < k).astype(np.float64)
    return found
