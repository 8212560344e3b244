"""Reference vectors as they are given: checked, in the order of their times, readable by rows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift import counters, nulls, order
from latentry_serving.drift.types import Floats, Integers, Singles

FEWEST_WINDOWS = 4


class Source:
    """The vectors, in the order of their times, readable by rows; and the checks on what was given."""

    def __init__(self, name: str, vectors: ArrayLike, times_s: ArrayLike | None, window: int) -> None:
        self.name = name
        array = np.asanyarray(vectors)
        self._array: NDArray[np.generic] = array[:, None] if array.ndim == 1 else array
        if array.ndim not in (1, 2) or 0 in array.shape or array.dtype.kind not in "fiub":
            raise self._refused(
                f"shape {array.shape} of {array.dtype}", "give numbers of shape [vectors, dimensions], both at least 1"
            )
        self.size, self.dimensions = self._array.shape
        self.times_s = None if times_s is None else np.asarray(times_s, np.float64)
        self.was_sorted = True
        self._order: Integers | None = None
        if self.times_s is not None:
            self._sort(self.times_s)
        windows = self.size // window
        if windows < FEWEST_WINDOWS:
            raise self._refused(
                f"{self.size} vectors are {windows} windows of {window}; {FEWEST_WINDOWS} are needed at least",
                f"give {FEWEST_WINDOWS * window} vectors or more ({nulls.FEW_WINDOWS * window} to calibrate "
                f"well), or a window of {max(1, self.size // FEWEST_WINDOWS)} or fewer",
            )
        self.finite_sample = self._finite()
        if self.finite_sample.size < FEWEST_WINDOWS * window // 2:
            raise self._refused(
                f"only {self.finite_sample.size} of {self.size} vectors are finite", "give reference data without NaN"
            )

    def rows(self, index: Integers) -> Singles:
        """Vectors [m, d] by index in the order of time."""
        chosen = index if self._order is None else self._order[index]
        return np.asarray(self._array[chosen], np.float32)

    def part(self, part: slice) -> Singles:
        """Contiguous vectors in the order of time."""
        return np.asarray(self._array[part if self._order is None else self._order[part]], np.float32)

    def slots(self, cycle: order.Cycle) -> Integers:
        """Slot [n] of every vector."""
        if self.times_s is None:
            return np.zeros(self.size, np.int64)
        return np.asarray(cycle.slot_of_hour[order.hour_of(self.times_s)])

    def _sort(self, times: Floats) -> None:
        if times.shape != (self.size,) or not np.isfinite(times).all():
            raise self._refused(
                f"times of shape {times.shape} for {self.size} vectors", "give one finite Unix time per vector"
            )
        if np.any(np.diff(times) < 0):
            self.was_sorted = False
            self._order = np.argsort(times, kind="stable")
            self.times_s = times[self._order]

    def _finite(self) -> Integers:
        kept = []
        for start in range(0, self.size, 1024):
            rows = self.part(slice(start, start + 1024))
            finite = counters.finite_rows(rows)
            index = np.arange(start, start + len(rows))
            kept.append(index if finite is None else index[finite])
        return np.concatenate(kept)

    def _refused(self, problem: str, remedy: str) -> InvalidInput:
        return InvalidInput.one(f"reference of {self.name}", path=self.name, problem=problem, remedy=remedy)
