"""nannyml: its multivariate method, the error of a PCA reconstruction against the reference's."""

import os
from collections.abc import Callable

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml
import pandas as pd
from protocol import Array, Score, serve

_WINDOW = 500


def _errors(result: "nannyml.drift.multivariate.data_reconstruction.Result") -> pd.Series:
    return result.to_df()["reconstruction_error"]["value"]


def reconstruction(reference: Array) -> Callable[[], Score]:
    """Distance of the window's reconstruction error from the reference's mean."""
    names = [f"x{i}" for i in range(reference.shape[1])]
    calculator = nannyml.DataReconstructionDriftCalculator(column_names=names, chunk_size=_WINDOW)
    calculator.fit(pd.DataFrame(reference, columns=names))
    centre = float(_errors(calculator.result).mean())

    def score(window: Array) -> float:
        return abs(float(_errors(calculator.calculate(pd.DataFrame(window, columns=names))).iloc[-1]) - centre)

    return lambda: score


if __name__ == "__main__":
    serve({"reconstruction": reconstruction})
