"""Tail probabilities of weighted sums of chi², the null of MMD² and of T² with estimated correlation. Pure.

Q = sum_i weight_i chi²(dof_i). P(Q > x) is the inverse Laplace transform of its moment generating function,

    P(Q > x) = 1 / (2 pi i) * integral of exp(K(t) - t x) / t dt,   K(t) = -1/2 sum dof_i ln(1 - 2 weight_i t),

along any path from below to above that crosses the real axis between 0 and the nearest branch point 1 / (2 max weight).
Here it crosses at the saddlepoint and bends to the right as a parabola, so that the integrand falls off without
oscillating and the trapezoidal rule converges exponentially. Unlike Imhof's and Davies' integrals along the imaginary
axis, whose error is absolute, the error here is *relative*: a tail of 1e-200 has as many digits as the median.

Sources: S. O. Rice, "Distribution of quadratic forms in normal random variables", SIAM J. Sci. Stat. Comput. 1 (1980)
438 (inversion through the saddlepoint); J. P. Imhof, Biometrika 48 (1961) 419 (the integral it is tested against).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_MOST_WEIGHTS = 128
_STRAIGHTENINGS = 30
_NEAREST, _FARTHEST = 1e-290, 1e14  # of x in units of the largest weight: beyond, 1 and exp(-x / 2 weight)

# The path's nodes in widths of the saddle, close together there and far apart far out: y = sinh(u), to 74 widths.
_GRID = np.linspace(0.0, 5.0, 41)
_HEIGHT, _SLOPE = np.sinh(_GRID), np.cosh(_GRID)
_LOG_STEP = float(np.log(_GRID[1] / np.pi))


class WeightedChiSquare:
    """The distribution of sum_i weight_i chi²(dof_i), made once and asked often.

    More than 128 weights are condensed: the 64 largest, which rule the tail, are kept, the others joined to 64 groups
    of neighbours, each a chi² of the group's mean and variance (Satterthwaite).

    Args:
        weights: [k], finite and >= 0, one > 0 at least; zeros are left out.
        dof: degrees of freedom, > 0, scalar or [k].

    Raises:
        ValueError: a weight or a number of degrees of freedom is out of range.
    """

    __slots__ = ("dof", "weights")

    def __init__(self, weights: ArrayLike, dof: ArrayLike = 1.0) -> None:
        all_weights = np.asarray(weights, dtype=np.float64).ravel()
        all_dof = np.broadcast_to(np.asarray(dof, dtype=np.float64), all_weights.shape)
        if not (np.all(np.isfinite(all_weights)) and np.all(all_weights >= 0) and np.any(all_weights > 0)):
            raise ValueError("weights must be finite and not negative, one of them positive")
        if not np.all(np.isfinite(all_dof) & (all_dof > 0)):
            raise ValueError("degrees of freedom must be finite and positive")
        kept = all_weights > 0
        self.weights, self.dof = _condensed(all_weights[kept], all_dof[kept])

    @property
    def mean(self) -> float:
        return float(self.weights @ self.dof)

    @property
    def variance(self) -> float:
        return float(2 * self.weights**2 @ self.dof)

    def log_survival(self, x: ArrayLike) -> Array:
        """ln P(Q > x), of the shape of x; 0 for x <= 0, minus infinity for x = inf, NaN for NaN."""
        values = np.asarray(x, dtype=np.float64)
        result = np.where(np.isnan(values), np.nan, np.where(values == np.inf, -np.inf, 0.0))
        inside = np.isfinite(values) & (values > 0)
        if np.any(inside):
            result[inside] = [self._log_survival(float(one)) for one in values[inside]]
        return result

    def survival(self, x: ArrayLike) -> Array:
        """P(Q > x), of the shape of x, down to the smallest float64.

        The relative error is below 1e-9 with up to 128 weights; with more, below 1e-3 where P(Q > x) > 1e-12.
        """
        return np.asarray(np.exp(self.log_survival(x)), dtype=np.float64)

    def quantile(self, tail: float) -> float:
        """The x with P(Q > x) = tail, to ten digits.

        Raises:
            ValueError: tail is not in (0, 1).
        """
        if not 0 < tail < 1:
            raise ValueError(f"a tail probability lies between 0 and 1, not {tail}")
        from scipy.optimize import brentq  # here, and below: only fitting needs it, and it takes 23 MB

        target = float(np.log(tail))
        high = self.mean
        while self._log_survival(high) > target:
            high *= 2
        low = high / 2
        while self._log_survival(low) < target:
            low /= 2
        return float(brentq(lambda x: self._log_survival(x) - target, low, high, xtol=1e-300, rtol=1e-11))

    def _log_survival(self, x: float) -> float:
        """One value; well below the mean from P(Q <= x), whose path crosses left of the pole at 0."""
        unit = 2 * float(self.weights.max())  # t in units of the branch point, which is at 1
        ratios, level = 2 * self.weights / unit, x / unit
        if level < _NEAREST:
            return 0.0
        if level > _FARTHEST:
            return -level  # all that is left of it in sixteen digits
        above = x >= self.mean - min(0.8 * self.variance**0.5, 0.5 * self.mean)
        saddle = _saddle(ratios, self.dof, level, above)
        terms = ratios / (1 - ratios * saddle)
        second = 0.5 * float(self.dof @ terms**2) + saddle**-2
        third = float(self.dof @ terms**3) - 2 * saddle**-3
        width = second**-0.5
        # Steepest descent bends by third / (6 second). Never to the left, where exp(-tx) grows.
        bend = max(third / (6 * second), 0.02 / (level * width**2))
        height, slope = width * _HEIGHT, width * _SLOPE
        for _ in range(_STRAIGHTENINGS):
            path = saddle + bend * height**2 + 1j * height
            logs = np.log(1 - path[:, None] * ratios) @ self.dof
            phase = -0.5 * logs - path * level - np.log(path if above else -path)
            peak = float(phase[0].real)
            # Many small weights: bent too far right, |1 - t r| falls below 1 and their joint factor grows again.
            if float(np.diff(phase.real).max()) <= 1e-9:
                break
            bend /= 4
        values = (np.exp(phase - peak) * (1 - 2j * bend * height)).real * slope
        tail = peak + float(np.log(values.sum() - values[0] / 2)) + _LOG_STEP
        return min(0.0, tail) if above else float(np.log1p(-min(np.exp(tail), 1 - 1e-16)))


def _saddle(ratios: Array, dof: Array, level: float, above: bool) -> float:
    """Where exp(K(t) - t x) / |t| is smallest: between 0 and the branch point at 1, or below 0."""

    def place(at: float) -> float:
        return float(1 / (1 + np.exp(-at)) if above else -np.exp(at))

    def slope(at: float) -> float:
        t = place(at)
        return float(0.5 * dof @ (ratios / (1 - ratios * t)) - level - 1 / t)

    from scipy.optimize import brentq

    return place(brentq(slope, -300, 36 if above else 690, xtol=1e-6))


def survival(weights: ArrayLike, x: ArrayLike, dof: ArrayLike = 1.0) -> Array:
    """P(sum_i weight_i chi²(dof_i) > x), of the shape of x. See ``WeightedChiSquare``."""
    return WeightedChiSquare(weights, dof).survival(x)


def quantile(weights: ArrayLike, tail: float, dof: ArrayLike = 1.0) -> float:
    """The x that sum_i weight_i chi²(dof_i) exceeds with probability ``tail``. See ``WeightedChiSquare``."""
    return WeightedChiSquare(weights, dof).quantile(tail)


def _condensed(weights: Array, dof: Array) -> tuple[Array, Array]:
    """At most 128 weights with nearly the same distribution, the largest first."""
    order = np.argsort(weights)[::-1]
    weights, dof = weights[order], dof[order]
    if len(weights) <= _MOST_WEIGHTS:
        return weights, dof
    kept = _MOST_WEIGHTS // 2
    rest_weights, rest_dof = weights[kept:], dof[kept:]
    # Groups of equal width: what is lost is the spread within a group in proportion to its third cumulant.
    group = np.minimum((1 - rest_weights / rest_weights[0]) * kept, kept - 1).astype(np.int64)
    first = np.bincount(group, rest_weights * rest_dof, kept)
    second = np.bincount(group, rest_weights**2 * rest_dof, kept)
    filled = second > 0
    joined, joined_dof = second[filled] / first[filled], first[filled] ** 2 / second[filled]
    return np.concatenate([weights[:kept], joined]), np.concatenate([dof[:kept], joined_dof])
