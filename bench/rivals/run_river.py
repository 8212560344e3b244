"""river: one ADWIN per dimension, vector by vector."""

from collections.abc import Callable

from protocol import Array, Score, serve
from river.drift import ADWIN


def adwin(reference: Array) -> Callable[[], Score]:
    """Largest departure, over the dimensions, of the adaptive window's mean from the reference's, in its sd.

    ADWIN alarms by itself at a rate that only delta moves; its estimate is used so that it can be held to any rate. A
    run begins with the reference's last 500 vectors.
    """
    mean, sd = reference.mean(axis=0), reference.std(axis=0) + 1e-12

    def begin() -> Score:
        detectors = [ADWIN() for _ in range(reference.shape[1])]

        def score(window: Array) -> float:
            for row in window.tolist():
                for detector, value in zip(detectors, row, strict=True):
                    detector.update(value)
            return max(abs(a.estimation - m) / s for a, m, s in zip(detectors, mean, sd, strict=True))

        score(reference[-500:])
        return score

    return begin


if __name__ == "__main__":
    serve({"adwin": adwin})
