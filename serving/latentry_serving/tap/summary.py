"""`/summary` of the admin API: what the operator reads of this pod."""

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from fastapi import APIRouter

from latentry_serving.contract.bundle_report import BundleReport, ProbesReport
from latentry_serving.contract.drift_report import DriftReport, ModelHealth, MonitoringReport
from latentry_serving.contract.metrics import SERVER_FAULTS, ProbeOutcome
from latentry_serving.contract.slis import Slis
from latentry_serving.contract.tap_summary import (
    MOST_ENTRIES,
    AlarmSummary,
    BundleSummary,
    DriftSummary,
    HealthProblem,
    HealthSummary,
    ProbeFailure,
    ProbesSummary,
    TapSummary,
    TrafficSummary,
)
from latentry_serving.sli.book import SliBook
from latentry_serving.tap.bundle_views import bundle_report, probes_report

if TYPE_CHECKING:
    from latentry_serving.tap.bundle_watch import BundleWatch

_LONGEST = 400
"""Of a text that comes from outside, characters."""


def summary_router(
    slis: Callable[[], Slis],
    book: SliBook,
    monitoring: Callable[[], MonitoringReport],
    watch: "BundleWatch | None",
) -> APIRouter:
    """What every tap serves, with a bundle or without.

    Args:
        slis: figures of the moment; the book behind them is settled then.
    """
    router = APIRouter()

    @router.get("/summary", response_model_by_alias=True)
    async def summary() -> TapSummary:
        report, figures = monitoring(), slis()
        return TapSummary(
            model=figures.model,
            version=figures.version,
            digest=figures.digest,
            uptime_seconds=figures.uptime_seconds,
            traffic=traffic_summary(figures, book),
            bundle=bundle_summary(bundle_report(watch)) if watch is not None else None,
            probes=probes_summary(probes_report(watch)) if watch is not None else None,
            drift=drift_summary(report.drift),
            health=health_summary(report.health),
        )

    return router


def bundle_summary(report: BundleReport) -> BundleSummary:
    """The bundle in short."""
    return BundleSummary(
        state=report.state, bytes=report.bytes, problems=[text[:_LONGEST] for text in report.problems[:MOST_ENTRIES]]
    )


def probes_summary(report: ProbesReport) -> ProbesSummary:
    """The probes in short."""
    outcomes = [entry.outcome for entry in report.operations]
    return ProbesSummary(
        waiting=outcomes.count(None),
        passed=outcomes.count(ProbeOutcome.PASSED),
        failures=[
            ProbeFailure(operation=entry.operation, outcome=entry.outcome, detail=entry.detail[:_LONGEST])
            for entry in report.operations
            if entry.outcome is not None and entry.outcome is not ProbeOutcome.PASSED
        ],
    )


def traffic_summary(slis: Slis, book: SliBook) -> TrafficSummary:
    """The figures in short."""
    recent = slis.inference.recent
    series = [one.latency for one in book.inference_series]
    counts = [sum(column) for column in zip(*(one.counts for one in series), strict=True)]
    return TrafficSummary(
        outcomes=slis.inference.total.outcomes,
        latency_bounds_seconds=list(series[0].bounds) if series else [],
        latency_counts=list(accumulate(counts[:-1])),
        recent_requests=recent.requests,
        recent_faults=sum(recent.outcomes.get(outcome, 0) for outcome in SERVER_FAULTS),
        recent_p99_seconds=recent.latency_seconds.p99,
    )


def drift_summary(report: DriftReport) -> DriftSummary:
    """Drift in short."""
    alarms = [one.alarm for tensor in report.tensors for one in tensor.statistics if one.alarm is not None]
    alarms.sort(key=lambda alarm: (alarm.raised_seconds, alarm.tensor, alarm.statistic))
    return DriftSummary(
        state=report.state,
        detail=report.detail[:_LONGEST],
        alarm=report.alarm,
        sufficient=report.sufficient,
        alarms=[
            AlarmSummary(
                tensor=alarm.tensor,
                statistic=alarm.statistic,
                since_seconds=alarm.since_seconds,
                raised_seconds=alarm.raised_seconds,
                looks_like=alarm.looks_like,
                event=alarm.event[:_LONGEST],
            )
            for alarm in alarms[:MOST_ENTRIES]
        ],
    )


def health_summary(report: ModelHealth) -> HealthSummary:
    """Health in short."""
    problems = [
        HealthProblem(
            part=part.part,
            measure=measure.measure,
            since_seconds=measure.alarm_since_seconds,
            value=measure.value,
            expected=measure.expected,
            unit=measure.unit,
        )
        for part in report.parts
        for measure in part.measures
        if measure.alarm_since_seconds is not None
    ]
    problems.sort(key=lambda problem: (problem.since_seconds, problem.part, problem.measure))
    return HealthSummary(
        state=report.state,
        detail=report.detail[:_LONGEST],
        verdict=report.verdict,
        problems=problems[:MOST_ENTRIES],
    )
