"""evidently: its embedding drift methods (distance of the means; MMD; share of drifted components)."""

from collections.abc import Callable

import pandas as pd
from evidently.legacy.metrics.data_drift import embedding_drift_methods
from protocol import Array, Method, Score, serve


def _method(make: Callable[[], Callable[[pd.DataFrame, pd.DataFrame], tuple[float, bool, str]]]) -> Method:
    def fit(reference: Array) -> Callable[[], Score]:
        judge, frame = make(), pd.DataFrame(reference)
        return lambda: lambda window: judge(pd.DataFrame(window), frame)[0]

    return fit


if __name__ == "__main__":
    serve(
        {
            "distance": _method(lambda: embedding_drift_methods.distance(dist="euclidean")),
            "mmd": _method(lambda: embedding_drift_methods.mmd(bootstrap=False)),
            "ratio": _method(embedding_drift_methods.ratio),
        }
    )
