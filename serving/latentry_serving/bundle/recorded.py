"""Recorded golden calls as they lie in a bundle, and how a run is held to them: all the tap needs. numpy only."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentry_serving.contract.manifest import GOLDEN_FOLDER, TensorSpec
from latentry_serving.contract.operations import Operation

Array = npt.NDArray[Any]

REPLAYED_ROWS = 8
"""Of the recorded rows, those that probes send and ``bundle verify`` runs. Source:
docs/decisions/0011-as-many-golden-calls-as-a-recall-needs.md."""


def golden_file(bundle_dir: Path, operation: Operation, side: str, tensor: str) -> Path:
    """Where one golden array lies; ``side`` is ``inputs`` or ``outputs``."""
    return bundle_dir / GOLDEN_FOLDER / operation / side / f"{tensor}.npy"


def load_golden(
    bundle_dir: Path, operation: Operation, side: str, tensors: tuple[TensorSpec, ...], *, most: int | None = None
) -> dict[str, Array]:
    """Reads one side of an operation's golden call. Raises OSError or ValueError when a file is missing or broken.

    Args:
        most: of each array at most so many rows, evenly spread; only these are read. None: all.
    """
    return {tensor.name: _load(golden_file(bundle_dir, operation, side, tensor.name), most) for tensor in tensors}


def spread_rows(rows: int, most: int) -> npt.NDArray[np.int64]:
    """At most ``most`` of so many rows, evenly spaced from the first to the last."""
    return np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64)


def _load(path: Path, most: int | None) -> Array:
    array: Array = np.load(path, mmap_mode=None if most is None else "r", allow_pickle=False)
    if most is None:
        return array
    if array.ndim == 0:
        raise ValueError(f"{path.name} has no rows")
    return np.array(array[spread_rows(len(array), most)])


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
