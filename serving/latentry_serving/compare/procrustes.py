"""The orthogonal map from new vectors to old ones, fitted on one half of the pairs and judged on the other.

Procrustes: of all R with orthonormal columns (rows, where dimensions grow), the one that minimises ||new R - old||_F
is U V', from the singular value decomposition new' old = U S V'. Source: Schoenemann, Psychometrika 31 (1966); for
versions of embeddings: Drift-Adapter, arXiv 2509.23471. A map looks good on the pairs it was fitted on even between
unrelated spaces, once pairs are fewer than dimensions; hence the held-out half.
"""

import hashlib
import json
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from latentry_serving.compare.pairs import Array

PAIRS_PER_DIMENSION = 5
"""Fewest pairs for each dimension in the fitting half: below, a held-out map misses although there is one. Measured."""


@dataclass(frozen=True, slots=True)
class OrthogonalMap:
    """``aligned = new @ matrix``, in the old version's space.

    Attributes:
        matrix: [new dimensions, old dimensions].
        fitted_on: pairs.
    """

    matrix: Array
    fitted_on: int

    def apply(self, new: Array) -> Array:
        """Vectors [n, new dimensions] as the old version's, [n, old dimensions]."""
        return new @ self.matrix

    def to_files(self, *, old: str, new: str) -> dict[str, bytes]:
        """``map.npy`` (float32, no pickle) and ``map.json`` that says what it is; a caller writes them.

        Args:
            old, new: names of the two versions, for people.
        """
        buffer = BytesIO()
        np.save(buffer, self.matrix.astype(np.float32), allow_pickle=False)
        array = buffer.getvalue()
        about = {
            "schemaVersion": 1,
            "kind": "orthogonal-map",
            "from": new,
            "to": old,
            "use": "aligned = embedding @ map",
            "shape": list(self.matrix.shape),
            "fittedOn": self.fitted_on,
            "sha256": hashlib.sha256(array).hexdigest(),
        }
        return {"map.npy": array, "map.json": (json.dumps(about, indent=2, sort_keys=True) + "\n").encode()}


def fit(old: Array, new: Array) -> OrthogonalMap:
    """The map that brings ``new`` [n, e] nearest to ``old`` [n, d]."""
    u, _, vt = np.linalg.svd(new.T @ old, full_matrices=False)
    return OrthogonalMap(u @ vt, len(old))


def halves(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows to judge on: a random split without overlap."""
    order = rng.permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])
