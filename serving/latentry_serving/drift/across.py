"""Many rows with one vector, element by element, without numpy's overhead per row. Pure.

For ``rows [n, d] op vector [d]`` numpy runs one inner loop per row, or, where two rows fit its buffer of 8,192
elements, copies the vector into that buffer over and over. A vector that is repeated once and for all to at least a
buffer's length needs neither: several rows are one loop. Measured on comparisons of 250 rows: 1.25 to 0.83 us per row
of 768, 7.1 to 4.3 of 4096.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.drift.types import Singles

_SPAN = 8192


def repeated(vectors: Singles) -> Singles:
    """Vectors [..., d], each repeated to [..., r d] with r d at least a buffer long."""
    times = max(1, -(-_SPAN // max(1, vectors.shape[-1])))
    return np.ascontiguousarray(np.tile(vectors, (1,) * (vectors.ndim - 1) + (times,)))


def across(operation: np.ufunc, rows: Singles, vector: Singles, out: NDArray[Any]) -> None:
    """``operation(rows, vector, out=out)``. rows, out: [n, d] without gaps; vector: [r d], ``repeated``."""
    flat, target, width = rows.reshape(-1), out.reshape(-1), vector.size
    whole = flat.size // width * width
    if whole:
        operation(flat[:whole].reshape(-1, width), vector, out=target[:whole].reshape(-1, width))
    if whole < flat.size:
        operation(flat[whole:], vector[: flat.size - whole], out=target[whole:])
