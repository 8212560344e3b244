"""Autoencoder health: the anomaly rate against scipy, its exact false-alarm rate, faults, objective, real digits."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.report import DisjointWindows, HealthReport, HealthState

WINDOW, ALPHA = 200, 1e-3


def errors(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4.0, 0.01, n)


@pytest.fixture(scope="module")
def baseline() -> AutoencoderBaseline:
    return AutoencoderBaseline.fit(errors(20 * WINDOW, 1), window=WINDOW)


def judged(baseline: AutoencoderBaseline, x: np.ndarray) -> HealthReport:
    window = baseline.new_window()
    window.update(x)
    return baseline.judge(window)


def test_figures_are_those_computed_directly(baseline: AutoencoderBaseline) -> None:
    reference, live = errors(20 * WINDOW, 1), errors(WINDOW, 2)
    report = judged(baseline, live)
    assert report.finding("reconstruction_mean").value == pytest.approx(live.mean())
    ratio = np.quantile(live, 0.95) / np.quantile(reference, 0.95)
    assert report.finding("reconstruction_p95_ratio").value == pytest.approx(ratio)
    count = int((live > np.quantile(reference, 0.99, method="higher")).sum())
    anomalies = report.finding("anomaly_rate")
    assert anomalies.details["count"] == count
    expected = stats.binomtest(count, WINDOW, 0.01, alternative="greater").pvalue
    assert anomalies.details["binomialPValue"] == pytest.approx(expected)


@pytest.mark.parametrize("samples", [400, 2000])
def test_the_anomaly_rate_alarms_as_stated_however_few_validation_samples(samples: int) -> None:
    """The binomial test takes the threshold for exact and alarms too often with 400 validation samples."""
    rng, ours, binomial = np.random.default_rng(samples), [], []
    for _ in range(240):
        fitted = AutoencoderBaseline.fit(rng.gamma(4.0, 0.01, samples), window=100, quantile=0.97)
        finding = judged(fitted, rng.gamma(4.0, 0.01, 100)).finding("anomaly_rate")
        ours.append(finding.p_value)
        binomial.append(finding.details["binomialPValue"])
    assert np.mean(np.array(ours) <= 0.02) < 0.02 + 0.036  # 4 sd of 240 independent references
    if samples == 400:
        assert np.mean(np.array(binomial) <= 0.02) > np.mean(np.array(ours) <= 0.02)


def test_false_alarm_rates_of_mean_and_tail() -> None:
    rng, seen = np.random.default_rng(5), []
    for _ in range(80):
        fitted = AutoencoderBaseline.fit(rng.gamma(4.0, 0.01, 2000), window=100, quantile=0.99)
        seen += [judged(fitted, rng.gamma(4.0, 0.01, 100)).p_values for _ in range(10)]
    for measure in ("reconstruction_mean", "reconstruction_p95_ratio"):
        rate = np.mean([p_values[measure] <= 0.05 for p_values in seen])
        assert 0.01 < rate < 0.1, measure  # 800 windows of 80 references


def test_undrifted_is_healthy_and_worse_is_not(baseline: AutoencoderBaseline) -> None:
    reports = DisjointWindows(baseline).update(errors(30 * WINDOW, 3))
    assert sum(report.state(ALPHA) is HealthState.UNHEALTHY for report in reports) <= 1  # two: probability .0004
    worse = judged(baseline, errors(WINDOW, 4) * 1.5)
    assert worse.state(ALPHA) is HealthState.UNHEALTHY
    assert {f.measure for f in worse.alarming(ALPHA)} >= {"reconstruction_mean", "reconstruction_p95_ratio"}


def test_a_few_very_bad_samples_are_seen_by_the_anomaly_rate(baseline: AutoencoderBaseline) -> None:
    live = errors(WINDOW, 5)
    live[:16] = 0.12
    report = judged(baseline, live)
    assert report.alarming(ALPHA)[0].measure == "anomaly_rate"
    assert "of 200 samples" in report.alarming(ALPHA)[0].reason


def test_better_is_no_alarm(baseline: AutoencoderBaseline) -> None:
    assert judged(baseline, errors(WINDOW, 6) * 0.5).state(ALPHA) is HealthState.HEALTHY


def test_the_share_within_the_objective_informs_but_never_alarms(baseline: AutoencoderBaseline) -> None:
    with_objective = baseline.with_objective(within=baseline.error_at(90), objective=95.0, anomaly_rate=5.0)
    live = errors(WINDOW, 7)
    report = judged(with_objective, live)
    finding = report.finding("within_objective")
    assert finding.p_value is None
    assert finding.value == pytest.approx((live <= np.quantile(errors(20 * WINDOW, 1), 0.9)).mean(), abs=0.011)
    assert finding.expected == pytest.approx(0.9, abs=1e-3)
    assert "the objective is 95.00%" in finding.reason
    expected = stats.binomtest(finding.details["count"], WINDOW, 0.95, alternative="less").pvalue
    assert finding.details["binomialPValue"] == pytest.approx(expected)
    assert report.finding("anomaly_rate").details["statedRate"] == 0.05


def test_errors_that_are_log_likelihoods_may_be_negative() -> None:
    x = np.random.default_rng(0).normal(-40.0, 3.0, 2400)
    baseline = AutoencoderBaseline.fit(x[:2000], window=200)
    assert judged(baseline, x[2000:2200]).state(ALPHA) is HealthState.HEALTHY
    worse = judged(baseline, x[2200:] + 3.0)
    assert worse.finding("reconstruction_mean").p_value < ALPHA
    assert worse.finding("reconstruction_p95").unit == "model"  # a ratio to a negative number says nothing


def test_non_finite_and_insufficient(baseline: AutoencoderBaseline) -> None:
    x = errors(WINDOW, 8)
    x[:40] = np.nan
    report = judged(baseline, x)
    assert (report.samples, report.non_finite) == (160, 40)
    assert report.alarming(ALPHA)[0].measure == "non_finite"
    few = judged(baseline, errors(20, 8))
    assert few.state(ALPHA) is HealthState.INSUFFICIENT_DATA
    assert judged(baseline, errors(0, 8)).state(ALPHA) is HealthState.INSUFFICIENT_DATA


def test_batches_of_either_shape(baseline: AutoencoderBaseline) -> None:
    x = errors(WINDOW, 9)
    window = baseline.new_window()
    window.update(x[:70])
    window.update(x[70:, None])
    assert baseline.judge(window).to_json() == judged(baseline, x).to_json()


def test_stored_and_loaded(baseline: AutoencoderBaseline) -> None:
    arrays, meta = baseline.to_arrays()
    again = AutoencoderBaseline.from_arrays(arrays, json.loads(json.dumps(meta)))
    assert judged(again, errors(WINDOW, 9)).to_json() == judged(baseline, errors(WINDOW, 9)).to_json()
    json.dumps(judged(again, errors(WINDOW, 9)).to_json(), allow_nan=False)


def test_a_quantile_without_samples_behind_it_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"beyond the 0.99 quantile lie 4 of 400.*use a quantile of at most 0.975"):
        AutoencoderBaseline.fit(errors(400, 1), window=100)


def test_real_digits(digits: Any, vae: Callable[[float], Any]) -> None:
    model = vae(1.0)
    baseline = AutoencoderBaseline.fit(model.errors(digits.validation), window=80, quantile=0.98)
    rng = np.random.default_rng(1)
    noisy = np.clip(digits.live[:80] + rng.normal(0, 0.3, (80, 64)), 0, 1).astype(np.float32)
    assert judged(baseline, model.errors(digits.live[:80])).state(ALPHA) is HealthState.HEALTHY
    assert judged(baseline, model.errors(noisy)).finding("anomaly_rate").p_value < 1e-6
