"""nannyml: its multivariate method, the error of a PCA reconstruction against the reference's."""

import os
from collections.abc import Callable

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml
import pandas as pd
from protocol import Array, Score, serve


def reconstruction(reference: Array) -> Callable[[], Score]:
    """Distance of the window's reconstruction error from the reference's mean."""
    names = [f"x{i}" for i in range(reference.shape[1])]
    chunk = max(2, len(reference) // 20)
    calculator = nannyml.DataReconstructionDriftCalculator(column_names=names, chunk_size=chunk)
    calculator.fit(pd.DataFrame(reference, columns=names))
    centre = float(calculator._reference_mean) if hasattr(calculator, "_reference_mean") else None

    def score(window: Array) -> float:
        result = calculator.calculate(pd.DataFrame(window, columns=names)).to_df()
        error = float(result["reconstruction_error"]["value"].iloc[-1])
        return abs(error - centre) if centre is not None else error

    return lambda: score


if __name__ == "__main__":
    serve({"reconstruction": reconstruction})
