"""What a measure does in windows of undrifted traffic, learnt from the reference's own disjoint windows.

Two nulls. ``WindowNull`` is for real-valued measures, ``CountNull`` for rows with a rare property. Both take their
spread from contiguous windows of the time-ordered reference, so that autocorrelated traffic is judged by how much such
windows really vary, and both predict a *new* window: the uncertainty of what the reference taught is part of the
p-value.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from latentry_serving.contract.errors import InvalidInput

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
Meta = dict[str, Any]
T = TypeVar("T")

FEWEST_WINDOWS = 4
"""Fewest windows a null may be learnt from; the same bound as for drift profiles."""
WINDOWS_WANTED = 10
"""With fewer windows the p-values hold, but only large changes can be told from chance: 3 degrees of freedom need a
change of 60 standard deviations for p = 1e-5, 9 degrees need 8."""
SMALLEST_PART = 4
"""A window that did not fill is judged down to this part of its size: nulls are learnt at 1, 1/2 and 1/4."""
MOST_DEGREES_OF_FREEDOM = 30
"""Means of windows are not normal far out. However many windows there are, tails stay as heavy as Student's t with 30
degrees of freedom (at p = 1e-6 that asks for 5.6 standard deviations where the normal asks for 4.75)."""


class Side(StrEnum):
    """Which change of a measure is against the reference."""

    BOTH = "both"
    UPPER = "upper"
    LOWER = "lower"


def window_slices(samples: int, size: int) -> Iterator[slice]:
    """Contiguous disjoint windows of exactly ``size`` rows, in order; the remainder is left out."""
    return (slice(start, start + size) for start in range(0, samples - size + 1, size))


def calibration_sizes(samples: int, window: int) -> list[int]:
    """Window sizes at which nulls are learnt, largest first.

    Raises:
        InvalidInput: the reference holds fewer than ``FEWEST_WINDOWS`` windows.
    """
    if window < 2 * SMALLEST_PART:
        raise InvalidInput.one(
            "health baseline",
            path="window",
            problem=f"{window} samples are no window",
            remedy=f"use {2 * SMALLEST_PART}",
        )
    if samples < FEWEST_WINDOWS * window:
        raise InvalidInput.one(
            "health baseline",
            path="reference",
            problem=f"{samples} samples are {samples // window} windows of {window}, fewer than {FEWEST_WINDOWS}",
            remedy=f"give at least {FEWEST_WINDOWS * window} samples ({WINDOWS_WANTED * window} are better) "
            f"or a window of at most {samples // FEWEST_WINDOWS}",
        )
    return [window, window // 2, window // SMALLEST_PART]


def over_windows(samples: int, window: int, of: Callable[[slice], T]) -> dict[int, list[T]]:
    """``of`` the rows of every disjoint window, in order, at each of the ``calibration_sizes``.

    Raises:
        InvalidInput: the reference holds fewer than ``FEWEST_WINDOWS`` windows.
    """
    sizes = calibration_sizes(samples, window)
    return {size: [of(rows) for rows in window_slices(samples, size)] for size in sizes}


@dataclass(frozen=True, slots=True)
class WindowNull:
    """Mean and spread of M measures over windows of several sizes.

    A new value x at size w has t = (x - mean(w)) / (sd(w) sqrt(1 + 1/m)), Student distributed with m - 1 degrees of
    freedom when window values are normal (a prediction interval for one further observation; Hahn and Meeker,
    Statistical Intervals, 4.8). Mean and variance between the learnt sizes are interpolated linearly in 1/w, which is
    exact for a bias and a variance of order 1/w.

    Attributes:
        sizes: [S] window sizes, descending.
        means: [S, M] mean over the reference's windows.
        sds: [S, M] standard deviation over them, at least ``floor``.
        windows: m, how many windows of the largest size there were.
    """

    sizes: NDArray[np.int64]
    means: Floats
    sds: Floats
    windows: int

    @classmethod
    def fit(cls, values: Mapping[int, Sequence[Floats]], *, floor: float | Floats = 0.0) -> "WindowNull":
        """
        Args:
            values: per window size the measures [M] of each of its windows.
            floor: smallest standard deviation that is believed, a number or [M], in the measures' unit: changes far
                below it are not looked at. It keeps constants (unit norms) from alarming on the last bit of float32.
        """
        sizes = sorted(values, reverse=True)
        sds = np.stack([np.maximum(np.std(values[size], axis=0, ddof=1), floor) for size in sizes])
        means = np.stack([np.mean(values[size], axis=0) for size in sizes])
        return cls(np.asarray(sizes, np.int64), means, sds, len(values[sizes[0]]))

    def covers(self, size: int) -> bool:
        """Whether windows of ``size`` samples can be judged."""
        return size >= int(self.sizes[-1])

    def at(self, size: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation [M] of the measures in windows of ``size`` samples, clamped to the learnt
        sizes."""
        inverse, wanted = 1.0 / self.sizes, 1.0 / np.clip(size, self.sizes[-1], self.sizes[0])
        right = int(np.clip(np.searchsorted(inverse, wanted), 1, len(inverse) - 1))
        part = (wanted - inverse[right - 1]) / (inverse[right] - inverse[right - 1])
        mean = (1 - part) * self.means[right - 1] + part * self.means[right]
        variance = (1 - part) * self.sds[right - 1] ** 2 + part * self.sds[right] ** 2
        return mean, np.sqrt(variance)

    def p_values(self, size: int, values: Floats, sides: Side | Sequence[Side]) -> Floats:
        """P-values [M] of the measures ``values`` [M] of a new window of ``size`` samples."""
        mean, sd = self.at(size)
        t = (values - mean) / np.where(sd > 0, sd * np.sqrt(1 + 1 / self.windows), 1.0)
        t = np.where((sd == 0) & (values != mean), np.copysign(np.inf, values - mean), t)
        degrees = min(self.windows - 1, MOST_DEGREES_OF_FREEDOM)
        upper, lower = special.stdtr(degrees, -t), special.stdtr(degrees, t)
        both = np.minimum(1.0, 2 * np.minimum(upper, lower))
        given = [sides] * len(values) if isinstance(sides, Side) else sides
        pick = np.array([(Side.BOTH, Side.UPPER, Side.LOWER).index(side) for side in given])
        picked: Floats = np.stack([both, upper, lower])[pick, np.arange(len(values))]
        return picked

    def to_arrays(self, prefix: str = "null_") -> Arrays:
        """By names that start with ``prefix``; ``from_arrays`` finds them among others."""
        windows = np.asarray([self.windows])
        arrays = {"sizes": self.sizes, "means": self.means, "sds": self.sds, "windows": windows}
        return {prefix + name: array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str = "null_") -> "WindowNull":
        sizes, means, sds, windows = (arrays[prefix + name] for name in ("sizes", "means", "sds", "windows"))
        return cls(sizes, means, sds, int(windows[0]))


@dataclass(frozen=True, slots=True)
class CountNull:
    """How many rows of a window have a rare property: beta-binomial.

    With counts x_i of n = m w rows the rate is Beta(x + 1/2, n - x + 1/2) (Jeffreys). Windows that vary more than
    independent rows would (overdispersion, intra-window correlation rho by moments, at least 0) widen it:
    ``rho_total = rho + (1 + (w - 1) rho) / (n + 2)``, which is the exact predictive distribution for rho = 0.

    Attributes:
        rate: expected share of rows.
        rho: ``rho_total`` above, in (0, 1).
    """

    rate: float
    rho: float

    @classmethod
    def fit(cls, counts: NDArray[np.int64], window: int, *, rate: float | None = None) -> "CountNull":
        """
        Args:
            counts: [m] rows with the property in each of the reference's windows of ``window`` rows.
            rate: the share by construction (an anomaly threshold at a stated quantile), else estimated.
        """
        rows = len(counts) * window
        expected = (float(counts.sum()) + 0.5) / (rows + 1) if rate is None else rate
        spread = float(np.var(counts, ddof=1)) / (window * expected * (1 - expected))
        rho = min(0.5, max(0.0, (spread - 1) / (window - 1)))
        return cls(expected, min(0.9, rho + (1 + (window - 1) * rho) / (rows + 2)))

    @classmethod
    def of_rows(cls, having: NDArray[np.bool_], window: int) -> "CountNull":
        """Fitted on the reference's rows [n] in time order, of which those have the property."""
        counts = [having[rows].sum() for rows in window_slices(len(having), window)]
        return cls.fit(np.asarray(counts), window)

    def p_value(self, count: int, size: int) -> float:
        """P(at least ``count`` of ``size`` rows), summed over the upper tail, so that it is exact far out."""
        if count <= 0:
            return 1.0
        concentration = 1 / self.rho - 1
        a, b = self.rate * concentration, (1 - self.rate) * concentration
        k = np.arange(count, size + 1)
        choose = -special.betaln(size - k + 1, k + 1) - np.log(size + 1)
        tail = choose + special.betaln(k + a, size - k + b) - special.betaln(a, b)
        return float(min(1.0, np.exp(tail).sum()))

    def to_meta(self) -> Meta:
        return {"rate": self.rate, "rho": self.rho}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "CountNull":
        return cls(float(meta["rate"]), float(meta["rho"]))
