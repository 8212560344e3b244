"""Objectives as rules: what counts, how thresholds are derived, which series are read, alerts and their texts.

How the rules behave over time is promtool's to show: tests/wire/prometheus.
"""

import re
from typing import Any

import pytest

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.parse import parse_resource
from latentry_operator.plan.planner import latency_buckets
from latentry_operator.slo import names
from latentry_operator.slo.compile import model_rules
from latentry_operator.slo.names import AlertName, Severity
from latentry_operator.slo.types import Alert, Recording, RuleSettings
from latentry_serving.contract import metrics


def model(slo: dict[str, Any], **spec: Any) -> LatentModel:
    data = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "LatentModel",
        "metadata": {"name": "m", "namespace": "demo"},
        "spec": {"family": "VAE", "bundle": {"uri": "s3://m", "digest": "sha256:" + "ab" * 32}, "slo": slo} | spec,
    }
    found = parse_resource(data, subject="m")
    assert isinstance(found, LatentModel)
    return found


def rules(slo: dict[str, Any], namespace: str | None = "demo", **spec: Any) -> list[Recording | Alert]:
    groups = model_rules(model(slo, **spec), RuleSettings(), namespace)
    return [rule for group in groups for rule in group.rules]


def recorded(slo: dict[str, Any], record: str, label: str) -> Recording:
    found = [r for r in rules(slo) if isinstance(r, Recording) and r.record == record and r.labels[names.SLO] == label]
    (one,) = found
    return one


def burns(slo: dict[str, Any], label: str) -> list[Alert]:
    return [rule for rule in rules(slo) if isinstance(rule, Alert) and rule.labels.get(names.SLO) == label]


def test_availability_counts_inference_and_the_servers_faults() -> None:
    slo = {"availability": 99.9}
    errors = recorded(slo, names.ERROR_EVENTS_RATE, "availability").expr
    series = 'latentry_requests_total{namespace="demo",model="m",kind="unary",operation!="management"'
    faults = "deadline_exceeded|reset|server_error|upstream_unavailable"
    assert errors == f'sum(rate({series},outcome=~"{faults}"}}[5m]))'
    assert recorded(slo, names.EVENTS_RATE, "availability").expr == f"sum(rate({series}}}[5m]))"


@pytest.mark.parametrize("within", ["1us", "750us", "50ms", "1s", "90s", "1h"])
def test_latency_reads_a_bucket_that_the_tap_has(within: str) -> None:
    slo = {"latency": [{"within": within, "objective": 99}]}
    errors = recorded(slo, names.ERROR_EVENTS_RATE, f"latency-{model(slo).spec.slo.latency[0].within}").expr
    (bound,) = re.findall(r'le="([^"]+)"', errors)
    assert bound in {repr(float(one)) for one in latency_buckets((0.1,), model(slo).spec.slo)}


def test_quality_and_anomalies() -> None:
    slo = {"quality": {"reconstructionErrorWithin": "p99", "objective": 95, "anomalyRate": 0.5}}
    assert recorded(slo, names.OBJECTIVE, "quality").expr == "vector(0.95)"
    assert recorded(slo, names.OBJECTIVE, "anomaly-rate").expr == "vector(0.995)"
    assert metrics.SCORED_SAMPLES_WITHIN_THRESHOLD_TOTAL in recorded(slo, names.ERROR_EVENTS_RATE, "quality").expr
    assert metrics.ANOMALOUS_SAMPLES_TOTAL in recorded(slo, names.ERROR_EVENTS_RATE, "anomaly-rate").expr
    assert {alert.severity for alert in burns(slo, "quality")} == {Severity.TICKET}


def test_long_windows_read_recorded_series_only() -> None:
    for rule in rules({"availability": 99.9, "latency": [{"within": "50ms", "objective": 99}]}):
        if not isinstance(rule, Recording):
            continue
        raw = set(re.findall(r"latentry_\w+\{[^}]*\}\[(\w+)\]", rule.expr))
        assert raw <= {"5m", "30m", "1h"}, rule


def test_thresholds_show_how_they_came_about() -> None:
    alerts = burns({"availability": 99.95}, "availability")
    found = [re.findall(r"> \(([^)]*)\)", alert.expr) for alert in alerts]
    assert found == [[f"{rate} * 0.0005"] * 2 for rate in ("14.4", "6", "3", "1")]
    assert [alert.labels["window"] for alert in alerts] == ["1h", "6h", "1d", "3d"]


def test_a_loose_objective_can_still_alert() -> None:
    """14.4 times a budget of 20 % would be 288 % of the requests."""
    page = burns({"availability": 80}, "availability")[0]
    assert "> 0.9\n" in page.expr
    assert "4.5 times as fast" in page.summary
    assert "this alert is on above 90 %" in page.description


def test_errors_are_counted_with_the_interval_of_their_recording() -> None:
    settings = RuleSettings(minimum_errors=20)
    groups = model_rules(model({"availability": 99}), settings, "demo")
    (page, *_) = [rule for group in groups for rule in group.rules if isinstance(rule, Alert)]
    assert page.expr.endswith("[1h]) * 30 > 19.5")
    assert groups[0].interval == settings.every


def test_on_one_machine_nothing_has_a_namespace() -> None:
    everything = rules({"availability": 99.9, "quality": {}}, namespace=None)
    texts = [rule.expr for rule in everything] + [str(dict(rule.labels)) for rule in everything]
    assert not [text for text in texts if "namespace" in text or "latentry_operator" in text]
    cluster_only = {AlertName.MODEL_UNAVAILABLE, AlertName.ROLLOUT_STUCK}
    assert not cluster_only & {rule.name for rule in everything if isinstance(rule, Alert)}


def test_without_objectives_the_other_alerts_remain() -> None:
    (group,) = model_rules(model({}), RuleSettings(), "demo")
    assert {rule.name for rule in group.rules if isinstance(rule, Alert)} == set(AlertName) - {
        AlertName.ERROR_BUDGET_BURN,
        AlertName.GPU_POOL_EXHAUSTED,
        AlertName.OPERATOR_DOWN,
    }


@pytest.mark.parametrize(
    ("gate", "alert"), [("golden", AlertName.GOLDEN_PROBE_FAILING), ("drift", AlertName.DRIFT)], ids=str
)
def test_an_alert_waits_for_the_rollout_only_where_its_gate_watches(gate: str, alert: AlertName) -> None:
    for on in (True, False):
        found = rules({}, rollout={"gates": {gate: on}})
        (one,) = [rule for rule in found if isinstance(rule, Alert) and rule.name is alert]
        assert ('type="Progressing"' in one.expr) is on


def test_names_of_series_are_those_agreed() -> None:
    slo = {"availability": 99.9}
    found = {rule.record for rule in rules(slo) if isinstance(rule, Recording)}
    assert found == {
        *(f"latentry:slo_errors:ratio_rate{window}" for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")),
        "latentry:slo_errors:ratio_period",
        "latentry:slo_events:rate5m",
        "latentry:slo_error_events:rate5m",
        "latentry:slo_objective:ratio",
        "latentry:slo_period:seconds",
        "latentry:slo_error_budget_remaining:ratio",
        "latentry:slo_burn_rate:ratio",
    }
