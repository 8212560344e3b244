"""Health of an encoder: norms, non-finite rows, duplicates, anisotropy, participation ratio, dead dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.health.nulls import Arrays, CountNull, Floats, Meta, Side, WindowNull, over_windows
from latentry_serving.health.report import Finding, HealthReport, RowCount, change, count_finding, finite_rows

NORM_QUANTILES = (0.01, 0.5, 0.99)
GRAM_ROWS = 128
"""Rows of a window, evenly spread, from which the participation ratio is computed: bounds memory and time per
window."""
HASH_DIRECTIONS = 4
ROUNDING = 1e-3
"""Cell of the rounded projections, in units of their standard deviation: four of them collide by chance for about 1 of
1e12 pairs, and float32 noise (1e-6) crosses a boundary for about 1 of 100 true duplicates."""
DEAD_RANGE = 1e-6
"""A dimension whose range is below this part of the median range over dimensions is dead."""
RELATIVE_FLOOR = 1e-4
"""Changes of norms below this part are not looked at: unit norms differ by 1e-7 between two machines."""
_LOGS = ("norm_p01", "norm_p50", "norm_p99", "anisotropy", "participation_ratio")
_SIDES = (Side.BOTH, Side.BOTH, Side.BOTH, Side.BOTH, Side.BOTH)
_TINY = 1e-30
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)


@dataclass(frozen=True, slots=True)
class _Scale:
    """What a window needs to know of the reference: directions [d, 4] over their cells, and the median range."""

    directions: NDArray[np.float32]
    median_range: float


class EncoderWindow(RowCount):
    """Accumulates vectors [n, d] of one window. Memory: 2 MB at d = 4096, bounded by ``capacity`` rows."""

    def __init__(self, dimensions: int, capacity: int, scale: _Scale) -> None:
        super().__init__()
        self._scale = scale
        self._stride = -(-capacity // GRAM_ROWS)
        self._gram_rows: list[NDArray[np.float32]] = []
        self._norms: list[Floats] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._sum = np.zeros(dimensions)
        self._low = np.full(dimensions, np.inf, np.float32)
        self._high = np.full(dimensions, -np.inf, np.float32)

    def update(self, *rows: NDArray[Any]) -> None:
        """Takes vectors float [n, d]; a row with a NaN or an infinity is counted and left out."""
        (given,) = rows
        vectors = _float32(given)
        self.seen += len(vectors)
        squares = _squared_norms(vectors)
        if not np.isfinite(squares).all():  # only now is it worth looking at every value
            vectors = vectors[finite_rows(vectors)]
            squares = _squared_norms(vectors.astype(np.float64))
        if not len(vectors):
            return
        self._norms.append(np.sqrt(squares, dtype=np.float64))
        self._hashes.append(_hashes(vectors, self._scale.directions))
        self._sum += np.ones(len(vectors), np.float32) @ vectors
        np.minimum(self._low, vectors.min(axis=0), out=self._low)
        np.maximum(self._high, vectors.max(axis=0), out=self._high)
        first = -self.samples % self._stride
        self._gram_rows.append(vectors[first :: self._stride].copy())
        self.samples += len(vectors)

    def measures(self) -> Floats:
        """[5] logarithms of the norm quantiles .01, .5, .99, the anisotropy and the participation ratio."""
        norms = np.concatenate(self._norms)
        mean = self._sum / self.samples
        anisotropy = float(mean @ mean) / max(float(np.mean(norms**2)), _TINY)
        ratio = participation_ratio(np.concatenate(self._gram_rows), overwrite=True)
        return np.log(np.maximum([*np.quantile(norms, NORM_QUANTILES), anisotropy, ratio], _TINY))

    def duplicates(self) -> int:
        """Rows whose rounded vector was already in the window."""
        if not self.samples:
            return 0
        return self.samples - len(np.unique(np.concatenate(self._hashes)))

    def dead(self) -> NDArray[np.bool_]:
        """[d] dimensions that did not move in the window."""
        dead: NDArray[np.bool_] = (self._high - self._low) <= DEAD_RANGE * self._scale.median_range
        return dead


def participation_ratio(vectors: NDArray[Any], *, overwrite: bool = False) -> float:
    """(sum lambda)² / sum lambda² over the eigenvalues of the covariance of vectors [n, d]; between 1 and d.

    The sum of squares is estimated without the bias of small n from the off-diagonal of the Gram matrix of centred
    rows: E (x_i . x_j)² = sum lambda² for independent rows of mean zero, so that n may be far below d.

    Args:
        overwrite: the vectors are centred in their place, which spares a copy of them.
    """
    n = len(vectors)
    if n < 4:
        return 1.0
    centred = np.subtract(vectors, vectors.mean(axis=0), out=vectors if overwrite else None)
    gram = (centred @ centred.T).astype(np.float64)
    diagonal = np.diagonal(gram)
    trace = float(diagonal.sum()) / (n - 1)
    # Centring makes rows' products -trace/n on average: its square is part of the off-diagonal sum and taken off.
    squares = (float((gram**2).sum()) - float((diagonal**2).sum())) / (n * (n - 1)) - trace**2 / n**2
    return float(np.clip(trace**2 / max(squares, _TINY), 1.0, vectors.shape[1]))


@dataclass(frozen=True, slots=True)
class EncoderBaseline:
    """What the reference's vectors show in windows of ``window`` rows.

    Attributes:
        directions: [d, 4] random directions divided by their cells, for hashes.
        median_range: median over dimensions of the range of values.
        dead: [d] dimensions that are dead in the reference: counted, not judged.
        log_stay: [d] log of the probability that a dimension stays one more row at its commonest value.
        null: of the five ``EncoderWindow.measures``.
        non_finite, duplicate: nulls of the counts of rows.
    """

    window: int
    directions: NDArray[np.float32]
    median_range: float
    dead: NDArray[np.bool_]
    log_stay: Floats
    null: WindowNull
    non_finite: CountNull
    duplicate: CountNull

    @classmethod
    def fit(cls, vectors: NDArray[Any], *, window: int, seed: int = 0) -> "EncoderBaseline":
        """
        Args:
            vectors: reference [n, d] in their time order, not the data the model was trained on.
            window: rows judged together.
            seed: of the hash directions.

        Raises:
            InvalidInput: fewer than four windows.
        """
        x = _float32(vectors)
        keep = finite_rows(x)
        finite = x[keep]
        scale = _Scale(_directions(finite, seed), float(np.median(np.ptp(finite, axis=0))))
        windows = over_windows(len(finite), window, lambda rows: _window_of(finite[rows], window, scale))
        values = {size: [each.measures() for each in cut] for size, cut in windows.items()}
        repeated = np.asarray([each.duplicates() for each in windows[window]])
        dead = np.ptp(finite, axis=0) <= DEAD_RANGE * scale.median_range
        return cls(
            window, scale.directions, scale.median_range, dead, _log_stay(finite, scale.median_range),
            WindowNull.fit(values, floor=RELATIVE_FLOOR), CountNull.of_rows(~keep, window),
            CountNull.fit(repeated, window),
        )  # fmt: skip

    def new_window(self) -> EncoderWindow:
        return EncoderWindow(len(self.dead), self.window, _Scale(self.directions, self.median_range))

    def judge(self, window: EncoderWindow) -> HealthReport:
        """The window's measures against the reference's."""
        size, seen = window.samples, window.seen
        sufficient = self.null.covers(size)
        findings = [self._count("non_finite", window.non_finite, seen, self.non_finite, "have a NaN or an infinity")]
        findings.append(self._count("duplicates", window.duplicates(), size, self.duplicate, "repeat an earlier one"))
        if sufficient:
            values = window.measures()
            p_values = self.null.p_values(size, values, _SIDES)
            expected = self.null.at(size)[0]
            for name, value, usual, p in zip(_LOGS, np.exp(values), np.exp(expected), p_values, strict=True):
                findings.append(_measure(name, float(value), float(usual), float(p)))
            findings.append(self._dead(window))
        return HealthReport("Encoder", size, window.non_finite, sufficient, tuple(findings))

    def _count(self, name: str, count: int, size: int, null: CountNull, what: str) -> Finding:
        share = count / max(1, size)
        reason = f"{count} of {size} vectors ({share:.2%}) {what}; the reference has {null.rate:.2%}"
        return count_finding(name, count, size, null, reason)

    def _dead(self, window: EncoderWindow) -> Finding:
        """Dimensions that moved in the reference and do not any more.

        A dimension stays at its commonest value through a window with probability stay^(w - 1): first-order Markov, so
        that sparse and sticky features are not called dead. Bonferroni over the dimensions that were alive.
        """
        new = np.flatnonzero(window.dead() & ~self.dead)
        alive = int((~self.dead).sum())
        p = min(1.0, alive * float(np.exp(self.log_stay[new].min() * (window.samples - 1)))) if len(new) else 1.0
        certain = new[np.argsort(self.log_stay[new], kind="stable")]
        named = ", ".join(str(index) for index in certain[:8]) + (", ..." if len(new) > 8 else "")
        reason = f"{len(new)} of {alive} dimensions that moved in the reference are constant"
        reason += f": {named}" if len(new) else f"; {int(self.dead.sum())} were already dead there"
        details = {"new": certain[:32].tolist(), "alreadyDead": int(self.dead.sum())}
        return Finding("dead_dimensions", float(len(new)), 0.0, "dimensions", reason, p, details)

    def to_arrays(self) -> tuple[Arrays, Meta]:
        """Arrays and a JSON friendly dict; ``from_arrays`` takes both back."""
        arrays: Arrays = {"directions": self.directions, "dead": self.dead, "log_stay": self.log_stay}
        arrays |= self.null.to_arrays()
        meta = {
            "window": self.window, "medianRange": self.median_range,
            "nonFinite": self.non_finite.to_meta(), "duplicate": self.duplicate.to_meta(),
        }  # fmt: skip
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "EncoderBaseline":
        return cls(
            int(meta["window"]), arrays["directions"], float(meta["medianRange"]), arrays["dead"], arrays["log_stay"],
            WindowNull.from_arrays(arrays), CountNull.from_meta(meta["nonFinite"]),
            CountNull.from_meta(meta["duplicate"]),
        )  # fmt: skip


def _directions(finite: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal((finite.shape[1], HASH_DIRECTIONS))
    cells = ROUNDING * np.maximum(np.std(finite @ drawn, axis=0), _TINY)
    return np.asarray(drawn / cells, np.float32)


def _squared_norms(vectors: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(
            (vectors[:, None, :] @ vectors[:, :, None])[:, 0, 0]
        )  # BLAS; einsum takes three times as long


def _float32(vectors: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is counted as such
        return np.ascontiguousarray(vectors, np.float32)


def _hashes(vectors: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.uint64]:
    """One key [n] of the four cells of each row."""
    with np.errstate(over="ignore", invalid="ignore"):
        # One by one: a product with four columns first copies all rows into the order that wide ones want.
        projected = np.stack([vectors @ direction for direction in np.ascontiguousarray(directions.T)], axis=1)
        cells = np.nan_to_num(projected, nan=0.0)
    whole = np.asarray(np.rint(np.clip(cells, -1e18, 1e18)), np.int64)
    return np.asarray(whole.astype(np.uint64) @ _MIX)


def _window_of(rows: NDArray[np.float32], capacity: int, scale: _Scale) -> EncoderWindow:
    window = EncoderWindow(rows.shape[1], capacity, scale)
    window.update(rows)
    return window


def _log_stay(finite: NDArray[np.float32], median_range: float) -> Floats:
    """[d] log P(next row at the commonest value | this row is); the median is the commonest value when one holds most
    rows."""
    middle = np.partition(finite, len(finite) // 2, axis=0)[len(finite) // 2]
    at = np.abs(finite - middle) <= DEAD_RANGE * median_range
    stays, count = (at[1:] & at[:-1]).sum(axis=0), at[:-1].sum(axis=0)
    # One more stay than seen: a chain never seen to leave is not certain to stay, one never there is a coin at worst.
    return np.asarray(np.log((stays + 1) / (np.maximum(count, 1) + 1)), np.float64)


_SENTENCES = {
    "norm_p01": ("the shortest vectors' norm (1st percentile)", "model"),
    "norm_p50": ("the median norm", "model"),
    "norm_p99": ("the longest vectors' norm (99th percentile)", "model"),
    "anisotropy": ("anisotropy (squared norm of the mean over mean squared norm)", "ratio"),
    "participation_ratio": ("participation ratio (dimensions that carry the variance)", "dimensions"),
}


def _measure(name: str, value: float, expected: float, p: float) -> Finding:
    words, unit = _SENTENCES[name]
    return Finding(name, value, expected, unit, f"{words} is {change(value, expected)}", p)
