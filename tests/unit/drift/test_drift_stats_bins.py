"""Binned dimensions and counted events against scipy and direct counts.

- Pearson's X² (as the sum of its squared residuals), G² against scipy.stats.power_divergence; PSI against its sum
- edges: deciles of continuous data, no empty bins for discrete and binary data, rounding noise moves nothing
- counts above edges are histograms
- duplicates, non-finite rows, tails of event counts
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latentry_serving.drift import bins, counters
from latentry_serving.drift.counters import EventRate


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _edges(values: np.ndarray) -> np.ndarray:
    return bins.edges_from_sorted(np.sort(values.astype(np.float32), axis=0))


def _counts(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
    above = bins.count_above(rows.astype(np.float32), np.ascontiguousarray(edges.T), np.empty(rows.shape, bool))
    return bins.counts_from_above(above, len(rows))


@given(st.lists(st.integers(0, 60), min_size=10, max_size=10).filter(lambda c: sum(c) > 0))
@settings(max_examples=40, deadline=None)
def test_pearson_and_likelihood_ratio_are_scipys(observed: list[int]) -> None:
    shares = np.linspace(1, 2, 10) / 15
    counts = np.array([observed])
    expected = shares * sum(observed)
    x2 = stats.power_divergence(observed, expected, lambda_="pearson").statistic
    g2 = stats.power_divergence(observed, expected, lambda_="log-likelihood").statistic
    residuals = bins.Shares(shares[None]).pearson_residuals(counts)
    assert sum(observed) * np.square(residuals).sum() == pytest.approx(x2, abs=1e-9)
    assert bins.likelihood_ratio(counts, shares[None])[0] == pytest.approx(g2, abs=1e-9)


def test_psi_is_its_sum() -> None:
    counts, shares = np.array([[30, 50, 20]]), np.array([[0.2, 0.5, 0.3]])
    p = np.array([30.5, 50.5, 20.5]) / 101.5
    assert bins.psi(counts, shares)[0] == pytest.approx(np.sum((p - shares[0]) * np.log(p / shares[0])))


def test_merged_bins_decide_nothing() -> None:
    shares = np.array([[0.5, 0.5, 0.0]])
    counts = np.array([[5, 5, 3]])
    for statistic in (bins.likelihood_ratio, bins.psi):
        assert np.isfinite(statistic(counts, shares)).all()
    assert bins.Shares(shares).pearson_residuals(counts)[0, 2] == 0
    assert bins.degrees(shares).tolist() == [1]


def test_edges_of_continuous_values_are_deciles() -> None:
    values = _rng().standard_normal((10_000, 3))
    assert _edges(values) == pytest.approx(np.quantile(values, np.arange(1, 10) / 10, axis=0).T, abs=0.01)


def test_binary_and_rare_values_make_few_full_bins() -> None:
    rng = _rng(1)
    values = np.stack([rng.integers(0, 2, 1000), rng.random(1000) < 0.001, np.ones(1000)], axis=1).astype(np.float32)
    edges = _edges(values)
    assert np.isfinite(edges).sum(axis=1).tolist() == [1, 0, 0]
    assert edges[0, 0] == 0.5
    jittered = values + rng.uniform(-1e-6, 1e-6, values.shape)
    assert (_counts(jittered[:255], edges) == _counts(values[:255], edges)).all()


def test_every_bin_in_use_holds_a_fair_share() -> None:
    values = np.maximum(_rng(2).standard_normal((5000, 4)) - 1, 0)  # 84 % zeros
    shares = np.mean([_counts(values[i : i + 200], _edges(values)) / 200 for i in range(0, 5000, 200)], axis=0)
    assert shares[shares > 0].min() >= bins.SMALLEST_SHARE


def test_counts_are_histograms() -> None:
    rng = _rng(3)
    values, edges = rng.standard_normal((255, 2)), np.sort(rng.standard_normal((2, 9)), axis=1).astype(np.float32)
    for j in range(2):
        inner = np.concatenate([[-np.inf], edges[j], [np.inf]])
        assert _counts(values, edges)[j].tolist() == np.histogram(values[:, j].astype(np.float32), inner)[0].tolist()


def test_finite_rows_sees_infinities_that_cancel_and_sums_that_overflow() -> None:
    rows = np.ones((4, 3), np.float32)
    assert counters.finite_rows(rows) is None
    rows[1, :2] = [np.inf, -np.inf]
    rows[2] = 3e38  # finite, though their sum is not
    rows[3, 0] = np.nan
    found = counters.finite_rows(rows)
    assert found is not None and found.tolist() == [True, False, True, False]


def test_keys_tell_vectors_apart_and_equal_ones_together() -> None:
    rng = _rng(4)
    projected = rng.standard_normal((2000, 8)).astype(np.float32)
    assert counters.repeated(counters.keys(projected, np.zeros((len(projected), 2)))) == 0
    again = np.concatenate([projected, projected[:70]])
    assert counters.repeated(counters.keys(again, np.zeros((len(again), 2)))) == 70
    assert counters.repeated(counters.keys(again, np.arange(2 * len(again)).reshape(-1, 2) * 1e-3)) == 0


def test_event_tail_is_beta_binomial() -> None:
    rate = EventRate(3, 20_000)
    assert rate.tail(0, 500) == 1.0
    assert rate.tail(2, 500) == pytest.approx(stats.betabinom.sf(1, 500, 3.5, 19_997.5), rel=1e-6)


def test_events_never_seen_are_rare_but_possible() -> None:
    rate = EventRate.fit(np.zeros(40), np.full(40, 500))
    assert 1e-3 < rate.tail(1, 500) < 0.05
    assert rate.tail(50, 500) < 1e-15


def test_windows_that_vary_more_than_chance_make_the_tail_longer() -> None:
    sizes = np.full(40, 500)
    steady = EventRate.fit(np.full(40, 10), sizes)
    bursty = EventRate.fit(np.tile([0, 0, 0, 40], 10), sizes)
    assert steady.dispersion == 1.0 < 10 < bursty.dispersion
    assert bursty.tail(40, 500) > 1e4 * steady.tail(40, 500)
