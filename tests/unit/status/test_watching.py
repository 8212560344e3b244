"""Drifting and Healthy: every reason, which of several wins, what a message names, and what changes no message.

Covered: one and several replicas, silent and unread ones among others, pods that take no calls, alarms without words,
messages that stay when numbers move, the version and size that a pod tells, events.
"""

from dataclasses import replace

import pytest
from tap_samples import SINCE, alarm, drift, health, ill, tap_summary

from latentry_operator.api.status import Condition, ConditionStatus, LatentModelStatus, ModelAddress
from latentry_operator.plan.tap_facts import TapFacts
from latentry_operator.status.facts import ModelFacts, RevisionFacts
from latentry_operator.status.finding import Finding
from latentry_operator.status.model import model_status, transitions
from latentry_operator.status.watching import complaint, drifting, essence, healthy
from latentry_serving.contract.drift_report import HealthState, Watching
from latentry_serving.contract.metrics import BundleState, ProbeOutcome
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_summary import BundleSummary, ProbeFailure, ProbesSummary, TapSummary
from latentry_serving.contract.units import ByteSize

RUNS = RevisionFacts("m-1", wanted=2, current=True, replicas=2, updated=2, available=2)
FINE = tap_summary()
ALARMING = tap_summary(drift=drift(alarm()))
YOUNG = tap_summary(drift=drift(sufficient=False), health=health(verdict=HealthState.INSUFFICIENT_DATA))
BLIND = tap_summary(
    drift=drift(state=Watching.NO_PROFILE, sufficient=False, detail="the bundle has no profile"),
    health=health(state=Watching.NO_PROFILE, verdict=HealthState.INSUFFICIENT_DATA, detail="the bundle has no profile"),
)
STARTING = tap_summary(
    drift=drift(state=Watching.STARTING, sufficient=False),
    health=health(state=Watching.STARTING, verdict=HealthState.INSUFFICIENT_DATA),
)
REFUSED = tap_summary(bundle=BundleSummary(state=BundleState.REFUSED, bytes=1, problems=["model.onnx has changed"]))
FAILURE = ProbeFailure(operation=Operation.ENCODE, outcome=ProbeOutcome.NON_FINITE, detail="largest error 0.123")
FAILING = tap_summary(probes=ProbesSummary(waiting=0, passed=0, failures=[FAILURE]))
BEFORE = Finding("Drifting", ConditionStatus.FALSE, "NoDrift", "as it was")
SILENT = "silent"
UNREAD = "unread"

Sight = TapSummary | str


def taps(*sights: Sight, ready: bool = True) -> tuple[TapFacts, ...]:
    """Pods m-1-a, m-1-b, ...; what each says, or that it is silent or was not asked yet."""
    made = []
    for letter, sight in zip("abcdefgh", sights, strict=False):
        fact = TapFacts(f"m-1-{letter}", "m-1", ready)
        if isinstance(sight, TapSummary):
            fact = replace(fact, summary=sight)
        elif sight == SILENT:
            fact = replace(fact, summary=FINE, silence="10.0.0.1:9400: connection refused")
        made.append(fact)
    return tuple(made)


def facts(*sights: Sight) -> ModelFacts:
    return ModelFacts(generation=1, serving=RUNS, target=RUNS, taps=taps(*sights))


@pytest.mark.parametrize(
    ("sights", "status", "reason", "part"),
    [
        ((FINE, FINE), "False", "NoDrift", "on 2 of 2 replicas"),
        # Traffic is spread over the replicas: a new one without data takes nothing from what the others know.
        ((FINE, YOUNG), "False", "NoDrift", "on 1 of 2 replicas"),
        ((ALARMING, FINE), "True", "DriftDetected", "on 1 of 2 replicas (pod m-1-a)"),
        ((ALARMING, SILENT), "True", "DriftDetected", "2026-01-01T00:00Z embedding drifted (mean)"),
        ((YOUNG, YOUNG), "Unknown", "InsufficientData", "too little traffic"),
        ((STARTING,), "Unknown", "InsufficientData", "too little traffic"),
        ((BLIND,), "Unknown", "NotWatched", "the bundle has no profile"),
        ((FINE, BLIND), "Unknown", "NotWatched", "m-1-b"),
        ((FINE, SILENT), "Unknown", "TapsUnreachable", "m-1-b (10.0.0.1:9400: connection refused)"),
        ((SILENT,), "Unknown", "TapsUnreachable", "1 of 1 taps"),
        ((FINE, UNREAD), "Unknown", "NotEvaluated", "has not asked"),
        ((), "Unknown", "NotEvaluated", "has not asked"),
    ],
)
def test_drifting(sights: tuple[Sight, ...], status: str, reason: str, part: str) -> None:
    found = drifting(facts(*sights), None)
    assert (found.status, found.reason) == (status, reason)
    assert part in found.message


@pytest.mark.parametrize(
    ("sights", "status", "reason", "part"),
    [
        ((FINE, YOUNG), "True", "Healthy", "on 1 of 2 replicas"),
        (
            (tap_summary(health=health(ill(), ill(measure="kl"))), FINE),
            "False",
            "ModelUnhealthy",
            "since 2026-01-01T00:00Z not as in the reference: active_units of the posterior, kl of the posterior; on",
        ),
        ((FAILING, FINE), "False", "GoldenProbeFailing", "encode: non_finite"),
        ((FAILING, REFUSED), "False", "BundleRefused", "model.onnx has changed"),
        ((YOUNG,), "Unknown", "InsufficientData", "too little traffic"),
        ((BLIND,), "Unknown", "NotWatched", "the bundle has no profile"),
        ((FINE, SILENT), "Unknown", "TapsUnreachable", "m-1-b"),
        ((FINE, UNREAD), "Unknown", "NotEvaluated", "has not asked"),
        ((), "Unknown", "NotEvaluated", "has not asked"),
    ],
)
def test_healthy(sights: tuple[Sight, ...], status: str, reason: str, part: str) -> None:
    found = healthy(facts(*sights), None)
    assert (found.status, found.reason) == (status, reason)
    assert part in found.message


def test_nothing_is_judged_of_pods_that_take_no_calls() -> None:
    idle = ModelFacts(generation=1, serving=replace(RUNS, available=0), taps=taps(ALARMING, ready=False))
    assert drifting(idle, BEFORE).reason == healthy(idle, None).reason == "NoReplicaReady"
    assert drifting(ModelFacts(generation=1), BEFORE).reason == "NoReplicaReady"


def test_a_pod_that_takes_no_calls_for_its_bundle_or_probes_is_told() -> None:
    for sight, words in ((REFUSED, "the bundle is refused: model.onnx has changed"), (FAILING, "encode: non_finite")):
        stuck = taps(sight, ready=False)
        assert complaint(stuck).startswith("pod m-1-a: ")
        assert words in complaint(stuck)
        assert healthy(ModelFacts(generation=1, serving=RUNS, taps=stuck), None).status == "False"
    assert complaint(taps(FAILING)) == ""


def test_what_was_said_stands_until_every_replica_was_asked() -> None:
    assert drifting(facts(ALARMING, UNREAD), BEFORE) == BEFORE
    assert drifting(facts(ALARMING, FINE), BEFORE).reason == "DriftDetected"
    # A replica is ready now: that none was is no longer true.
    assert drifting(facts(UNREAD), replace(BEFORE, reason="NoReplicaReady")).reason == "NotEvaluated"


def test_an_alarm_without_words_is_an_alarm() -> None:
    speechless = FINE.model_copy(update={"drift": drift(alarm()).model_copy(update={"alarms": []})})
    found = drifting(facts(speechless), None)
    assert (found.status, found.reason) == ("True", "DriftDetected")


def test_the_first_alarm_is_told_and_the_others_are_named() -> None:
    several = drift(alarm("input", "energy", SINCE + 3600), alarm(), alarm("posterior_mean", "mean", SINCE + 7200))
    found = drifting(facts(tap_summary(drift=several), tap_summary(drift=drift(alarm(since=SINCE - 120)))), None)
    assert found.message.startswith("since 2025-12-31T23:58Z embedding drifted (mean)")
    assert "also input (energy), posterior_mean (mean)" in found.message
    assert "on 2 of 2 replicas" in found.message


def test_moving_numbers_are_no_news() -> None:
    first = tap_summary(health=health(ill(value=1.0)), uptime_seconds=1.0)
    later = tap_summary(health=health(ill(value=0.5)), uptime_seconds=60.0)
    assert essence(taps(first)) == essence(taps(later))
    worse = FAILURE.model_copy(update={"detail": "largest error 0.456"})
    moved = tap_summary(probes=ProbesSummary(waiting=0, passed=0, failures=[worse]))
    assert essence(taps(FAILING)) == essence(taps(moved))
    assert essence(taps(FINE)) != essence(taps(ALARMING))
    assert essence(taps(FINE)) != essence(taps(tap_summary(version="8")))


def test_the_pod_tells_the_version_and_the_size_of_its_bundle() -> None:
    def stable(*sights: Sight) -> tuple[str | None, object]:
        found = model_status(
            facts(*sights),
            LatentModelStatus(),
            "2026-01-02T00:00:00Z",
            digest=None,
            selector="",
            address=ModelAddress(),
        ).stable
        assert found is not None
        return found.version, found.bundle_bytes

    assert stable(FINE) == ("7", ByteSize(120))
    assert stable(REFUSED) == stable(UNREAD) == (None, None)


def conditions(*findings: tuple[str, str, str]) -> list[Condition]:
    return [
        Condition(
            type=kind,
            status=ConditionStatus(status),
            reason=reason,
            message="words",
            last_transition_time="2026-01-01T00:00:00Z",
        )
        for kind, status, reason in findings
    ]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, ("Drifting", "False", "NoDrift"), []),
        (None, ("Drifting", "True", "DriftDetected"), [("Warning", "DriftDetected")]),
        (("False", "NoDrift"), ("Drifting", "True", "DriftDetected"), [("Warning", "DriftDetected")]),
        (("True", "DriftDetected"), ("Drifting", "False", "NoDrift"), [("Normal", "NoDrift")]),
        (("False", "NoDrift"), ("Drifting", "Unknown", "TapsUnreachable"), [("Warning", "TapsUnreachable")]),
        (("Unknown", "TapsUnreachable"), ("Drifting", "False", "NoDrift"), [("Normal", "NoDrift")]),
        (("Unknown", "InsufficientData"), ("Drifting", "False", "NoDrift"), []),
        (("True", "DriftDetected"), ("Drifting", "Unknown", "NoReplicaReady"), []),
        (("True", "Healthy"), ("Healthy", "Unknown", "TapsUnreachable"), []),
        (("True", "Healthy"), ("Healthy", "False", "ModelUnhealthy"), [("Warning", "ModelUnhealthy")]),
        (("False", "BudgetExhausted"), ("SLOMet", "True", "ObjectivesMet"), [("Normal", "ObjectivesMet")]),
        (("True", "ObjectivesMet"), ("SLOMet", "Unknown", "PrometheusUnreachable"), []),
    ],
)
def test_events(before: tuple[str, str] | None, after: tuple[str, str, str], told: list[tuple[str, str]]) -> None:
    old = conditions((after[0], *before)) if before is not None else []
    assert [(one.type, one.reason) for one in transitions(old, conditions(after))] == told
