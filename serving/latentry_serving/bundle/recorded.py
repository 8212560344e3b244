"""Recorded golden calls as they lie in a bundle, and how a run is held to them: all the tap needs. numpy only."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentry_serving.contract.manifest import GOLDEN_FOLDER, TensorSpec
from latentry_serving.contract.operations import Operation

Array = npt.NDArray[Any]


def golden_file(bundle_dir: Path, operation: Operation, side: str, tensor: str) -> Path:
    """Where one golden array lies; ``side`` is ``inputs`` or ``outputs``."""
    return bundle_dir / GOLDEN_FOLDER / operation / side / f"{tensor}.npy"


def load_golden(bundle_dir: Path, operation: Operation, side: str, tensors: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Reads one side of an operation's golden call. Raises OSError or ValueError when a file is missing or broken."""
    return {
        tensor.name: np.load(golden_file(bundle_dir, operation, side, tensor.name), allow_pickle=False)
        for tensor in tensors
    }


def largest_difference(actual: Array, expected: Array) -> float:
    """max |actual - expected|; infinite when one of them is not finite where the other is."""
    if actual.size == 0:
        return 0.0
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max())


def within(actual: Array, expected: Array, *, absolute: float, relative: float) -> bool:
    """|actual - expected| <= absolute + relative * |expected| in every element; NaN never passes."""
    return actual.shape == expected.shape and bool(
        np.allclose(actual.astype(np.float64), expected.astype(np.float64), atol=absolute, rtol=relative)
    )
