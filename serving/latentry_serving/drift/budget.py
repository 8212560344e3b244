"""The false-alarm budget of a whole model, shared out: one false alarm per expectedRunTime, whatever is watched. Pure.

A model is watched by R replicas, each with m statistics (all tensors together) and two rules. Undrifted traffic is to
raise one alarm per expectedRunTime over all of them. Replicas see different requests and are independent: each gets 1/R
of the rate. The two rules get a half each; at the rates asked for they hardly ever alarm on the same windows. Among
statistics the rate is shared *in time*: statistic i may alarm L_i times a second by each rule, so that one whose
windows fill in hours (score probes) and one whose windows fill in seconds cost the same. Then alpha_i = L_i tau_i and
ARL0_i = 1 / (L_i tau_i) windows, tau_i being how long a window takes at the sampled rate now seen.

Statistics of one window are correlated, and an alarm of several at once is one alarm. Splitting evenly (Bonferroni)
then alarms too rarely: harmless, but bought with delay. So the split is by the *effective number* of statistics,

    m_eff = P(any p_i <= alpha_i) / mean(alpha_i),

computed under a Gaussian copula whose correlations are those of the calibration windows, shrunk towards independence
as far as their number demands, which is towards the even split. Formulas for m_eff from eigenvalues (Nyholt; Li and
Ji; Galwey) are made for alpha = 0.05; at the small alphas here exceedances depend much less on each other, and those
formulas would alarm too often. The union's probability is instead found by importance sampling of rare unions, at any
alpha. The copula may be wrong, the union bound never is: m_eff is taken as m / 2 at least, so that the rate is at most
twice the stated one whatever the dependence. For CUSUMs of ARL0 = 1 / alpha the same number is a little high (by 5 to
30 % in simulations with equal correlations of 0.3 to 0.95 and ARL0 of 500 and 5,000): alarms are that much rarer.

Sources: A. B. Owen, Y. Maximov, M. Chertkov, Electronic J. Statistics 13 (2019) 231 (unions of rare events);
J. Schäfer, K. Strimmer, Stat. Appl. Genet. Mol. Biol. 4 (2005) 32 (shrinkage of correlations); D. R. Nyholt, Am. J.
Hum. Genet. 74 (2004) 765 (eigenvalue formulas, not used).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.drift.run_length import cusum_design
from latentry_serving.drift.types import Thresholds

Array = NDArray[np.float64]

FEWEST_WINDOWS = 10
"""Windows within expectedRunTime, at least: below, alpha would exceed a tenth and an alarm would say nothing."""

_DRAWS = 4096
_SMALLEST_ALPHA = 1e-15  # 1 / LONGEST_RUN: rarer alarms have no threshold


@dataclass(frozen=True, slots=True)
class Budget:
    """What each statistic of one replica may spend.

    Attributes:
        statistics: names, as given [m].
        alpha: Shewhart: probability of an alarm per window [m].
        arl0: CUSUM: mean windows between alarms [m].
        effective_number: how many independent statistics these are worth, m / 2 to m.
    """

    statistics: tuple[str, ...]
    alpha: Array
    arl0: Array
    effective_number: float

    def thresholds(self, shared: ArrayLike = 0.0, smallest_k: float = 0.5) -> list[Thresholds]:
        """The limits of both rules per statistic [m].

        Args:
            shared: share of the variance of z that comes from the finite reference, scalar or [m]: ``cusum_design``.
            smallest_k: the CUSUM's allowance where the reference is large.
        """
        shares = np.broadcast_to(np.asarray(shared, dtype=np.float64), self.alpha.shape)
        designs = [cusum_design(float(a), float(r), smallest_k) for a, r in zip(self.arl0, shares, strict=True)]
        return [Thresholds(float(a), k, h) for a, (k, h) in zip(self.alpha, designs, strict=True)]


def share(
    expected_run_time_s: float,
    window_s: ArrayLike,
    statistics: Sequence[str],
    replicas: int = 1,
    *,
    weights: ArrayLike | None = None,
    correlation: Array | None = None,
) -> Budget:
    """Shares one false alarm per expected run time among all that is watched.

    Args:
        expected_run_time_s: mean seconds between false alarms of the whole model.
        window_s: seconds a window takes at the rate now seen by one replica, scalar or per statistic [m]. Follow it
            slowly (a mean over some windows) and share again when it has changed by a tenth or more.
        statistics: names of all statistics of all tensors [m], such as ``embedding/t2``, for error messages.
        replicas: taps that watch the same model, each with this budget.
        weights: relative shares [m], > 0; left out: equal. A counter of events that hardly ever happen has p = 1 hardly
            ever left, and spends nothing: a small weight leaves the rest to the others.
        correlation: [m, m] of the statistics' normal scores (``correlation_of``), 0 between statistics whose
            windows do not close together; left out: as if independent, the even split.

    Raises:
        InvalidInput: the run time is shorter than FEWEST_WINDOWS windows, or an argument is out of range.
    """
    m = len(statistics)
    durations = np.broadcast_to(np.asarray(window_s, dtype=np.float64), (m,))
    parts = np.ones(m) if weights is None else np.broadcast_to(np.asarray(weights, dtype=np.float64), (m,))
    _check(expected_run_time_s, durations, statistics, replicas, parts)
    rate = 0.5 / (expected_run_time_s * replicas) * parts / parts.sum()  # alarms per second and rule, split evenly
    number = float(m)
    if correlation is not None:
        number = max(m / 2, effective_number(correlation, rate * durations, parts))
        number = max(m / 2, effective_number(correlation, rate * durations * m / number, parts))
    alpha = np.maximum(rate * durations * m / number, _SMALLEST_ALPHA)
    return Budget(tuple(statistics), alpha, 1 / alpha, number)


def effective_number(correlation: Array, alpha: ArrayLike, rates: ArrayLike | None = None, *, seed: int = 0) -> float:
    """How many independent statistics m correlated ones are worth: P(any p_i <= alpha_i) / mean(alpha_i), 1 to m.

    By importance sampling: one statistic is drawn and forced to alarm, the others follow given that one; the mean of
    1 / (number alarming) is the union's share of the sum. Its standard error is below 1 % of the result whatever alpha.

    Args:
        correlation: [m, m], positive semidefinite, ones on the diagonal.
        alpha: probabilities of an alarm, scalar or [m], in (0, 1).
        rates: how often each statistic's window closes times its alpha [m], up to a factor; left out: alpha.
        seed: of the draws; the same seed gives the same number.
    """
    m = len(correlation)
    alphas = np.broadcast_to(np.asarray(alpha, dtype=np.float64), (m,))
    chances = np.broadcast_to(np.asarray(alphas if rates is None else rates, dtype=np.float64), (m,))
    rng = np.random.Generator(np.random.PCG64(seed))
    forced = rng.choice(m, size=_DRAWS, p=chances / chances.sum())
    values, vectors = np.linalg.eigh(correlation)
    z = rng.standard_normal((_DRAWS, m)) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    row = np.arange(_DRAWS)
    high = -ndtri(alphas[forced] * (1 - rng.random(_DRAWS)))  # normal, given that it alarms; never infinite
    z += correlation[forced] * (high - z[row, forced])[:, None]
    alarms = z >= -ndtri(alphas)
    alarms[row, forced] = True
    return float(m * np.mean(1 / alarms.sum(axis=1)))


def correlation_of(p: ArrayLike) -> Array:
    """Correlations [m, m] of the normal scores of p-values seen on undrifted windows, shrunk towards independence.

    Each statistic's p-values are replaced by the normal quantiles of their ranks, so neither their calibration nor
    p = 1 matters; one that never varies is independent of the others. The shrinkage is that of Schäfer and Strimmer:
    with few windows nearly all of a chance correlation goes.

    Args:
        p: [windows, m]; NaN where a window was not judged. Fewer than 4 windows of a pair: independent.
    """
    values = np.asarray(p, dtype=np.float64)
    judged = ~np.isnan(values)
    sizes = np.maximum(judged.sum(axis=0), 1)
    ranks = np.where(judged, np.stack([_ranks(column) for column in values.T], axis=1), 1.0)
    scores = np.where(judged, -ndtri((ranks - 0.5) / sizes), 0.0)
    scores = np.where(judged, scores - scores.sum(axis=0) / sizes, 0.0)
    spread = np.sqrt((scores**2).sum(axis=0) / sizes)
    scores = np.divide(scores, spread, out=np.zeros_like(scores), where=spread > 0)
    pairs = judged.T.astype(np.float64) @ judged
    raw = np.where(pairs >= 4, scores.T @ scores / np.maximum(pairs, 1.0), 0.0)
    np.fill_diagonal(raw, 0.0)
    raw = np.clip(raw, -1.0, 1.0)
    noise = np.where(pairs >= 4, (1 - raw**2) ** 2 / np.maximum(pairs - 1, 1.0), 0.0)
    np.fill_diagonal(noise, 0.0)
    energy = (raw**2).sum()
    kept = max(0.0, 1 - noise.sum() / energy) if energy > 0 else 0.0
    return _positive(kept * raw + np.eye(len(raw)))


def of_tensors(correlations: Sequence[Array]) -> Array:
    """Correlations [m, m] of all statistics: within tensors as given [m_i, m_i], zero between them, for their windows
    need not close together."""
    sizes = [len(block) for block in correlations]
    whole = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for block, size in zip(correlations, sizes, strict=True):
        whole[start : start + size, start : start + size] = block
        start += size
    return whole


def _ranks(column: Array) -> Array:
    """Ranks [n] from 1, the mean of theirs where values are equal; NaN ranks last."""
    _, index, counts = np.unique(column, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[index], dtype=np.float64)


def _positive(matrix: Array) -> Array:
    """The matrix without negative eigenvalues (pairs of different windows can leave some), ones on the diagonal."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] >= 0:
        return matrix
    mended = (vectors * np.maximum(values, 1e-9)) @ vectors.T
    scale = 1 / np.sqrt(np.diagonal(mended))
    return np.asarray(mended * scale * scale[:, None], dtype=np.float64)


def _check(run_time: float, durations: Array, statistics: Sequence[str], replicas: int, weights: Array) -> None:
    problems = []
    if not statistics:
        problems.append(Problem("statistics", "nothing is watched", "watch at least one statistic"))
    if replicas < 1:
        problems.append(Problem("replicas", f"{replicas} replicas", "write 1 or more"))
    if not np.all(np.isfinite(weights) & (weights > 0)):
        problems.append(Problem("weights", f"{weights.tolist()} has a share that is not positive", "write more than 0"))
    if not np.all(np.isfinite(durations) & (durations > 0)):
        problems.append(Problem("window", f"a window of {durations.min():g} s", "windows take more than 0 s"))
    elif statistics and not run_time >= FEWEST_WINDOWS * durations.max():
        slowest, name = float(durations.max()), statistics[int(np.argmax(durations))]
        problems.append(
            Problem(
                "expectedRunTime",
                f"{run_time:g} s is {run_time / slowest:.3g} windows of {name}, which take {slowest:g} s each",
                f"write {FEWEST_WINDOWS * slowest:.0f}s or more, a smaller window, or sample more requests",
            )
        )
    if problems:
        raise InvalidInput("false-alarm budget", problems)
