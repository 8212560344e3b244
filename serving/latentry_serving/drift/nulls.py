"""How likely a score is on undrifted traffic: fitted once, tabulated, valid far out.

Each quadratic statistic is, on independent vectors, a mean of chi²(1) variables with known weights (the spectrum of
its features' covariance): a parametric tail that a few dozen reference windows could never show. What they do show is
how much more *windows* vary than independent vectors would: runs of similar requests, drifts within the day. From the
scores of M left-out contiguous windows come

- ``scale``: their mean score, at least 1 (first moment);
- the spectrum's concentration: ``nu = trace² / trace of the square``, the latter from inner products of pairs of
  windows' deviations (second moment); the spectrum is sharpened to it by a power ``w^g``, as runs inflate the large
  directions most;
- ``freedom``: the scale is uncertain, so the tail is averaged over chi²(freedom)/freedom as Student's t and Fisher's F
  are. Two things make it so. With runs of similar requests a window's variance depends on how many runs it happens to
  hold, long ones weighing by their square: ``f = v sqrt(1 - 1/scale) T / w`` for correlation time T, where 1 - 1/scale
  is the part that runs cause (in few of the directions, hence the root) and v is ``RUN_VARIANCE``. The scale is the
  mean with it, so what averaging adds to the mean, 1 / (1 - 2 f), is taken off. And the mean is estimated from M
  windows. Inverses add up;
- ``tail_exponent``: where the left-out windows' p-values still average too small (mean of -ln p significantly above 1),
  all are raised to 1/that mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from scipy import special

from latentry_serving.drift import mixture
from latentry_serving.drift.types import Floats, Integers, Singles, Statistic

FEW_WINDOWS = 10
_LARGEST_SCORE_SD = 60.0
_TABLE = 48
RUN_VARIANCE = {Statistic.T2: 0.55, Statistic.SPE: 1.4}
"""Inverse degrees of freedom of a window's own variance per T / w, if runs cause all of it; else ``EQUAL_RUNS``.

Runs of geometric length l and equal weight have relative variance T / w (renewal theory: ``8 l⁴`` for each of ``w / l``
runs, over the square of ``2 l w``), which is that of 1 / chi²(2 w / T): 0.5. In T² rare groups weigh more, by the
inverse of their share; SPE is what the subspace has not seen: rare groups too. The numbers are those that make
p <= .01, .001 and .0001 occur as often as they say on clusters with runs of 2, 10 and 50.
"""
EQUAL_RUNS = 0.28
WORST_RUNS = 0.5  # of the worst dimension: those that runs move most, all of their variance
_DISTINCT = 32
_GRID = 160
SMALLEST_P = 1e-300


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Weights [m] of a mean of chi²(1), each with a multiplicity [m]; ``sum(weights * multiplicity) = 1``."""

    weights: Floats
    multiplicity: Floats

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom: 1 / sum of squared weights."""
        return float(1 / np.sum(self.multiplicity * self.weights**2))

    def sharpened(self, freedom: float) -> "Spectrum":
        """The same directions raised to a power, such that ``freedom`` is as given (no change if it is larger)."""
        if freedom >= self.freedom or (self.weights.size == 1 and self.multiplicity[0] <= 1):
            return self
        low, high = 1.0, 1.0
        while _powered(self, high).freedom > freedom and high < 64:
            high *= 1.5
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if _powered(self, middle).freedom > freedom else (low, middle)
        powered = _powered(self, high)
        if powered.freedom > 1.02 * freedom:  # equal weights have no power to sharpen: fewer of them
            kept = np.full(1, max(1.0, freedom))
            return Spectrum(1 / kept, kept)
        return powered


def _powered(spectrum: Spectrum, power: float) -> Spectrum:
    weights = (spectrum.weights / spectrum.weights.max()) ** power
    return Spectrum(weights / np.sum(weights * spectrum.multiplicity), spectrum.multiplicity)


SINGLE = Spectrum(np.ones(1), np.ones(1))


def spectrum_of(features: Floats | Singles) -> tuple[Spectrum, float]:
    """Spectrum of the covariance of feature rows [n, p], and its trace.

    The leading directions are found on one half of the rows and their variances measured on the other, as are the
    traces of the covariance and of its square: plain sample eigenvalues of n < p rows would be spread far too wide.
    What the leading directions leave becomes equal weights with the remaining two moments.
    """
    centred = features - features.mean(axis=0)
    first, second = centred[::2], centred[1::2]
    trace = float(np.einsum("ij,ij->", centred, centred) / (len(centred) - 1))
    if trace <= 0:
        return SINGLE, 0.0
    square = float(np.mean((first @ second.T) ** 2))
    leading = _held_out_variances(first, second)
    leading = leading[np.cumsum(leading) < 0.999 * trace][:_DISTINCT]
    rest, rest_square = trace - leading.sum(), max(square - float(leading @ leading), 0.0)
    smallest_square = rest**2 / max(1, features.shape[1] - leading.size)
    count = max(1.0, rest**2 / max(rest_square, smallest_square))
    weights = np.append(leading, rest / count) / trace
    return Spectrum(weights, np.append(np.ones(leading.size), count)), trace


def _held_out_variances(first: Floats | Singles, second: Floats | Singles) -> Floats:
    if first.shape[1] <= len(first):
        _, vectors = np.linalg.eigh(first.T @ first)
        directions = vectors[:, ::-1][:, :_DISTINCT]
    else:
        values, vectors = np.linalg.eigh(first @ first.T)
        kept = np.flatnonzero(values[::-1][:_DISTINCT] > values[-1] * 1e-9)
        directions = (first.T @ vectors[:, ::-1][:, kept]) / np.sqrt(values[::-1][kept])
    variances = np.mean((second @ directions) ** 2, axis=0)
    return np.asarray(np.sort(variances[variances > 0])[::-1], np.float64)


@dataclass(frozen=True, slots=True)
class Tail:
    """ln P(score > x), tabulated over ln x and interpolated; linear in x beyond the last point.

    Attributes:
        log_score, log_p: [G] ascending and descending.
        scale, freedom, tail_exponent: what was fitted (see the module); freedom is infinite where the scale is known.
        shared: share of a window's variance that comes from the finite reference, for ``rules.cusum_design``.
        windows: left-out windows behind it.
    """

    log_score: Floats
    log_p: Floats
    scale: float
    freedom: float
    tail_exponent: float
    shared: float
    windows: int

    def p(self, score: float) -> float:
        """P(at least ``score`` on undrifted traffic), in [SMALLEST_P, 1]."""
        if not score > 0:
            return 1.0
        at = float(np.log(score))
        if at <= self.log_score[-1]:
            return float(np.exp(np.interp(at, self.log_score, self.log_p)))
        step = (self.log_p[-1] - self.log_p[-2]) / (np.exp(self.log_score[-1]) - np.exp(self.log_score[-2]))
        beyond = self.log_p[-1] + (score - np.exp(self.log_score[-1])) * (step if np.isinf(self.freedom) else 0.0)
        return float(np.exp(max(beyond, np.log(SMALLEST_P))))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the left-out windows say: scores [M]; deviations [M, p] whose squared norms they are.

    ``group``: [M]; deviations are along the same directions within a group only. Empty: all are.
    """

    scores: Floats
    deviations: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    group: Integers = field(default_factory=lambda: np.zeros(0, np.int64))

    def concentration(self) -> float:
        """nu = trace² / trace of the square of the windows' covariance, from pairs; at least 1.

        Left-out deviations share a reference, which moves all inner products by a constant: their variance is used.
        """
        group = self.group if self.group.size else np.zeros(len(self.scores), np.int64)
        spreads, counts = [], []
        for members in (self.deviations[group == g] for g in np.unique(group)):
            pairs = (members @ members.T)[np.triu_indices(len(members), 1)]
            if pairs.size > 1:
                spreads.append(float(np.var(pairs)))
                counts.append(pairs.size)
        square = float(np.average(spreads, weights=counts)) if counts else 0.0
        return max(1.0, float(np.mean(self.scores)) ** 2 / square) if square > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Runs:
    """Whether neighbours are correlated; the correlation time over the window's size, T / w; ``order``'s inflation.

    ``told_by_lags``: nothing contradicts that this inflation is all that windows vary beyond independent vectors.
    """

    dependent: bool
    share: float
    inflation: float = 1.0
    told_by_lags: bool = True

    def inverse_freedom(self, scale: float = np.inf, run_variance: float = EQUAL_RUNS) -> float:
        """Of a window's own variance, where runs have raised it to ``scale``; at most 0.4, as its mean must exist."""
        return min(0.4, run_variance * self.share * float(np.sqrt(1 - 1 / max(1.0, scale))))

    def shrunk(self, mean: float, count: int) -> tuple[float, float]:
        """Scale of a statistic of one dimension from ``count`` scores; degrees of freedom of what else is known of it.

        All vectors together say how correlated the features are; a statistic is so between not at all and as they are,
        unless its scores say otherwise. That counts where it is worth more than the few scores: where runs are short.
        """
        middle, reach = (1 + self.inflation) / 2, (self.inflation - 1) / 2
        known = 2 * (middle / reach) ** 2 if self.told_by_lags and self.dependent and reach > 0 else 0.0
        if known < count or self._contradicted(mean, count):
            return mean, 0.0
        return (count * mean + known * middle) / (count + known), known

    def held_against(self, scores: Sequence[Floats]) -> "Runs":
        """The same, and whether the scores of several statistics of one dimension each leave the lags their word.

        Where one of them varies more than the lags explain, something slower than any lag moves the windows (writers,
        tenants, seasons), and it moves the other statistics too, even those that a few windows do not show moved.
        """
        contradicted = any(self._contradicted(float(np.mean(some)), len(some)) for some in scores)
        return replace(self, told_by_lags=not contradicted)

    def _contradicted(self, mean: float, count: int) -> bool:
        return bool(mean > self.inflation * (1 + 2 * np.sqrt(2 / count)))


def quadratic(
    spectrum: Spectrum, evidence: Evidence, runs: Runs, shared: float, run_variance: float = EQUAL_RUNS
) -> Tail:
    """The tail of a quadratic statistic. ``shared``: see ``Tail``, so far as the reference's mean causes it."""
    count = len(evidence.scores)
    mean = float(np.mean(evidence.scores))
    error = np.sqrt(2 / (spectrum.freedom * count))
    if runs.dependent or mean > 1 + 2.5 * error:
        nu = 1.0 if spectrum is SINGLE else min(spectrum.freedom, evidence.concentration())
        sharp = spectrum.sharpened(nu)
        scale, known = runs.shrunk(mean, count) if spectrum is SINGLE else (mean, 0.0)
        own = runs.inverse_freedom(scale, run_variance)
        freedom = 1 / (own + 1 / (known + count / (1 / sharp.freedom + own)))
        tail = _tabulate(sharp, max(1.0, scale), freedom, shared + 1 / count, count, mean=1 / (1 - 2 * own))
    else:
        freedom = spectrum.freedom * count if count < FEW_WINDOWS else np.inf
        tail = _tabulate(spectrum, max(1.0, mean - error), freedom, shared, count)
    return raised(tail, np.array([tail.p(s) for s in evidence.scores]))


def exponent_of(p: Floats) -> float:
    """Mean of -ln p of left-out windows where significantly above 1, which it is on average if p is uniform; else 1."""
    mean = float(np.mean(-np.log(p)))
    return mean if mean > 1 + 2 / np.sqrt(p.size) else 1.0


def raised(tail: Tail, p: Floats) -> Tail:
    """``tail`` with all p-values raised to 1 / exponent_of(p)."""
    exponent = exponent_of(p)
    return Tail(tail.log_score, tail.log_p / exponent, tail.scale, tail.freedom, exponent, tail.shared, tail.windows)


def _tabulate(spectrum: Spectrum, scale: float, freedom: float, shared: float, windows: int, mean: float = 1.0) -> Tail:
    """Table from well inside the bulk to 60 standard deviations out, or as far as double precision carries.

    ``mean``: what the averaging over ``freedom`` is to leave out of the mean, because ``scale`` has it already.
    """
    sd = np.sqrt(2 / spectrum.freedom)
    x = np.geomspace(max(0.02, 1 - 3 * sd), 1 + _LARGEST_SCORE_SD * sd, _TABLE)
    p = _averaged(spectrum, x * mean, freedom)
    p = np.minimum.accumulate(np.clip(p, 0, 1))
    kept = p > SMALLEST_P
    log_score = np.concatenate([[-40.0], np.log(x[kept] * scale)])
    return Tail(log_score, np.concatenate([[0.0], np.log(p[kept])]), scale, freedom, 1.0, shared, windows)


def _averaged(spectrum: Spectrum, x: Floats, freedom: float) -> Floats:
    """P(mixture > x g), g ~ chi²(freedom) / freedom; the plain tail for infinite freedom."""
    if np.isinf(freedom):
        return _sf(spectrum, x)
    from scipy.interpolate import PchipInterpolator  # here: only fitting needs it, and it takes 26 MB

    g, density = _levels(freedom)
    reached = np.outer(x, g)
    grid = np.geomspace(max(reached.min(), 1e-3), reached.max(), _GRID)
    log_tail = PchipInterpolator(np.log(grid), np.log(np.maximum(_sf(spectrum, grid), SMALLEST_P)))
    tails = np.exp(log_tail(np.log(np.maximum(reached, grid[0]))))
    return np.asarray(tails @ density)


@lru_cache(maxsize=64)
def _levels(freedom: float) -> tuple[Floats, Floats]:
    """Values of chi²(freedom) / freedom and their weights, for averages over it.

    Far tails come from small values, so the quantile levels are integrated on a logistic scale from 1e-12 to 1 - 1e-12.
    """
    levels, weights = np.polynomial.legendre.leggauss(120)
    logit = levels * 27.6
    share = special.expit(logit)
    density = weights * share * (1 - share)
    g = 2 * special.gammaincinv(freedom / 2, share) / freedom
    return np.asarray(g, np.float64), np.asarray(density / density.sum(), np.float64)


def _sf(spectrum: Spectrum, x: Floats) -> Floats:
    if spectrum.weights.size == 1:
        return np.asarray(special.chdtrc(spectrum.multiplicity[0], x * spectrum.multiplicity[0]))
    return np.asarray(mixture.survival(spectrum.weights, x, spectrum.multiplicity))


def worst(ratios: Floats, degrees: Integers, scale: Floats, share: float, freedom: float) -> float:
    """ln p of the worst of d dimensions (Šidák), from G² [d], its degrees and fitted scale per dimension [d].

    share: degrees of one dimension's windows as a share of ``degrees`` (1 if independent). freedom: that of the scale,
    infinite where it is known. A window that holds few runs does so in all dimensions: they have one chi²(freedom) in
    common, and are independent given that.
    """
    kinds = np.unique(degrees[degrees > 0])
    largest = np.array([np.max((ratios / scale)[degrees == kind]) for kind in kinds])  # the smallest tail of its kind
    count = int((degrees > 0).sum())
    if np.isinf(freedom):
        smallest = float(np.min(_log(np.asarray(special.chdtrc(kinds, largest), np.float64))))
        if smallest >= 0:
            return 0.0
        if smallest < -30:  # 1 - (1 - p)^d is d p then, to sixteen digits
            return smallest + float(np.log(count))
        return float(np.log(-np.expm1(count * np.log1p(-np.exp(smallest)))))
    g, density = _levels(freedom)
    degree = np.maximum(1.0, kinds * share)[:, None]
    single = special.chdtrc(degree, degree * (largest / kinds)[:, None] * g).min(axis=0)
    with np.errstate(divide="ignore"):
        return min(0.0, float(_log(np.asarray(-np.expm1(count * np.log1p(-single)) @ density))))


def _log(p: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p))
