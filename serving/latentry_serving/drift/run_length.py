"""How many windows a CUSUM or MEWMA chart runs until it alarms, computed instead of simulated. Pure.

The chart's state is followed as a Markov chain, as Brook and Evans did. Where they cut the state space into intervals
(error of the order 1/n²), the chain here sits on Gauss-Legendre nodes: the same equations as Vance's integral equation,
whose error falls exponentially with the number of nodes. The linear system is solved without one subtraction
(Grassmann, Taksar and Heyman), so that a run length of 1e12 windows is as precise as one of 10.

Sources: D. Brook, D. A. Evans, Biometrika 59 (1972) 539; L. C. Vance, J. Quality Technology 18 (1986) 189;
S. E. Rigdon, J. Stat. Comput. Simul. 52 (1995) 351 (MEWMA); W. K. Grassmann, M. I. Taksar, D. P. Heyman, Operations
Research 33 (1985) 1107.
"""

from functools import lru_cache
from math import inf, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift.roots import root

Array = NDArray[np.float64]

LONGEST_RUN = 1e15
"""Windows; beyond it a threshold is refused: at one window a second it is thirty million years."""


def cusum_run_length(threshold: float, reference: float, *, shift: float = 0.0, steady_state: bool = False) -> float:
    """Mean number of windows until S = max(0, S + z - k) exceeds h, for z ~ N(shift, 1) independent.

    Args:
        threshold: h > 0, in standard deviations of z.
        reference: k > 0, the allowance; half the shift that is to be noticed first.
        shift: mean of z. 0 is undrifted traffic, whose run length is ARL0.
        steady_state: False: the shift begins with S = 0. True: it begins after a long undrifted time without
            alarm, with S where it then is: the honest delay.

    Returns:
        The run length in windows, the one that alarms included. A chart of two sides runs for
        1 / (1/L(shift) + 1/L(-shift)).

    Raises:
        InvalidInput: h or k is not positive and finite.
    """
    _check("threshold", threshold)
    _check("reference", reference)
    if not steady_state:
        return float(_zero_state(threshold, np.array([reference - shift]))[0])
    nodes, weights = _nodes(threshold, round(20 + 4 * threshold))
    lengths = _absorption_times(*_cusum_chain(nodes, weights, threshold, reference - shift))
    undrifted, _ = _cusum_chain(nodes, weights, threshold, reference)
    return float(_quasi_stationary(undrifted) @ lengths)


def _zero_state(threshold: float, allowances: Array) -> Array:
    """Run lengths [m] from S = 0 for allowances less shift [m], all chains at once."""
    nodes, weights = _nodes(threshold, round(20 + 4 * threshold))
    chains = [_cusum_chain(nodes, weights, threshold, float(each)) for each in allowances]
    _, steps, out = _censored(np.stack([moves for moves, _ in chains]), np.stack([leaving for _, leaving in chains]))
    return np.asarray(steps[:, 0] / out[:, 0], dtype=np.float64)


@lru_cache(maxsize=1024)
def cusum_threshold(arl0: float, reference: float = 0.5) -> float:
    """The h at which a CUSUM with allowance k alarms once in ``arl0`` undrifted windows, to ten digits.

    Args:
        arl0: mean windows between false alarms, more than the run length at h = 0, which is 1 / P(z > k).
        reference: k > 0.

    Raises:
        InvalidInput: ``arl0`` is shorter than any threshold gives, or longer than LONGEST_RUN; k is not positive.
    """
    _check("reference", reference)
    shortest = 1 / ndtr(-reference)
    if not shortest < arl0 <= LONGEST_RUN:
        raise InvalidInput.one(
            "run length",
            path="arl0",
            problem=f"no CUSUM with k = {reference:g} has a mean run of {arl0:g} windows",
            remedy=f"ask for more than {shortest:.3g} and at most {LONGEST_RUN:g} windows",
        )
    # ARL0 grows by exp(2k) with each unit of h, from below 1/P(z > k) at h = 0: h stays below ln(ARL0) / 2k.
    longest = log(arl0) / (2 * reference) + 1

    def excess(threshold: float) -> float:
        return log(cusum_run_length(threshold, reference) / arl0)

    return root(excess, 1e-9, longest, xtol=1e-10)


@lru_cache(maxsize=1024)
def cusum_design(arl0: float, shared: float = 0.0, smallest: float = 0.5) -> tuple[float, float]:
    """Allowance k and threshold h that keep the false-alarm rate when the reference is finite.

    A CUSUM is far more sensitive to an error of its p-values than a single test is: one profile's error is in every
    window, and an offset d of z turns a run length A into about A^(1 - d/k). At A = 1e6 and k = 0.5 an offset of 0.16,
    what 40 windows of calibration leave, means 31 times the stated rate, or a 38th of it. So let the p-values be
    uniform over references and windows together, z = sqrt(r) B + sqrt(1 - r) e with B ~ N(0, 1) fixed by the reference
    and e new in each window. Then h makes the *mean over references* of the alarm rate 1 / arl0, and k is large enough
    for that to be done by typical references, not by a few unlucky ones:

        k = max(smallest, 2 sqrt(2 r ln arl0)), but at most half a standard deviation below the Shewhart limit

    With r = 0 this is ``cusum_threshold(arl0, smallest)``. For n reference vectors and windows of w, r = w / (n + w)
    for a one-sided statistic of the mean, and its square for a quadratic one (MMD², T², a two-sided p-value).

    Args:
        arl0: mean windows between false alarms.
        shared: r in [0, 1/4), the share of the variance of z that all windows have in common.
        smallest: k where the reference allows it: half the shift of z, in standard deviations, to be noticed first.

    Returns:
        (k, h) for ``Cusum``.

    Raises:
        InvalidInput: as ``cusum_threshold``, or ``shared`` is out of range.

    Source: the setting is that of L. A. Jones, C. W. Champ, S. E. Rigdon, J. Quality Technology 36 (2004) 95 (CUSUM
    with estimated parameters). The choice of k is derived here: with a run length of exp(2kh), cut by exp(2hd), the
    mean rate is exp(2h²r - 2kh). It is never below exp(-k²/2r): k > sqrt(2 r ln arl0) is needed, twice that keeps away.
    """
    if not 0 <= shared < 0.25:
        raise InvalidInput.one(
            "run length",
            path="shared",
            problem=f"{shared:g} of the variance of a window comes from the reference",
            remedy="use a reference of at least 4 windows: less than 0.25",
        )
    single_window = float(-ndtri(min(0.5, 1 / arl0)))
    allowance = max(smallest, min(2 * sqrt(2 * shared * log(arl0)), single_window - 0.5))
    classical = cusum_threshold(arl0, allowance)
    if shared == 0:
        return allowance, classical
    offsets, weights = np.polynomial.hermite_e.hermegauss(13)
    offsets, weights = offsets * sqrt(shared), weights / weights.sum()
    spread = sqrt(1 - shared)

    def excess(threshold: float) -> float:
        lengths = _zero_state(threshold / spread, (allowance - offsets) / spread)
        return -log(arl0 * float(weights @ (1 / lengths)))

    return allowance, root(excess, 0.4 * classical, 1.5 * classical + 1, xtol=1e-7)


def mewma_run_length(threshold: float, dimensions: int, smoothing: float) -> float:
    """Mean number of undrifted vectors until a multivariate EWMA alarms; zero state.

    Z = r x + (1 - r) Z with x ~ N(0, I_p); alarm at |Z|² (2 - r) / r > h. |Z|² is itself a Markov chain: |Z'|² / r² is
    noncentral chi²(p) with noncentrality ((1 - r) / r)² |Z|².

    Args:
        threshold: h > 0.
        dimensions: p >= 1.
        smoothing: r, 0 < r < 1.

    Raises:
        InvalidInput: an argument is outside its range.
    """
    _check("threshold", threshold)
    _check("dimensions", dimensions)
    _check("smoothing", smoothing, below=1)
    from scipy.stats import ncx2  # here: nothing that watches asks for this, and all of scipy.stats takes 46 MB

    limit = threshold * smoothing / (2 - smoothing)
    # Nodes for |Z|, not |Z|²: the density of the square has a root at 0 when p is odd.
    radius, weights = _nodes(sqrt(limit), 80)
    spread = ((1 - smoothing) / smoothing) ** 2 * radius[:, None] ** 2
    density = ncx2.pdf(radius[1:] ** 2 / smoothing**2, dimensions, spread)
    moves = np.zeros((len(radius), len(radius)))
    moves[:, 1:] = density * 2 * radius[1:] * weights / smoothing**2
    leaving = np.asarray(ncx2.sf(limit / smoothing**2, dimensions, spread[:, 0]), dtype=np.float64)
    return float(_absorption_times(moves, leaving)[0])


def _nodes(length: float, count: int) -> tuple[Array, Array]:
    """States: 0 and ``count`` Gauss-Legendre nodes on (0, length), with the weights of the latter."""
    at, weights = _legendre(count)
    return np.concatenate([[0.0], length * (at + 1) / 2]), weights * length / 2


@lru_cache(maxsize=8)
def _legendre(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights: half the time of a chain, always the same. Not to be changed."""
    at, weights = np.polynomial.legendre.leggauss(count)
    return at, weights


def _cusum_chain(nodes: Array, weights: Array, threshold: float, allowance: float) -> tuple[Array, Array]:
    """Transition matrix [n+1, n+1] among the nodes and the probability [n+1] of leaving above the threshold."""
    moves = np.empty((len(nodes), len(nodes)))
    moves[:, 0] = ndtr(allowance - nodes)
    moves[:, 1:] = np.exp(-0.5 * (nodes[1:] - nodes[:, None] + allowance) ** 2) * (weights / sqrt(2 * pi))
    return moves, ndtr(nodes - threshold - allowance)


def _absorption_times(moves: Array, leaving: Array) -> Array:
    """Mean steps [n] until a chain leaves, from each state: (I - moves)^-1 1."""
    moves, steps, out = _censored(moves, leaving)
    times = np.empty(len(leaving))
    for j in range(len(leaving)):
        times[j] = (steps[j] + moves[j, :j] @ times[:j]) / out[j]
    return times


def _censored(moves: Array, leaving: Array) -> tuple[Array, Array, Array]:
    """Chains [..., n, n] whose states are censored one by one, the last first, and from each state [..., n] the steps
    and the ways out among the states before it.

    No difference is taken: the diagonal 1 - moves[j, j] is replaced by the sum of the ways out of j.
    """
    moves, leaving = moves.copy(), leaving.copy()
    steps, out = np.ones_like(leaving), np.empty_like(leaving)
    for j in range(leaving.shape[-1] - 1, -1, -1):
        out[..., j] = leaving[..., j] + moves[..., j, :j].sum(axis=-1)
        share = moves[..., :j, j] / out[..., j, None]
        moves[..., :j, :j] += share[..., :, None] * moves[..., j, None, :j]
        leaving[..., :j] += share * leaving[..., j, None]
        steps[..., :j] += share * steps[..., j, None]
    return moves, steps, out


def _quasi_stationary(moves: Array) -> Array:
    """Where a chain that has not left for a long time is found [n+1]: the leading left eigenvector, summing to 1."""
    values, vectors = np.linalg.eig(moves.T)
    leading = np.abs(vectors[:, int(np.argmax(values.real))].real)
    return np.asarray(leading / leading.sum(), dtype=np.float64)


def _check(name: str, value: float, *, below: float = inf) -> None:
    if not 0 < value < below:
        wanted = "a positive number" if below == inf else f"a number between 0 and {below:g}"
        raise InvalidInput.one("run length", path=name, problem=f"{value:g} is out of range", remedy=f"write {wanted}")
