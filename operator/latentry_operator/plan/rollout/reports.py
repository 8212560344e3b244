"""From the taps' documents to facts: one revision's replicas together, the worst of each."""

from collections.abc import Iterable, Sequence

from latentry_operator.plan.rollout.facts import (
    GoldenFacts,
    Histogram,
    Judging,
    MonitorFacts,
    ProbeResult,
    Traffic,
)
from latentry_serving.contract.bundle_report import OperationProbe, ProbesReport
from latentry_serving.contract.drift_report import DriftReport, HealthPart, HealthState, ModelHealth, Watching
from latentry_serving.contract.metrics import SERVER_FAULTS, Outcome, ProbeOutcome
from latentry_serving.contract.slis import Latency, Slis

_NOT_COUNTED = frozenset({Outcome.CLIENT_ERROR, Outcome.CANCELLED})
_EDGE_DIGITS = 9
"""Nanoseconds: enough to tell edges apart, few enough to make equal ones equal."""
_UNANSWERED = frozenset({ProbeOutcome.UNREACHABLE})
_JUDGING = {
    Watching.SAMPLING_OFF: Judging.OFF,
    Watching.NO_PROFILE: Judging.OFF,
    Watching.NO_BUNDLE: Judging.STARTING,
    Watching.STARTING: Judging.STARTING,
    Watching.BROKEN: Judging.BROKEN,
    Watching.WATCHING: Judging.ON,
}
_WORST = (Judging.BROKEN, Judging.STARTING, Judging.OFF, Judging.ON)
_WORST_PROBE = (ProbeResult.FAILED, ProbeResult.UNANSWERED, ProbeResult.NOT_RUN, ProbeResult.PASSED)


def traffic(replicas: Iterable[Slis], histogram: Histogram) -> Traffic:
    """Unary inference since each tap's start; subtract what it was when the stage began with ``since``.

    Args:
        histogram: of the same replicas, see ``latency``.
    """
    requests = errors = 0
    for slis in replicas:
        for outcome, count in slis.inference.total.outcomes.items():
            requests += 0 if outcome in _NOT_COUNTED else count
            errors += count if outcome in SERVER_FAULTS else 0
    return Traffic(requests, errors, histogram)


def latency(replicas: Iterable[Latency]) -> Histogram:
    """Unary inference of all replicas since each tap's start. Edges lie on one grid."""
    counts: dict[float, int] = {}
    edges: set[float] = set()
    for report in replicas:
        grid = [round(edge, _EDGE_DIGITS) for edge in report.inference.edges_seconds]
        edges.update(grid)
        for edge, count in zip(grid, report.inference.total, strict=False):
            counts[edge] = counts.get(edge, 0) + count
    ordered = sorted(edges)
    return Histogram(tuple(ordered), tuple(counts.get(edge, 0) for edge in ordered[:-1]))


def since(now: Traffic, before: Traffic) -> Traffic:
    """What was added, never negative: a restarted tap begins at 0, and what it had counted is lost, not owed."""
    if now.requests < before.requests or now.errors < before.errors:
        return now
    old = dict(zip(before.latency.edges, before.latency.counts, strict=False))
    counts = tuple(
        max(0, count - old.get(edge, 0)) for edge, count in zip(now.latency.edges, now.latency.counts, strict=False)
    )
    return Traffic(now.requests - before.requests, now.errors - before.errors, Histogram(now.latency.edges, counts))


def golden(replicas: Sequence[ProbesReport]) -> tuple[GoldenFacts, ...]:
    """Of every operation the worst probe."""
    worst: dict[str, GoldenFacts] = {}
    for report in replicas:
        for probe in report.operations:
            fact = GoldenFacts(probe.operation, _result(probe), probe.detail)
            known = worst.get(probe.operation)
            if known is None or _WORST_PROBE.index(fact.result) < _WORST_PROBE.index(known.result):
                worst[probe.operation] = fact
    return tuple(worst.values())


def _result(probe: OperationProbe) -> ProbeResult:
    if probe.outcome is None:
        return ProbeResult.NOT_RUN
    if probe.outcome is ProbeOutcome.PASSED:
        return ProbeResult.PASSED
    return ProbeResult.UNANSWERED if probe.outcome in _UNANSWERED else ProbeResult.FAILED


def monitor(replicas: Sequence[tuple[DriftReport, ModelHealth]]) -> MonitorFacts | None:
    """Drift and health of all replicas; None without any. Scores are since each tap's start."""
    if not replicas:
        return None
    alarms: dict[str, str] = {}
    unhealthy: dict[str, str] = {}
    scored = anomalous = 0
    for drift, health in replicas:
        for tensor in drift.tensors:
            for statistic in tensor.statistics:
                if statistic.alarm is not None:
                    alarms[f"{tensor.tensor}/{statistic.statistic}"] = statistic.alarm.event
        for part in health.parts:
            if part.state is HealthState.UNHEALTHY:
                unhealthy[part.part] = _complaint(part)
        if health.scores is not None:
            scored += health.scores.traffic + health.scores.probes
            anomalous += health.scores.anomalous
    states = {_JUDGING[report.state]: report.detail for drift, health in replicas for report in (drift, health)}
    judging = next(state for state in _WORST if state in states)
    # Replicas share the traffic: what one of them judged is judged.
    sufficient = any(
        drift.sufficient and health.verdict is not HealthState.INSUFFICIENT_DATA for drift, health in replicas
    )
    return MonitorFacts(judging, states[judging], sufficient, alarms, unhealthy, scored, anomalous)


def _complaint(part: HealthPart) -> str:
    lines = [measure.reason for measure in part.measures if measure.alarm_since_seconds is not None and measure.reason]
    return "; ".join(lines or part.notes) or f"unhealthy in a window of {part.samples} samples"
