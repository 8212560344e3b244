"""Tails of the statistics on undrifted traffic.

- the spectrum of features: exact where rows are many; trace and concentration right where dimensions exceed rows
- tails: chi² and F as limiting cases; monotone; linear far out; sharpening reaches the asked concentration
- left-out evidence: larger scores, fewer windows and runs all make p larger, never smaller
- the worst of d dimensions is Šidák's
"""

import numpy as np
import pytest
from scipy import stats

from latentry_serving.drift import mixture, nulls
from latentry_serving.drift.nulls import SINGLE, Evidence, Runs, Spectrum

INDEPENDENT = Runs(False, 0.0)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _evidence(spread: np.ndarray, count: int, scale: float = 1.0) -> Evidence:
    """Windows whose deviations are Gaussian with variances ``spread`` (sum 1) times scale."""
    values = _rng(7).standard_normal((count, spread.size)) * np.sqrt(spread * scale)
    return Evidence(np.einsum("ij,ij->i", values, values), values)


def test_spectrum_of_many_rows_is_the_covariances() -> None:
    variances = np.array([5.0, 3.0, 1.0, 0.5, 0.5])
    spectrum, trace = nulls.spectrum_of(_rng().standard_normal((6000, 5)) * np.sqrt(variances))
    assert trace == pytest.approx(10, rel=0.05)
    assert spectrum.freedom == pytest.approx(100 / np.sum(variances**2), rel=0.05)


def test_spectrum_of_more_dimensions_than_rows_is_not_spread_out() -> None:
    spectrum, trace = nulls.spectrum_of(_rng(1).standard_normal((300, 3000)))
    assert trace == pytest.approx(3000, rel=0.02)
    assert spectrum.freedom == pytest.approx(3000, rel=0.1)  # the sample covariance's own eigenvalues say 270


def test_a_single_direction_has_the_chi2_tail() -> None:
    tail = nulls.quadratic(SINGLE, _evidence(np.ones(1), 200), INDEPENDENT, 0.0)
    for z in (2.0, 3.0, 5.0):
        assert tail.p(z**2 * tail.scale) == pytest.approx(2 * stats.norm.sf(z), rel=0.05)


def test_equal_directions_have_the_chi2_tail_far_out() -> None:
    flat = Spectrum(np.array([0.05]), np.array([20.0]))
    tail = nulls.quadratic(flat, _evidence(np.full(20, 0.05), 200), INDEPENDENT, 0.0)
    x = stats.chi2.isf(1e-8, 20) / 20
    assert tail.p(x * tail.scale) == pytest.approx(1e-8, rel=0.1)


def test_an_estimated_scale_gives_the_f_tail() -> None:
    x = np.array([1.5, 3.0, 5.0])
    flat = Spectrum(np.array([0.2]), np.array([5.0]))
    assert nulls._averaged(flat, x, 30.0) == pytest.approx(stats.f.sf(x, 5, 30), rel=1e-3)


def test_tails_fall_and_stay_within_zero_and_one() -> None:
    spectrum = Spectrum(np.array([0.5, 0.01]), np.array([1.0, 50.0]))
    tail = nulls.quadratic(spectrum, _evidence(np.r_[0.5, np.full(50, 0.01)], 50), INDEPENDENT, 0.0)
    p = [tail.p(x) for x in np.geomspace(1e-6, 1e6, 200)]
    assert p == sorted(p, reverse=True)
    assert p[0] == pytest.approx(1, abs=0.01) and p[-1] >= nulls.SMALLEST_P
    assert tail.p(0.0) == 1.0


def test_windows_that_vary_more_than_their_vectors_say_raise_p() -> None:
    spread = np.full(20, 0.05)
    spectrum = Spectrum(np.array([0.05]), np.array([20.0]))
    calm = nulls.quadratic(spectrum, _evidence(spread, 40), INDEPENDENT, 0.0)
    restless = nulls.quadratic(spectrum, _evidence(spread, 40, scale=3.0), INDEPENDENT, 0.0)
    assert restless.scale == pytest.approx(3, rel=0.2) and np.isfinite(restless.freedom)
    assert restless.p(3.0) > 0.2 > 1e-3 > calm.p(3.0)


def test_few_windows_and_long_runs_raise_p() -> None:
    spectrum = Spectrum(np.array([0.05]), np.array([20.0]))
    spread = np.full(20, 0.05)
    tails = [
        nulls.quadratic(spectrum, _evidence(spread, 40), INDEPENDENT, 0.0),
        nulls.quadratic(spectrum, _evidence(spread, 4), INDEPENDENT, 0.0),
        nulls.quadratic(spectrum, _evidence(spread, 40, scale=3.0), Runs(True, 0.04), 0.0),
        nulls.quadratic(spectrum, _evidence(spread, 40, scale=3.0), Runs(True, 0.2), 0.0),
    ]
    many, few, short, long = (t.p(4.0 * t.scale) for t in tails)
    assert many < few and many < short < long / 2


def test_short_runs_bound_the_scale_of_a_statistic_of_one_dimension() -> None:
    """Ten scores say little; that vectors are next to independent says more, unless the scores are far from it."""
    short, long = Runs(True, 0.006, inflation=1.2), Runs(True, 0.04, inflation=3.0)
    scale, known = short.shrunk(1.5, 10)
    assert 1.0 < scale < 1.15 and known > 100
    assert short.shrunk(4.0, 10) == (4.0, 0.0)
    assert long.shrunk(1.5, 10) == (1.5, 0.0)
    assert INDEPENDENT.shrunk(1.5, 10) == (1.5, 0.0)
    scores = np.r_[np.full(9, 0.2), 8.0]
    bounded, free = (nulls.quadratic(SINGLE, Evidence(scores), runs, 0.0) for runs in (short, Runs(True, 0.006)))
    assert bounded.p(12.0) < free.p(12.0) / 3


def test_where_one_statistic_contradicts_the_lags_no_other_trusts_them() -> None:
    runs = Runs(True, 0.006, inflation=1.2)
    quiet, loud = np.full(10, 1.1), np.full(10, 5.5)
    assert runs.held_against([quiet, quiet]) == runs
    doubted = runs.held_against([quiet, loud])
    assert not doubted.told_by_lags
    assert runs.shrunk(1.1, 10) != (1.1, 0.0)
    assert doubted.shrunk(1.1, 10) == (1.1, 0.0)


def test_concentration_of_windows_is_that_of_their_covariance() -> None:
    spread = np.r_[np.full(4, 0.2), np.full(20, 0.01)]
    assert _evidence(spread, 200).concentration() == pytest.approx(1 / np.sum(spread**2), rel=0.15)


def test_sharpening_reaches_the_freedom_asked_for() -> None:
    spectrum = Spectrum(np.geomspace(1, 0.01, 30) / np.geomspace(1, 0.01, 30).sum(), np.ones(30))
    assert spectrum.sharpened(5.0).freedom == pytest.approx(5.0, rel=0.03)
    assert spectrum.sharpened(1e9) is spectrum
    flat = Spectrum(np.array([0.01]), np.array([100.0]))
    assert flat.sharpened(20.0).freedom == pytest.approx(20.0, rel=0.03)


def test_p_values_too_small_on_the_reference_itself_are_raised() -> None:
    assert nulls.exponent_of(_rng(2).random(400)) == 1.0
    assert nulls.exponent_of(_rng(2).random(400) ** 2) == pytest.approx(2, rel=0.2)


def test_the_worst_dimension_is_sidaks() -> None:
    degrees, scale = np.array([9, 9, 1, 0]), np.ones(4)
    ratios = np.array([30.0, 5.0, 2.0, 99.0])
    single = stats.chi2.sf(30, 9)
    assert np.exp(nulls.worst(ratios, degrees, scale, 1.0, np.inf)) == pytest.approx(1 - (1 - single) ** 3, rel=1e-9)
    far = nulls.worst(ratios * 40, degrees, scale, 1.0, np.inf)
    assert far == pytest.approx(stats.chi2.logsf(1200, 9) + np.log(3), rel=1e-9)


def test_dimensions_share_the_uncertainty_of_a_windows_scale() -> None:
    degrees, draws = np.full(3, 9), _rng(4)
    largest = draws.chisquare(9, (3, 200_000)).max(axis=0)
    simulated = np.mean(largest > 40 * draws.chisquare(12, 200_000) / 12)
    p = np.exp(nulls.worst(np.array([40.0, 5.0, 2.0]), degrees, np.ones(3), 1.0, 12.0))
    assert p == pytest.approx(simulated, rel=0.06)


def test_one_large_weight_beside_thousands_of_small_ones_is_a_shifted_normal_convolution() -> None:
    weights, count = np.array([0.05, 0.95 / 6000]), np.array([1.0, 6000.0])
    draws = _rng(3)
    sums = 0.05 * draws.chisquare(1, 400_000) + 0.95 / 6000 * draws.chisquare(6000, 400_000)
    for x in (0.97, 1.0, 1.05, 1.2, 1.4):
        simulated = float(np.mean(sums > x))
        assert float(mixture.survival(weights, x, count)) == pytest.approx(simulated, rel=5 * simulated**-0.5 / 600)
