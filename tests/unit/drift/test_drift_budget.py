"""The shared budget: one false alarm per run time for the whole model, by simulation; effective number; refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift.budget import Budget, correlation_of, effective_number, share
from latentry_serving.drift.rules import Cusum, Shewhart
from latentry_serving.drift.run_length import cusum_run_length

DAY = 86_400.0


def names(count: int) -> list[str]:
    return [f"embedding/{i}" for i in range(count)]


def equal_correlation(count: int, correlation: float) -> np.ndarray:
    return np.full((count, count), correlation) + (1 - correlation) * np.eye(count)


def onsets_per_window(budget: Budget, correlation: np.ndarray, *, streams: int, windows: int) -> float:
    """How often the model goes from no alarm to any, over independent undrifted streams."""
    count, rng = len(budget.statistics), np.random.default_rng(11)
    limits = budget.thresholds()
    cusum = Cusum([x.cusum_k for x in limits] * streams, [x.cusum_h for x in limits] * streams, count * streams)
    shewhart = Shewhart(np.tile([x.alpha for x in limits], streams))
    root = np.linalg.cholesky(correlation + 1e-12 * np.eye(count))
    before, onsets = np.zeros(streams, dtype=bool), 0
    for _ in range(windows):
        p = ndtr(-(rng.standard_normal((streams, count)) @ root.T)).ravel()
        cusum.update(p)
        alarmed = (cusum.alarmed | shewhart.alarms(p)).reshape(streams, count).any(axis=1)
        onsets += int((alarmed & ~before).sum())
        before = alarmed
    return onsets / (streams * windows)


@pytest.mark.parametrize("known", [False, True], ids=["even split", "effective number"])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_whole_model_keeps_its_rate(correlation: float, known: bool) -> None:
    """Twelve statistics, one alarm in 1,000 windows stated, 800,000 windows: Poisson's standard error is below 6 %."""
    matrix = equal_correlation(12, correlation)
    budget = share(1000.0, 1.0, names(12), correlation=matrix if known else None)
    ratio = 1000 * onsets_per_window(budget, matrix, streams=800, windows=1000)
    if known:
        assert 0.5 < ratio < 1.25
    else:
        assert 0.2 < ratio < 1.25


def test_the_rate_is_shared_in_time_and_among_replicas_and_rules() -> None:
    budget = share(30 * DAY, [10.0, 3600.0], ["embedding/t2", "reconstruction_error/norm"], replicas=4)
    per_second = 2 * 4 * (budget.alpha / [10.0, 3600.0]).sum()  # two rules, four replicas
    assert per_second == pytest.approx(1 / (30 * DAY))
    assert budget.alpha[1] / budget.alpha[0] == pytest.approx(360)
    assert budget.arl0 == pytest.approx(1 / budget.alpha)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30), st.integers(1, 50), st.floats(1e3, 1e8))
def test_weights_share_and_add_up(weights: list[float], replicas: int, run_time: float) -> None:
    budget = share(run_time, 5.0, names(len(weights)), replicas, weights=weights)
    assert budget.alpha.sum() == pytest.approx(2.5 / (run_time * replicas))
    assert budget.alpha / budget.alpha[0] == pytest.approx(np.array(weights) / weights[0])


def test_thresholds_are_those_of_the_rules() -> None:
    budget = share(30 * DAY, [10.0, 600.0], ["embedding/t2", "input/spe"])
    for limit, alpha in zip(budget.thresholds(), budget.alpha, strict=True):
        assert limit.alpha == alpha
        assert cusum_run_length(limit.cusum_h, limit.cusum_k) == pytest.approx(1 / alpha, rel=1e-7)
    finite, large = budget.thresholds(shared=[0.09, 0.0])
    assert finite.cusum_k > large.cusum_k == 0.5


def test_a_run_time_of_a_few_windows_is_refused_with_the_numbers() -> None:
    share(6000.0, 600.0, ["input/t2"])
    with pytest.raises(InvalidInput) as refusal:
        share(3600.0, [10.0, 600.0], ["embedding/t2", "input/t2"])
    text = str(refusal.value)
    assert "3600 s is 6 windows of input/t2, which take 600 s each" in text
    assert "write 6000s or more" in text


def test_every_senseless_argument_is_named() -> None:
    with pytest.raises(InvalidInput) as refusal:
        share(3600.0, -1.0, ["a", "b"], replicas=0, weights=[1.0, 0.0])
    assert [problem.path for problem in refusal.value.problems] == ["replicas", "weights", "window"]
    with pytest.raises(InvalidInput, match="nothing is watched"):
        share(3600.0, 1.0, [])
    with pytest.raises(InvalidInput, match="expectedRunTime"):
        share(float("nan"), 1.0, ["a"])


@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6, 1e-12])
def test_effective_number_of_the_extremes(alpha: float) -> None:
    assert effective_number(np.eye(10), alpha) == pytest.approx((1 - (1 - alpha) ** 10) / alpha, rel=0.02)
    assert effective_number(np.ones((10, 10)), alpha) == pytest.approx(1.0, rel=1e-6)


def test_effective_number_against_counting() -> None:
    # 400,000 draws, union of about 4 %: standard error below 1 % of it
    matrix = equal_correlation(8, 0.7)
    z = np.random.default_rng(4).standard_normal((400_000, 8)) @ np.linalg.cholesky(matrix).T
    alpha = np.linspace(0.004, 0.016, 8)
    counted = (z > -ndtri(alpha)).any(axis=1).mean() / alpha.mean()
    assert effective_number(matrix, alpha) == pytest.approx(counted, rel=0.05)


def test_rarer_alarms_depend_less_on_each_other() -> None:
    numbers = [effective_number(equal_correlation(10, 0.8), alpha) for alpha in (0.05, 1e-3, 1e-5, 1e-8)]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 1.5 * numbers[0]


def test_never_more_than_twice_the_even_split() -> None:
    budget = share(30 * DAY, 10.0, names(10), correlation=np.ones((10, 10)))
    assert budget.effective_number == 5.0
    assert budget.alpha == pytest.approx(2 * share(30 * DAY, 10.0, names(10)).alpha)


def test_correlations_of_many_windows_are_found() -> None:
    # 4,000 windows: the standard error of a correlation is at most 0.016
    matrix = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 1.0]])
    z = np.random.default_rng(6).standard_normal((4000, 3)) @ np.linalg.cholesky(matrix).T
    assert correlation_of(ndtr(-z)) == pytest.approx(matrix, abs=0.08)
    assert correlation_of(ndtr(-z) ** 3) == pytest.approx(correlation_of(ndtr(-z)))  # only the order counts


def test_chance_correlations_of_few_windows_are_shrunk_away() -> None:
    p = np.random.default_rng(7).random((12, 20))
    off_diagonal = correlation_of(p) - np.eye(20)
    assert np.abs(off_diagonal).max() < 0.25  # of a raw maximum of about 0.8
    assert effective_number(correlation_of(p), 1e-4) > 19


def test_statistics_never_judged_together_and_silent_ones_are_independent() -> None:
    rng = np.random.default_rng(8)
    common = rng.random(40)
    p = np.stack(
        [common, common, np.ones(40), np.where(np.arange(40) < 20, common, np.nan), np.full(40, np.nan)], axis=1
    )
    p[:20, 1] = np.nan
    matrix = correlation_of(p)
    assert np.all(np.linalg.eigvalsh(matrix) > -1e-9)
    assert np.diagonal(matrix) == pytest.approx(np.ones(5))
    assert matrix[0, 1] > 0.5
    assert matrix[1, 3] == pytest.approx(0, abs=0.35)  # no window in common; mended to be a correlation matrix
    assert matrix[2, [0, 1, 3, 4]] == pytest.approx(np.zeros(4))
    assert matrix[4, :4] == pytest.approx(np.zeros(4))
