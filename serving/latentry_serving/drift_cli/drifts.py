"""Drifts of stated kind and size, applied to real vectors."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from latentry_serving.bundle.tensors import Array
from latentry_serving.drift_cli.kinds import DriftKind

_GROUP = 0.1  # share of the vectors that count as one group: those nearest to one of them


def drifted(vectors: Array, kind: DriftKind, size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Vectors [n, d] with a drift that changes them; not of a kind in ``REORDERING``."""
    x = np.asarray(vectors, np.float64)
    sd = x.std(axis=0)
    match kind:
        case DriftKind.SHIFT:
            moved = x + size * sd
        case DriftKind.SCALE:
            moved = x * (1 + size)
        case DriftKind.NOISE:
            moved = x + size * sd * rng.standard_normal(x.shape)
        case _:
            moved = _rotated(x, np.where(sd > 0, sd, 1), size, rng)
    return np.asarray(moved, np.float32)


def _rotated(x: NDArray[np.float64], sd: NDArray[np.float64], angle: float, rng: np.random.Generator) -> Array:
    mean = x.mean(axis=0)
    z = (x - mean) / sd
    dimensions = rng.permutation(x.shape[1])
    half = len(dimensions) // 2
    left, right = dimensions[:half], dimensions[half : 2 * half]
    turned = z.copy()
    turned[:, left] = z[:, left] * np.cos(angle) - z[:, right] * np.sin(angle)
    turned[:, right] = z[:, left] * np.sin(angle) + z[:, right] * np.cos(angle)
    return np.asarray(turned * sd + mean)


def reordered(
    values: Mapping[str, Array], by: str, kind: DriftKind, size: float, window: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Index [n] of the rows that come instead of rows 0 to n - 1, for a kind in ``REORDERING``.

    by: the tensor in whose space groups lie.
    """
    rows = len(values[by])
    index = np.arange(rows)
    replaced = rng.random(rows) < size
    if kind is DriftKind.DUPLICATES:
        earlier = np.maximum(index - rng.integers(1, max(2, window // 2), rows), 0)
        return np.where(replaced, earlier, index)
    x = np.asarray(values[by], np.float64)
    # As they are, not in standard units: latents that carry nothing would blur the groups.
    nearest = np.argsort(((x - x[rng.integers(rows)]) ** 2).sum(axis=1), kind="stable")
    group = rng.permutation(nearest[: max(2, round(_GROUP * rows))])
    return _from_group(index, replaced, group, window)


def _from_group(
    index: NDArray[np.int64], replaced: NDArray[np.bool_], group: NDArray[np.int64], window: int
) -> NDArray[np.int64]:
    """The group's vectors in turn, none that its window holds already: a change of mixture is no duplication."""
    taken, place = index.copy(), 0
    for row in np.flatnonzero(replaced):
        away = np.abs(np.roll(group, -place) - row) >= window
        step = int(np.argmax(away)) if away.any() else 0
        taken[row] = group[(place + step) % len(group)]
        place = (place + step + 1) % len(group)
    return taken
