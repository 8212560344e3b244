"""What a tap says of itself, for tests of those that read it."""

from typing import Any

from latentry_serving.contract.drift_report import HealthState, Watching
from latentry_serving.contract.metrics import BundleState, Outcome
from latentry_serving.contract.tap_summary import (
    AlarmSummary,
    BundleSummary,
    DriftSummary,
    HealthProblem,
    HealthSummary,
    ProbesSummary,
    TapSummary,
    TrafficSummary,
)

SINCE = 1_767_225_600.0
"""2026-01-01T00:00Z."""


def tap_summary(model: str = "m", **changes: Any) -> TapSummary:
    """A tap that watches, has judged everything and has nothing to complain of; ``changes`` replace whole parts."""
    parts: dict[str, Any] = {
        "version": "7",
        "digest": "sha256:" + "ab" * 32,
        "uptime_seconds": 100.0,
        "bundle": BundleSummary(state=BundleState.VERIFIED, bytes=120, problems=[]),
        "probes": ProbesSummary(waiting=0, passed=1, failures=[]),
        "traffic": traffic(),
        "drift": drift(),
        "health": health(),
    }
    return TapSummary(model=model, **(parts | changes))


def traffic(requests: int = 0, faults: int = 0, p99: float | None = None) -> TrafficSummary:
    """So much in the last minute."""
    return TrafficSummary(
        outcomes={Outcome.OK: requests},
        latency_bounds_seconds=[0.01],
        latency_counts=[requests],
        recent_requests=requests,
        recent_faults=faults,
        recent_p99_seconds=p99,
    )


def drift(
    *alarms: AlarmSummary, state: Watching = Watching.WATCHING, sufficient: bool = True, detail: str = ""
) -> DriftSummary:
    """Drift with these alarms."""
    return DriftSummary(state=state, detail=detail, alarm=bool(alarms), sufficient=sufficient, alarms=list(alarms))


def alarm(tensor: str = "embedding", statistic: str = "mean", since: float = SINCE) -> AlarmSummary:
    """An alarm that was raised a minute after its beginning."""
    return AlarmSummary(
        tensor=tensor,
        statistic=statistic,
        since_seconds=since,
        raised_seconds=since + 60,
        looks_like="a shift",
        event=f"{tensor} drifted ({statistic}): looks like a shift by 0.50 standard deviations",
    )


def health(
    *problems: HealthProblem, state: Watching = Watching.WATCHING, verdict: HealthState | None = None, detail: str = ""
) -> HealthSummary:
    """Health with these problems."""
    found = verdict or (HealthState.UNHEALTHY if problems else HealthState.HEALTHY)
    return HealthSummary(state=state, detail=detail, verdict=found, problems=list(problems))


def ill(part: str = "posterior", measure: str = "active_units", value: float = 1.0) -> HealthProblem:
    """A measure that alarms."""
    return HealthProblem(part=part, measure=measure, since_seconds=SINCE, value=value, expected=4.0, unit="units")
