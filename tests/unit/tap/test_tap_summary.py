"""`/summary`: what of the tap's documents the operator gets to see, and that it stays small.

Covered: traffic with and without calls, buckets of several series, probes of each outcome, alarms in the order of their
raising, alarms whose words are lost, health problems, limits of every list and text.
"""

import httpx
import pytest
from fastapi import FastAPI

from latentry_serving.contract.bundle_report import BundleReport, OperationProbe, ProbesReport
from latentry_serving.contract.drift_report import (
    DriftAlarm,
    DriftReport,
    DriftState,
    HealthMeasure,
    HealthPart,
    HealthState,
    ModelHealth,
    ScoreProbes,
    StatisticDrift,
    TensorDrift,
    Watching,
)
from latentry_serving.contract.metrics import BundleState, CallKind, Outcome, ProbeOutcome, Protocol
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.contract.tap_summary import MOST_ENTRIES, TapSummary
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import Call
from latentry_serving.tap.monitoring import MonitoringDesk
from latentry_serving.tap.slis import slis
from latentry_serving.tap.summary import (
    bundle_summary,
    drift_summary,
    health_summary,
    probes_summary,
    summary_router,
    traffic_summary,
)


def alarm(tensor: str, statistic: str, raised: float) -> DriftAlarm:
    return DriftAlarm(
        tensor=tensor,
        statistic=statistic,
        rule="cusum",
        since_seconds=raised - 60,
        raised_seconds=raised,
        value=9.0,
        threshold=5.0,
        window_size=500,
        looks_like="shift",
        magnitude=0.5,
        nearest=None,
        dimensions=[],
        text="long\nstory",
        event=f"{tensor} {statistic} " + "x" * 1000,
    )


def drift(*alarms: DriftAlarm | None) -> DriftReport:
    def statistic(found: DriftAlarm | None) -> StatisticDrift:
        return StatisticDrift(
            statistic="mean",
            state=DriftState.ALARM,
            score=1.0,
            p_value=0.0,
            window_size=500,
            evidence=0.0,
            alpha=1e-6,
            cusum_k=0.5,
            cusum_h=5.0,
            windows=3,
            alarm=found,
        )

    tensor = TensorDrift(
        tensor="embedding",
        held=0,
        windows=3,
        insufficient_windows=0,
        seconds_since_full_window=1.0,
        window_seconds=10.0,
        statistics=[statistic(one) for one in alarms],
    )
    return DriftReport(
        state=Watching.WATCHING,
        detail="",
        alarm=bool(alarms),
        sufficient=True,
        window=500,
        expected_run_time_seconds=3600.0,
        replicas=1,
        tensors=[tensor],
    )


@pytest.fixture
def book() -> SliBook:
    book = SliBook((0.01, 0.1), ["encode", "other"], started_s=90.0)
    for operation, outcome, seconds in (
        ("encode", Outcome.OK, 2**-7),
        ("encode", Outcome.OK, 2**-4),
        ("other", Outcome.OK, 0.5),
        ("encode", Outcome.SERVER_ERROR, 5.0),
        ("management", Outcome.OK, 0.001),
    ):
        call = Call(Protocol.GRPC, operation, CallKind.UNARY, started_s=100.0 - seconds)
        book.call_started(call)
        call.first_response_s, call.last_response_s, call.outcome = 100.0, 100.0, outcome
        book.call_finished(call)
    book.settle()
    return book


def test_traffic_adds_up_all_inference(book: SliBook) -> None:
    figures = slis(book, model="m", version="1", digest=None, now_s=100.0)
    found = traffic_summary(figures, book)
    assert (found.outcomes[Outcome.OK], found.outcomes[Outcome.SERVER_ERROR]) == (3, 1)
    assert found.latency_bounds_seconds == [0.01, 0.1]
    assert found.latency_counts == [1, 2]
    assert (found.recent_requests, found.recent_faults) == (4, 1)
    assert found.recent_p99_seconds == pytest.approx(0.5, rel=0.01)


def test_alarms_come_in_the_order_of_their_raising_and_are_bounded() -> None:
    found = drift_summary(drift(*(alarm("embedding", f"s{number:02}", 1000.0 - number) for number in range(30))))
    assert len(found.alarms) == MOST_ENTRIES
    assert [one.raised_seconds for one in found.alarms] == [1000.0 - number for number in range(29, 13, -1)]
    assert all(len(one.event) <= 400 for one in found.alarms)


def test_an_alarm_whose_words_are_lost_is_an_alarm() -> None:
    found = drift_summary(drift(None))
    assert (found.alarm, found.alarms) == (True, [])


def test_health_tells_the_measures_that_alarm() -> None:
    def measure(name: str, since: float | None) -> HealthMeasure:
        return HealthMeasure(
            measure=name, value=1.0, expected=0.5, unit="nat", p_value=0.0, reason="", details={},
            alarm_since_seconds=since,
        )  # fmt: skip

    part = HealthPart(
        part="posterior", state=HealthState.UNHEALTHY, window=500, held=0, windows=2, insufficient_windows=0,
        seconds_since_full_window=0.0, alpha=1e-6, samples=500, non_finite=0, notes=[],
        measures=[measure("kl", 20.0), measure("fine", None), measure("active_units", 10.0)],
    )  # fmt: skip
    report = ModelHealth(
        state=Watching.WATCHING, detail="", family="VAE", verdict=HealthState.UNHEALTHY, parts=[part], scores=None,
        score_probes=ScoreProbes(wanted=False, answered=0, failed=0, last_failure=""),
    )  # fmt: skip
    found = health_summary(report)
    assert found.verdict is HealthState.UNHEALTHY
    assert [(one.part, one.measure) for one in found.problems] == [("posterior", "active_units"), ("posterior", "kl")]


def test_probes_by_outcome() -> None:
    def probe(operation: Operation, outcome: ProbeOutcome | None) -> OperationProbe:
        return OperationProbe(
            operation=operation, outcome=outcome, detail="why", largest_error=None, determinism_error=None,
            last_run_timestamp_seconds=None, duration_seconds=None, outcomes={},
        )  # fmt: skip

    operations = [
        probe(Operation.ENCODE, ProbeOutcome.PASSED),
        probe(Operation.DECODE, None),
        probe(Operation.SCORE, ProbeOutcome.NON_FINITE),
    ]
    found = probes_summary(ProbesReport(passed=False, postponed={}, operations=operations))
    (failure,) = found.failures
    assert (found.waiting, found.passed) == (1, 1)
    assert (failure.operation, failure.outcome, failure.detail) == (Operation.SCORE, ProbeOutcome.NON_FINITE, "why")


def test_a_refused_bundle_says_why_in_few_words() -> None:
    digest = "sha256:" + "0" * 64
    report = BundleReport(
        state=BundleState.REFUSED, version="7", digest=digest, promised=None, bytes=12,
        problems=["y" * 5000] * 50, models={},
    )  # fmt: skip
    found = bundle_summary(report)
    assert (len(found.problems), len(found.problems[0])) == (MOST_ENTRIES, 400)


async def test_a_tap_without_a_bundle_serves_it_too(book: SliBook) -> None:
    desk = MonitoringDesk(TapConfig(model="m", version="1", sampling={"max_per_second": 10}), lambda: 0.0)
    app = FastAPI()
    figures = slis(book, model="m", version="1", digest=None, now_s=100.0)
    app.include_router(summary_router(lambda: figures, book, desk.report, None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tap") as client:
        answer = await client.get("/summary")
    found = TapSummary.model_validate_json(answer.content)
    assert (found.model, found.bundle, found.probes) == ("m", None, None)
    assert found.drift.state is Watching.NO_BUNDLE
    assert not found.drift.sufficient
    assert len(answer.content) < 4096
    assert "recentP99Seconds" in answer.json()["traffic"]
