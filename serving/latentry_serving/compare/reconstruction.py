"""Does one version reconstruct as well as another? On the same inputs, whatever their embedding spaces are."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from latentry_serving.compare.bounds import Bounded, bootstrap_ratio
from latentry_serving.compare.pairs import MOST_RATIO, Array
from latentry_serving.contract.manifest import ReconstructionError

ERROR = 0.05
"""Probability that the bounds miss the truth, both sides together."""
NEGLIGIBLE = 0.01
"""Of the error of whoever knows nothing but the mean of the inputs. Twice an error of a millionth is no worse model:
so much is added to both errors before they are divided."""
_PROBABILITY_FLOOR = 1e-7
"""Reconstructions are clipped to it, as in ``bundle/compose.py``."""


def unavoidable(kind: ReconstructionError, inputs: NDArray[np.generic]) -> Array:
    """Error of the perfect reconstruction of each input [n, ...], float64 [n]: 0, or the entropy of grey levels, nats.

    Binary cross-entropy of x with r is H(x) + KL(x | r): only the second part says anything about the model.
    """
    if kind is not ReconstructionError.BINARY_CROSS_ENTROPY:
        return np.zeros(len(inputs))
    return np.array([_between(kind, x, x) for x in _rows(inputs)])


def uninformed(kind: ReconstructionError, inputs: NDArray[np.generic]) -> Array:
    """Error of each input [n, ...] reconstructed as the mean of all, beyond the unavoidable one, float64 [n]."""
    mean = inputs.mean(axis=0, dtype=np.float64)
    told = np.array([_between(kind, x, mean) for x in _rows(inputs)])
    return np.maximum(told - unavoidable(kind, inputs), 0.0)


def error_ratio(old: Array, new: Array, negligible: float, rng: np.random.Generator) -> Bounded:
    """Mean error of the new version over that of the old one, with bootstrap bounds; ``negligible`` is added to both.

    Args:
        old, new: errors beyond the unavoidable ones, [n] each, row by row the same inputs. Of fewer than 2 nothing is
            known: bounds are as wide as they can be.
        negligible: at least 0, in the unit of the errors.
    """
    if len(old) < 2:
        return Bounded(1.0, 0.0, MOST_RATIO)
    # Rounding of float32 makes a perfect reconstruction slightly better than perfect.
    before, after = (np.maximum(errors, 0.0) + negligible for errors in (old, new))
    return bootstrap_ratio(after, before, ERROR, rng, MOST_RATIO)


def _rows(inputs: NDArray[np.generic]) -> Iterator[Array]:
    """One after the other as float64: all at once would be several times the sample."""
    return (row.astype(np.float64) for row in inputs)


def _between(kind: ReconstructionError, x: Array, r: Array) -> float:
    """Of one input; definitions: ``contract.manifest.ReconstructionError``."""
    match kind:
        case ReconstructionError.BINARY_CROSS_ENTROPY:
            p = np.clip(r, _PROBABILITY_FLOOR, 1 - _PROBABILITY_FLOOR)
            return float(-(x * np.log(p) + (1 - x) * np.log1p(-p)).sum())
        case ReconstructionError.MEAN_ABSOLUTE:
            return float(np.abs(x - r).mean())
        case ReconstructionError.SUM_SQUARED:
            return float(((x - r) ** 2).sum())
        case ReconstructionError.MEAN_SQUARED:
            return float(((x - r) ** 2).mean())
