"""The spec's monitoring.golden reaches the tap; what else probes need stays as the settings have it."""

from typing import Any

from latentry_operator.plan.planner import plan
from latentry_operator.plan.types import PlanSettings
from latentry_serving.contract.tap_config import ProbeSettings, TapConfig


def test_as_often_as_the_spec_says(latent_model: Any, bundle: Any) -> None:
    base = TapConfig(probes=ProbeSettings(in_flight_limit=9))
    model = latent_model(monitoring={"golden": {"every": "5m"}})
    probes = plan(model, bundle(), PlanSettings(tap=base)).tap.probes
    assert (probes.every_seconds, probes.in_flight_limit) == (300, 9)


def test_every_minute_by_default(latent_model: Any, bundle: Any) -> None:
    assert plan(latent_model(), bundle(), PlanSettings()).tap.probes == ProbeSettings()
