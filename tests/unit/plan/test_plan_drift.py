"""The spec's monitoring and quality reach both bodies' taps: sampling, drift, and which reconstructions are good."""

from typing import Any

import pytest

from latentry_operator.plan.planner import drift, plan, quality, sampling
from latentry_operator.plan.types import PlanSettings
from latentry_serving.contract.tap_config import DriftSettings, QualitySettings, Sampling, TapConfig


def test_what_the_spec_says_on_top_of_the_settings(latent_model: Any, bundle: Any) -> None:
    base = TapConfig(drift=DriftSettings(max_wait_seconds=60, top_contributors=3), sampling=Sampling(max_bytes=9))
    model = latent_model(
        monitoring={"sampling": {"maxPerSecond": 7}, "drift": {"window": 200, "expectedRunTime": "7d"}},
        slo={"quality": {"reconstructionErrorWithin": "p95", "objective": 90}},
    )
    tap = plan(model, bundle(), PlanSettings(tap=base)).tap
    assert tap.drift == DriftSettings(
        window=200, expected_run_time_seconds=7 * 86_400, max_wait_seconds=60, top_contributors=3
    )
    assert tap.sampling == Sampling(max_per_second=7, max_bytes=9)
    assert tap.quality == QualitySettings(reconstruction_error_within="p95")


def test_defaults(latent_model: Any, bundle: Any) -> None:
    tap = plan(latent_model(), bundle(), PlanSettings()).tap
    assert (tap.drift.window, tap.drift.expected_run_time_seconds, tap.drift.replicas) == (500, 30 * 86_400, 1)
    assert tap.quality == QualitySettings()


@pytest.mark.parametrize("replicas", [1, 4])
def test_replicas_share_the_budget(latent_model: Any, replicas: int) -> None:
    spec = latent_model().spec
    assert drift(DriftSettings(), spec.monitoring, replicas).replicas == replicas
    assert sampling(Sampling(), spec.monitoring).max_per_second == 50
    assert quality(QualitySettings(), None) == QualitySettings()
