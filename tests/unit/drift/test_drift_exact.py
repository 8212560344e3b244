"""Exact tests on counts against scipy.stats, enumeration, and published false-alarm shares of PSI > 0.1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latentry_serving.drift.exact import (
    binomial_interval,
    binomial_upper_tail,
    draw_bin_counts,
    tail_among_draws,
    two_counts_upper_tail,
)


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.001, 0.999))
def test_binomial_tail_is_scipys(a: int, b: int, rate: float) -> None:
    count, trials = min(a, b), max(a, b, 1)
    expected = stats.binomtest(count, trials, rate, alternative="greater").pvalue
    assert float(binomial_upper_tail(count, trials, rate)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_binomial_tail_edges() -> None:
    assert binomial_upper_tail([0, 0, 1, 5, 5], 5, [0.0, 0.3, 0.0, 1.0, 0.5]).tolist() == pytest.approx(
        [1.0, 1.0, 0.0, 1.0, 0.5**5]
    )
    assert float(binomial_upper_tail(0, 0, 0.5)) == 1.0


@given(st.integers(0, 20), st.integers(1, 60), st.integers(0, 20), st.integers(1, 200))
def test_two_counts_are_fishers(x: int, n: int, y: int, m: int) -> None:
    x, y = min(x, n), min(y, m)
    expected = stats.fisher_exact([[x, n - x], [y, m - y]], alternative="greater").pvalue
    assert float(two_counts_upper_tail(x, n, y, m)) == pytest.approx(expected, rel=1e-9)


def test_an_event_never_seen_before() -> None:
    # one among 500 after none in 5,000: it is as likely among any of the 5,500
    assert float(two_counts_upper_tail(1, 500, 0, 5000)) == pytest.approx(500 / 5500)
    assert float(two_counts_upper_tail(0, 500, 40, 5000)) == 1.0


@pytest.mark.parametrize(("count", "trials"), [(-1, 5), (6, 5), (np.nan, 5)])
def test_impossible_counts_are_refused(count: float, trials: int) -> None:
    with pytest.raises(ValueError, match="count"):
        binomial_upper_tail(count, trials, 0.1)
    with pytest.raises(ValueError, match="count"):
        two_counts_upper_tail(0, 1, count, trials)


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        binomial_upper_tail(1, 2, 1.5)


@given(st.integers(0, 50), st.integers(1, 200), st.sampled_from([0.8, 0.95, 0.999]))
def test_intervals_are_clopper_and_pearsons(count: int, trials: int, confidence: float) -> None:
    count = min(count, trials)
    expected = stats.binomtest(count, trials).proportion_ci(confidence, "exact")
    assert binomial_interval(count, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-10)


@pytest.mark.parametrize(("trials", "confidence"), [(0, 0.95), (5, 0.0), (5, 1.0)])
def test_senseless_intervals_are_refused(trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        binomial_interval(0, trials, confidence)


@pytest.mark.parametrize(("window", "published"), [(100, 85.1), (200, 37.0), (500, 0.3)])
def test_published_shares_of_psi_over_a_tenth(window: int, published: float) -> None:
    """Percent of undrifted pairs of samples with PSI > 0.1 over ten deciles, as iyipada's README prints."""
    counts = draw_bin_counts(np.full(10, 0.1), window, 200_000, reference=window, seed=1)
    shares = np.maximum(counts / window, 1e-4)
    psi = ((shares - 0.1) * np.log(shares / 0.1)).sum(axis=1)
    # the smoothing of empty bins is not printed there: half a point for it and for the last digit
    assert 100 * (psi > 0.1).mean() == pytest.approx(published, abs=0.5 if window < 500 else 0.1)


def test_known_shares_give_a_multinomial() -> None:
    counts = draw_bin_counts(np.array([0.5, 0.3, 0.2]), 3, 100_000, seed=2)
    assert (counts.sum(axis=1) == 3).all()
    for cell in ([3, 0, 0], [1, 1, 1], [0, 1, 2]):
        expected = stats.multinomial.pmf(cell, 3, [0.5, 0.3, 0.2])
        assert (counts == cell).all(axis=1).mean() == pytest.approx(expected, abs=0.008)  # five standard errors


def test_a_finite_reference_widens_the_counts_by_its_size() -> None:
    # variance of a share: (1/w + 1/(n+1) - ...) = (n + w) / (w (n + 1)) q (1 - q)
    n, w, q = 400, 100, 0.1
    counts = draw_bin_counts(np.full(10, q), w, 200_000, reference=n, seed=3)
    assert (counts[:, 0] / w).var() == pytest.approx((n + w) / (w * (n + 1)) * q * (1 - q), rel=0.02)


def test_draws_are_those_of_the_seed() -> None:
    one, again, other = (draw_bin_counts(np.full(4, 0.25), 50, 20, reference=100, seed=seed) for seed in (7, 7, 8))
    assert (one == again).all()
    assert (one != other).any()


def test_tail_among_draws_counts_ties_and_is_never_zero() -> None:
    drawn = np.array([3.0, 1.0, 2.0, 2.0])
    assert tail_among_draws([0.0, 2.0, 2.5, 9.0], drawn).tolist() == [1.0, 0.8, 0.4, 0.2]
