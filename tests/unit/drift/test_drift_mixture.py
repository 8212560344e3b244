"""Tails of weighted chi² sums against scipy's chi², the closed form for pairs, Imhof's integral and simulation."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from latentry_serving.drift.mixture import WeightedChiSquare, quantile, survival

TAILS = [1 - 1e-9, 0.999, 0.9, 0.7, 0.5, 0.1, 1e-3, 1e-8, 1e-16, 1e-100, 1e-290]


def imhof(weights: list[float], x: float) -> float:
    """P(Q > x) by Imhof's integral: absolute error about 1e-10."""
    w = np.array(weights)

    def integrand(u: float) -> float:
        phase = 0.5 * np.arctan(w * u).sum() - 0.5 * x * u
        return float(np.sin(phase) / (u * np.prod((1 + (w * u) ** 2) ** 0.25)))

    value, _ = quad(integrand, 0, np.inf, limit=2000, epsabs=1e-11)
    return 0.5 + value / math.pi


def pairs_survival(weights: list[float], x: float) -> float:
    """P(Q > x) when each weight comes twice: a sum of exponentials, in 200 digits as its terms cancel."""
    with localcontext(prec=200):
        w, at = [Decimal(one) for one in weights], Decimal(x)
        terms = (math.prod(a / (a - b) for b in w if b != a) * (-at / (2 * a)).exp() for a in w)
        return float(sum(terms))


@pytest.mark.parametrize("dof", [1, 2, 3, 5, 9, 50, 128])
def test_equal_weights_are_chi_square(dof: int) -> None:
    x = 0.37 * stats.chi2.isf(TAILS, dof)
    expected = stats.chi2.logsf(x / 0.37, dof)
    assert WeightedChiSquare(np.full(dof, 0.37)).log_survival(x) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_degrees_of_freedom_are_equal_weights() -> None:
    x = np.array([0.1, 3.0, 40.0])
    assert survival([2.0, 0.5], x, [3.0, 4.0]) == pytest.approx(survival([2.0] * 3 + [0.5] * 4, x), rel=1e-11)
    assert survival(1.0, 5000.0, 5000.0) == pytest.approx(stats.chi2.sf(5000, 5000), rel=1e-9)


@pytest.mark.parametrize("x", [0.5, 2.0, 5.0, 20.0, 60.0, 600.0])
def test_pairs_have_a_closed_form(x: float) -> None:
    weights = [2.0**-i for i in range(40)]
    assert survival(np.repeat(weights, 2), x) == pytest.approx(pairs_survival(weights, x), rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "x"), [([1, 0.6, 0.3, 0.2, 0.1], 8.0), ([3, 1, 1, 1, 1, 1], 2.0), ([5, 4, 3, 2, 2, 2], 40.0)]
)
def test_imhof(weights: list[float], x: float) -> None:
    assert float(survival(weights, x)) == pytest.approx(imhof(weights, x), abs=1e-8)


def test_simulation() -> None:
    # 400,000 draws: five standard errors of a share are at most 0.004
    rng = np.random.default_rng(2)
    weights = np.exp(-np.arange(20) / 4)
    draws = rng.chisquare(1, (400_000, 20)) @ weights
    for x in (1.0, 3.0, 6.0, 12.0):
        assert float(survival(weights, x)) == pytest.approx((draws > x).mean(), abs=0.004)


@pytest.mark.parametrize(
    "weights",
    [
        np.exp(-np.arange(2000) / 100),
        1 / np.arange(1.0, 4097),
        np.concatenate([np.full(64, 20.0), np.linspace(1, 0.1, 4000)]),
        np.linspace(1, 0.01, 300),
        np.ones(4096),
    ],
    ids=["exponential", "hyperbolic", "two-levels", "linear", "flat"],
)
def test_condensing_many_weights(weights: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    condensed = WeightedChiSquare(weights)
    with monkeypatch.context() as patch:
        patch.setattr("latentry_serving.drift.mixture._MOST_WEIGHTS", 10_000)
        whole = WeightedChiSquare(weights)
    assert len(condensed.weights) <= 128 < len(whole.weights)
    assert (condensed.mean, condensed.variance) == pytest.approx((whole.mean, whole.variance), rel=1e-12)
    x = np.array([condensed.quantile(tail) for tail in (0.99, 0.5, 1e-4, 1e-8, 1e-12)])
    assert condensed.survival(x) == pytest.approx(whole.survival(x), rel=1e-3)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), st.floats(1e-200, 0.999))
def test_quantile_is_the_inverse(weights: list[float], tail: float) -> None:
    assert float(survival(weights, quantile(weights, tail))) == pytest.approx(tail, rel=1e-6)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(1e-6, 1e6), st.floats(1e-4, 50))
def test_units_do_not_matter_and_tails_fall(weights: list[float], unit: float, z: float) -> None:
    law = WeightedChiSquare(weights)
    scaled = WeightedChiSquare(np.array(weights) * unit)
    x = law.mean * z
    assert scaled.log_survival(x * unit) == pytest.approx(float(law.log_survival(x)), rel=1e-7, abs=1e-12)
    assert law.log_survival(x * 1.1) < law.log_survival(x) + 1e-12


def test_edges() -> None:
    law = WeightedChiSquare([1.0, 0.0, 0.5])
    values = law.survival([-1.0, 0.0, 1e-300, np.inf, np.nan])
    assert values[:4].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert np.isnan(values[4])
    assert float(law.log_survival(1e5)) == pytest.approx(-5e4, rel=1e-3)
    assert law.survival(np.ones((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("weights", [[], [0.0], [-1.0, 2.0], [np.nan], [np.inf]])
def test_senseless_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        WeightedChiSquare(weights)


def test_senseless_degrees_and_tails_are_refused() -> None:
    with pytest.raises(ValueError, match="degrees"):
        WeightedChiSquare([1.0], 0.0)
    with pytest.raises(ValueError, match="tail"):
        quantile([1.0], 0.0)
