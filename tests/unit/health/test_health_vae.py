"""VAE health: divergences against torch, Monte Carlo and closed forms; collapse on purpose; real digits."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.report import DisjointWindows, HealthReport, HealthState
from latentry_serving.health.vae import (
    ACTIVE_VARIANCE,
    VaeBaseline,
    VaeWindow,
    frechet_distance,
    gaussian_kl,
    kl_per_dimension,
)  # fmt: skip

ALPHA = 1e-3
Posterior = tuple[np.ndarray, np.ndarray]


def posterior(n: int, seed: int, variances: np.ndarray) -> Posterior:
    """Posterior means that vary by ``variances`` over inputs, noise so that the aggregate is about the prior."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, len(variances))) * np.sqrt(variances)
    return mean, np.log(1 - 0.9 * variances) + 0.1 * rng.normal(size=mean.shape)


VARIANCES = np.array([0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.0101, 0.0004])


def judged(baseline: VaeBaseline, sample: Posterior) -> HealthReport:
    window = baseline.new_window()
    window.update(*sample)
    return baseline.judge(window)


@pytest.fixture(scope="module")
def baseline() -> VaeBaseline:
    return VaeBaseline.fit(*posterior(4000, 1, VARIANCES), window=200)


def test_kl_per_dimension_is_torchs() -> None:
    mean, log_variance = posterior(50, 3, VARIANCES)
    theirs = kl_divergence(
        Normal(torch.from_numpy(mean), torch.from_numpy(log_variance / 2).exp()), Normal(0.0, 1.0)
    ).numpy()
    np.testing.assert_allclose(kl_per_dimension(mean, log_variance), theirs, rtol=1e-6, atol=1e-12)


def test_gaussian_kl_against_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5)) * 0.5 + np.eye(5)
    mean, covariance = rng.normal(size=5), root @ root.T
    ours, prior = stats.multivariate_normal(mean, covariance), stats.multivariate_normal(np.zeros(5), np.eye(5))
    draws = ours.rvs(200_000, random_state=1)
    ratio = ours.logpdf(draws) - prior.logpdf(draws)
    assert gaussian_kl(mean, covariance) == pytest.approx(ratio.mean(), abs=5 * ratio.std() / np.sqrt(len(ratio)))
    diagonal = np.diagonal(covariance)
    assert gaussian_kl(mean, diagonal.copy()) == pytest.approx(gaussian_kl(mean, np.diag(diagonal)))
    assert gaussian_kl(mean, diagonal.copy()) <= gaussian_kl(mean, covariance)  # a lower bound


def test_the_aggregate_posterior_has_the_mixtures_moments() -> None:
    """Cov(mu) + diag(mean sigma²) is the covariance of draws from the posteriors themselves."""
    mean, log_variance = posterior(300, 4, VARIANCES)
    window = VaeWindow(len(VARIANCES))
    window.update(mean, log_variance)
    rng, draws = np.random.default_rng(5), []
    for _ in range(400):
        draws.append(mean + np.exp(log_variance / 2) * rng.normal(size=mean.shape))
    sampled = np.concatenate(draws)
    moments = window.moments()
    np.testing.assert_allclose(moments.aggregate_mean, sampled.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(moments.aggregate_covariance, np.cov(sampled.T), atol=0.03)


def test_frechet_against_closed_forms() -> None:
    rng = np.random.default_rng(0)
    m1, m2, s1, s2 = rng.normal(size=6), rng.normal(size=6), rng.random(6) + 0.1, rng.random(6) + 0.1
    # Gaussians that commute: |m1 - m2|² + sum (sqrt s1 - sqrt s2)², whatever the common rotation
    rotation = stats.ortho_group.rvs(6, random_state=1)
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(s1) - np.sqrt(s2)) ** 2).sum()
    found = frechet_distance(m1, rotation * s1 @ rotation.T, m2, rotation * s2 @ rotation.T)
    assert found == pytest.approx(expected)
    a, b = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    a, b = a @ a.T, b @ b.T
    # 2 x 2: tr (AB)^½ = sqrt(tr AB + 2 sqrt(det AB))
    cross = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    zero = np.zeros(2)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(np.trace(a) + np.trace(b) - 2 * cross)
    assert frechet_distance(zero, a, zero, a) == pytest.approx(0, abs=1e-9)


def test_active_units_are_burdas(baseline: VaeBaseline) -> None:
    mean, log_variance = posterior(200, 6, VARIANCES)
    report = judged(baseline, (mean, log_variance))
    assert report.finding("active_units").value == (mean.var(axis=0, ddof=1) > ACTIVE_VARIANCE).sum()
    assert report.finding("kl_total").value == pytest.approx(kl_per_dimension(mean, log_variance).sum(axis=1).mean())


def test_a_unit_near_the_cut_does_not_flicker(baseline: VaeBaseline) -> None:
    counts, alarms = set(), 0
    for report in DisjointWindows(baseline).update(*posterior(40 * 200, 7, VARIANCES)):
        counts.add(report.finding("active_units").value)
        alarms += report.finding("active_units").p_value < ALPHA
    assert counts == {6.0, 7.0}  # the bare count does flicker
    assert alarms <= 1  # P(two of 40 at 1e-3) < .001


def test_undrifted_windows_alarm_at_the_stated_rate() -> None:
    seen = []
    for reference in range(60):
        fitted = VaeBaseline.fit(*posterior(2000, 100 + reference, VARIANCES), window=100)
        mean, log_variance = posterior(1000, 500 + reference, VARIANCES)
        seen += [report.p_values for report in DisjointWindows(fitted).update(mean, log_variance)]
    for measure in ("kl_total", "aggregate_posterior_kl", "active_units", "posterior_collapse"):
        rate = np.mean([p_values[measure] <= 0.05 for p_values in seen])
        assert rate < 0.1, measure  # 600 windows of 60 references: sd of the rate below .015


def test_lost_units_are_named_and_half_of_them_are_a_collapse(baseline: VaeBaseline) -> None:
    one = VARIANCES.copy()
    one[2] = 1e-4
    report = judged(baseline, posterior(200, 8, one))
    assert report.finding("active_units").p_value < 1e-6
    assert report.finding("active_units").details["lost"] == [2]
    assert report.finding("posterior_collapse").p_value > 0.05
    half = VARIANCES.copy()
    half[:4] = 1e-4
    report = judged(baseline, posterior(200, 8, half))
    assert report.finding("posterior_collapse").p_value < 1e-6
    assert "4 of 6 active units stopped answering" in report.text(ALPHA)


def test_streaming_in_batches_and_non_finite_rows(baseline: VaeBaseline) -> None:
    mean, log_variance = posterior(200, 9, VARIANCES)
    whole, pieces = baseline.new_window(), baseline.new_window()
    whole.update(mean, log_variance)
    for start in range(0, 120, 7):
        stop = min(120, start + 7)
        pieces.update(mean[start:stop].astype(np.float32), log_variance[start:stop].astype(np.float32))
    bad = log_variance[120:122].copy()
    bad[0, 3], bad[1, 3] = 1e4, np.nan
    pieces.update(mean[120:122], bad)
    pieces.update(mean[120:], log_variance[120:])
    assert (pieces.seen, pieces.samples, pieces.non_finite) == (202, 200, 2)
    np.testing.assert_allclose(pieces.moments().measures(), whole.moments().measures(), rtol=1e-4)


def test_many_latents_use_a_diagonal_and_little_memory() -> None:
    variances = np.full(1024, 0.3)
    fitted = VaeBaseline.fit(*posterior(400, 10, variances), window=50)
    report = judged(fitted, posterior(50, 11, variances))
    assert report.finding("aggregate_posterior_kl").details["covariance"] == "diagonal"
    assert sum(array.nbytes for array in fitted.to_arrays()[0].values()) < 1_000_000


def test_stored_and_loaded(baseline: VaeBaseline) -> None:
    arrays, meta = baseline.to_arrays()
    again = VaeBaseline.from_arrays(arrays, json.loads(json.dumps(meta)))
    sample = posterior(200, 12, VARIANCES)
    assert judged(again, sample).to_json() == judged(baseline, sample).to_json()
    json.dumps(judged(again, sample).to_json(), allow_nan=False)


def test_refusals_and_insufficient_data(baseline: VaeBaseline) -> None:
    mean, log_variance = posterior(400, 1, VARIANCES)
    with pytest.raises(InvalidInput, match="is not the posterior mean's"):
        VaeBaseline.fit(mean, log_variance[:, :3], window=100)
    with pytest.raises(InvalidInput, match="fewer than 4"):
        VaeBaseline.fit(mean, log_variance, window=101)
    assert judged(baseline, (mean[:30], log_variance[:30])).state(ALPHA) is HealthState.INSUFFICIENT_DATA


# --- scikit-learn's digits


@pytest.fixture(scope="module")
def of_digits(digits: Any, vae: Callable[[float], Any]) -> VaeBaseline:
    return VaeBaseline.fit(*vae(1.0).posterior(digits.validation), window=80)


def test_a_healthy_vae_is_not_called_collapsed(
    of_digits: VaeBaseline, digits: Any, vae: Callable[[float], Any]
) -> None:
    report = judged(of_digits, vae(1.0).posterior(digits.live[:80]))
    assert not of_digits.collapsed
    assert report.state(ALPHA) is HealthState.HEALTHY
    assert report.finding("posterior_collapse").value == 0.0


def test_a_vae_collapsed_on_purpose_is_called_collapsed(
    of_digits: VaeBaseline, digits: Any, vae: Callable[[float], Any]
) -> None:
    live = vae(50.0).posterior(digits.live[:80])
    against_healthy = judged(of_digits, live)
    assert against_healthy.finding("posterior_collapse").p_value < 1e-6
    assert against_healthy.finding("posterior_collapse").value == 1.0
    own = VaeBaseline.fit(*vae(50.0).posterior(digits.validation), window=80)
    assert own.collapsed
    assert "posterior collapse in the bundle itself" in judged(own, live).text(ALPHA)
    assert judged(own, live).state(ALPHA) is HealthState.UNHEALTHY
    assert "active_units" not in judged(own, live).p_values


def test_what_reconstruction_cannot_see_the_posterior_does(
    of_digits: VaeBaseline, digits: Any, vae: Callable[[float], Any]
) -> None:
    """Inputs scaled by .8, and one class only: reconstruction errors look fine, KL and aggregate posterior do not."""
    model = vae(1.0)
    reconstruction = AutoencoderBaseline.fit(model.errors(digits.validation), window=80, quantile=0.98)
    usual = judged(of_digits, model.posterior(digits.live[:80]))
    for images, measure in (
        (digits.live[:80] * np.float32(0.8), "kl_total"),
        (digits.only_one[:80], "aggregate_posterior_kl"),
    ):
        window = reconstruction.new_window()
        window.update(model.errors(images))
        assert reconstruction.judge(window).state(ALPHA) is HealthState.HEALTHY
        report = judged(of_digits, model.posterior(images))
        assert report.finding(measure).p_value < ALPHA
        assert report.state(ALPHA) is HealthState.UNHEALTHY
        if measure == "kl_total":  # 3.17 to 2.25 on the measured model: contrast carries information
            assert report.finding(measure).value < 0.85 * usual.finding(measure).value
        else:  # .04 to 1.8 there
            assert report.finding(measure).value > 5 * usual.finding(measure).value
