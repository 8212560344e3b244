"""SLOMet: every reason, what is rounded how, and that no data is never a kept objective."""

import pytest
from tap_samples import tap_summary, traffic

from latentry_operator.api.objectives import Slo
from latentry_operator.api.status import ConditionStatus
from latentry_operator.plan.tap_facts import LastMinute, TapFacts, coarse, last_minute
from latentry_operator.status.budgets import rounded
from latentry_operator.status.facts import Budget, ModelFacts, SloFacts
from latentry_operator.status.finding import Finding
from latentry_operator.status.objectives import objectives, slo_met

SLO = Slo.model_validate({"availability": 99.9, "latency": [{"within": "50ms", "objective": 99}]})
LATENCY, AVAILABILITY = Budget("latency-50ms", 0.6), Budget("availability", 0.95, 1.0)
BEFORE = Finding("SLOMet", ConditionStatus.TRUE, "ObjectivesMet", "as it was")


def asked(*budgets: Budget) -> SloFacts:
    return SloFacts(watched=True, asked=True, budgets=budgets)


@pytest.mark.parametrize(
    ("known", "status", "reason", "part"),
    [
        (
            asked(AVAILABILITY, LATENCY),
            "True",
            "ObjectivesMet",
            "latency-50ms: at least 60% of the error budget is left",
        ),
        (asked(AVAILABILITY), "Unknown", "NoData", "no series of latency-50ms"),
        (asked(), "Unknown", "NoData", "no series of availability, latency-50ms"),
        (asked(AVAILABILITY, Budget("latency-50ms", 0.0)), "False", "BudgetExhausted", "budget is used up"),
        (
            asked(Budget("latency-50ms", -0.4, 20)),
            "False",
            "BudgetExhausted",
            "overdrawn by up to 40%, and goes up to 20",
        ),
        (asked(Budget("latency-50ms", -3.0)), "False", "BudgetExhausted", "no data of availability"),
        (SloFacts(watched=True, asked=True, problem="no answer"), "Unknown", "PrometheusUnreachable", "no answer"),
        (SloFacts(watched=True), "Unknown", "NotEvaluated", "not been asked"),
        (SloFacts(), "Unknown", "NoPrometheus", "cluster.prometheusUrl is empty"),
        (
            SloFacts(last_minute=LastMinute(0.01, 0.05)),
            "Unknown",
            "NoPrometheus",
            "at most 1% of the requests failed by the server's fault, 99 % took at most 50ms",
        ),
    ],
)
def test_slo_met(known: SloFacts, status: str, reason: str, part: str) -> None:
    found = slo_met(ModelFacts(generation=1, slo=SLO, budgets=known), None)
    assert (found.status, found.reason) == (status, reason)
    assert part in found.message


def test_without_objectives_nobody_is_asked() -> None:
    assert slo_met(ModelFacts(generation=1, slo=Slo(), budgets=asked(LATENCY)), BEFORE).reason == "NoObjectives"


def test_what_was_said_stands_until_somebody_was_asked() -> None:
    assert slo_met(ModelFacts(generation=1, slo=SLO, budgets=SloFacts(watched=True)), BEFORE) == BEFORE
    words = Finding("SLOMet", ConditionStatus.UNKNOWN, "NoPrometheus", "at most 1% failed")
    assert slo_met(ModelFacts(generation=1, slo=SLO), words) == words
    assert slo_met(ModelFacts(generation=1, slo=SLO), BEFORE).reason == "NoPrometheus"


def test_the_labels_are_those_of_the_recorded_series() -> None:
    quality = {"quality": {"objective": 95, "anomalyRate": 1}}
    slo = Slo.model_validate({"availability": 99.9, "latency": [{"within": "500us", "objective": 99}]} | quality)
    assert list(objectives(slo)) == ["availability", "latency-500us", "quality", "anomaly-rate"]


@pytest.mark.parametrize(
    ("before", "value", "expected"),
    [
        (None, 0.0, 0.01),
        (None, 0.01, 0.01),
        (None, 0.011, 0.1),
        (None, 7.0, 1.0),
        (0.01, 0.011, 0.1),
        (0.1, 0.009, 0.1),
        (0.1, 0.005, 0.01),
        (1.0, 0.02, 0.1),
        (1.0, 0.001, 0.01),
    ],
)
def test_a_rounded_number_rises_at_once_and_falls_late(before: float | None, value: float, expected: float) -> None:
    assert coarse(before, value, (0.01, 0.1, 1.0)) == expected


@pytest.mark.parametrize(
    ("before", "remaining", "expected"),
    [
        (None, 1.0, 1.0),
        (None, 0.999, 0.95),
        (0.95, 0.99, 0.95),
        (0.9, 0.96, 0.9),
        (0.9, 0.98, 0.95),
        (0.05, 0.001, 0.0),
        (0.0, -0.001, -0.05),
        (-0.05, 0.02, -0.05),
        (-0.05, 0.03, 0.0),
        (None, -3.5, -4.0),
        (-4.0, -2.9, -4.0),
        (None, float("-inf"), -1e6),
    ],
)
def test_budgets_fall_at_once_and_rise_late(before: float | None, remaining: float, expected: float) -> None:
    known = Budget("x", before) if before is not None else None
    assert rounded(known, "x", remaining, None).remaining == pytest.approx(expected)


def pod(requests: int, faults: int = 0, p99: float | None = None, *, ready: bool = True, silence: str = "") -> TapFacts:
    return TapFacts("p", "r", ready, tap_summary(traffic=traffic(requests, faults, p99)), silence)


def test_the_last_minute_is_that_of_all_ready_pods() -> None:
    assert last_minute(None, [pod(100, 0, 0.003), pod(100, 4, 0.3)]) == LastMinute(0.1, 0.5)
    assert last_minute(None, [pod(100, 0, 0.003), pod(100, 50, 0.3, ready=False)]) == LastMinute(0.01, 0.005)
    assert last_minute(None, [pod(100, 100), pod(100, 0, silence="gone")]) == LastMinute(1.0, None)


def test_too_few_requests_change_nothing() -> None:
    before = LastMinute(0.01, 0.05)
    assert last_minute(before, [pod(19, 19)]) == before
    assert last_minute(None, []) is None
