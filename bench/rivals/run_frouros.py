"""frouros: MMD with its kernel at the median distance, and PSI of every dimension."""

from collections.abc import Callable
from functools import partial

import numpy as np
from frouros.detectors.data_drift import MMD, PSI
from frouros.utils.kernels import rbf_kernel
from protocol import Array, Score, serve

_CHUNK = 500


def mmd(reference: Array) -> Callable[[], Score]:
    """MMD² of the window."""
    sample = reference[:: max(1, len(reference) // 500)].astype(np.float64)
    squares = (sample**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * sample @ sample.T
    sigma = float(np.sqrt(np.median(distances[np.triu_indices(len(sample), 1)]) / 2))
    detector = MMD(kernel=partial(rbf_kernel, sigma=sigma), chunk_size=_CHUNK)
    detector.fit(X=reference)
    return lambda: lambda window: detector.compare(X=window)[0].distance


def psi(reference: Array) -> Callable[[], Score]:
    """Largest PSI over the dimensions."""
    detectors = [PSI(num_bins=10) for _ in reference.T]
    for detector, column in zip(detectors, reference.T, strict=True):
        detector.fit(X=column)
    return lambda: (
        lambda window: max(
            detector.compare(X=column)[0].distance for detector, column in zip(detectors, window.T, strict=True)
        )
    )


if __name__ == "__main__":
    serve({"mmd": mmd, "psi": psi})
