"""Exact tests on counts: no normal approximation, as the counts are small where it matters. Pure.

Sources: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404; R. A. Fisher, J. Royal Stat. Soc. 98 (1935) 39 (two
counts); S. S. Wilks, Ann. Math. Stat. 13 (1942) 400 (a sample's quantiles cut its distribution into Dirichlet shares);
B. Phipson, G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39 (p-values from draws are never zero).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv
from scipy.stats import hypergeom

Array = NDArray[np.float64]


def binomial_upper_tail(count: ArrayLike, trials: ArrayLike, rate: ArrayLike) -> Array:
    """P(X >= count) for X ~ Binomial(trials, rate): the one-sided p-value of a count against a known rate.

    Shapes broadcast. 1 for a count of 0. As a p-value it is valid and, being discrete, on the careful side.

    Raises:
        ValueError: not 0 <= count <= trials, or a rate outside [0, 1].
    """
    x, n = _counts(count, trials)
    q = np.asarray(rate, dtype=np.float64)
    if not np.all((q >= 0) & (q <= 1)):
        raise ValueError(f"a rate lies in [0, 1], not {q}")
    return np.asarray(np.where(x == 0, 1.0, betainc(np.maximum(x, 1), n - x + 1, q)), dtype=np.float64)


def two_counts_upper_tail(count: ArrayLike, trials: ArrayLike, other: ArrayLike, other_trials: ArrayLike) -> Array:
    """P-value of ``count`` of ``trials`` against ``other`` of ``other_trials``, if more: Fisher's exact test.

    The common rate is not needed: given the sum of both counts, ``count`` is hypergeometric. The right test for a
    window against a finite reference in which an event was rare or never seen.

    Raises:
        ValueError: not 0 <= count <= trials, for either pair.
    """
    x, n = _counts(count, trials)
    y, m = _counts(other, other_trials)
    return np.asarray(np.where(x == 0, 1.0, hypergeom.sf(x - 1, n + m, x + y, n)), dtype=np.float64)


def binomial_interval(count: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval for a rate: it holds the true one with at least ``confidence``.

    Raises:
        ValueError: not 0 <= count <= trials with trials > 0, or a confidence outside (0, 1).
    """
    _counts(count, trials)
    if trials == 0 or not 0 < confidence < 1:
        raise ValueError(f"no interval of confidence {confidence} from {trials} trials")
    half = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, trials - count + 1, half))
    high = 1.0 if count == trials else float(betaincinv(count + 1, trials - count, 1 - half))
    return low, high


def draw_bin_counts(
    shares: Array, window: int, draws: int, *, reference: int | None = None, seed: int
) -> NDArray[np.int64]:
    """Counts [draws, B] of ``window`` undrifted values in B bins, with their exact joint distribution.

    Args:
        shares: [B] shares of the bins in the reference, > 0, summing to 1.
        reference: values whose quantiles are the edges of the bins. The bins' true shares then vary as
            Dirichlet(reference * shares) and the counts are Dirichlet-multinomial, whatever the values' distribution.
            None: the shares are known exactly, and the counts multinomial.
        seed: of the draws.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    true = shares if reference is None else rng.dirichlet(reference * np.asarray(shares), size=draws)
    return rng.multinomial(window, true, size=draws)


def tail_among_draws(observed: ArrayLike, drawn: Array) -> Array:
    """Share of draws [draws] at or above each observed value, which is counted among them: valid, and never 0."""
    ordered = np.sort(drawn)
    above = len(ordered) - np.searchsorted(ordered, np.asarray(observed, dtype=np.float64), side="left")
    return np.asarray((above + 1) / (len(ordered) + 1), dtype=np.float64)


def _counts(count: ArrayLike, trials: ArrayLike) -> tuple[Array, Array]:
    x, n = np.asarray(count, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not np.all((x >= 0) & (x <= n)):
        raise ValueError(f"a count lies between 0 and its trials, not {x} of {n}")
    return x, n
