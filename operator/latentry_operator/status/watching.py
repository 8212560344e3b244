"""The conditions Drifting and Healthy, from what the taps say. An answer that is missing is Unknown, never a good one.

Messages hold what changes rarely: a status is written only when its words change.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from latentry_operator.api.status import ConditionStatus, ConditionType
from latentry_operator.plan.tap_facts import TapFacts
from latentry_operator.status.facts import ModelFacts, RevisionFacts
from latentry_operator.status.finding import Finding
from latentry_operator.status.reasons import DriftingReason, HealthyReason
from latentry_serving.contract.drift_report import HealthState, Watching
from latentry_serving.contract.metrics import BundleState
from latentry_serving.contract.tap_summary import AlarmSummary, TapSummary

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_NAMED = 3
"""How many pods, alarms or measures a message names before it counts the rest."""
_NO_REPLICA = "no replica takes calls, so there is nothing to judge"
_NOT_ASKED = "the operator has not asked every tap yet"
_SERVING = RevisionFacts("", wanted=1, current=True, replicas=1, updated=1, available=1)

Said = tuple[TapFacts, TapSummary]


def drifting(facts: ModelFacts, before: Finding | None) -> Finding:
    """Does live traffic differ from the profile? ``before`` stands while a replica has not been asked yet."""
    kind = ConditionType.DRIFTING
    ready, said = _ready(facts.taps), list(_said(facts.taps))
    if facts.serving is None or not facts.serving.serves:
        return Finding(kind, UNKNOWN, DriftingReason.NO_REPLICA_READY, _NO_REPLICA)
    if not ready or _unread(ready):
        return _kept(before) or Finding(kind, UNKNOWN, DriftingReason.NOT_EVALUATED, _NOT_ASKED)
    if alarming := [one for one in said if one[1].drift.alarm]:
        return Finding(kind, TRUE, DriftingReason.DRIFT_DETECTED, _drift_story(alarming, len(ready)))
    if silent := [tap for tap in ready if tap.silence]:
        return Finding(kind, UNKNOWN, DriftingReason.TAPS_UNREACHABLE, _silence_story(silent, len(ready), "alarms"))
    if blind := [one for one in said if one[1].drift.state not in (Watching.WATCHING, Watching.STARTING)]:
        message = f"{_on(blind, len(ready))}: {_first(one[1].drift.detail for one in blind)}"
        return Finding(kind, UNKNOWN, DriftingReason.NOT_WATCHED, message)
    judged = [one for one in said if one[1].drift.sufficient]
    if not judged:
        message = f"no alarm, but too little traffic so far to judge every watched tensor {_of(0, len(ready))}"
        return Finding(kind, UNKNOWN, DriftingReason.INSUFFICIENT_DATA, message)
    message = f"no tap alarms; every watched tensor is judged {_of(len(judged), len(ready))}"
    return Finding(kind, FALSE, DriftingReason.NO_DRIFT, message)


def healthy(facts: ModelFacts, before: Finding | None) -> Finding:
    """Are the model's own outputs as they should be? ``before`` stands while a replica has not been asked yet."""
    kind = ConditionType.HEALTHY
    ready = _ready(facts.taps)
    everybody, said = list(_said(facts.taps, ready_only=False)), list(_said(facts.taps))
    if _unread(ready):
        return _kept(before) or Finding(kind, UNKNOWN, HealthyReason.NOT_EVALUATED, _NOT_ASKED)
    # A pod with the wrong bundle or a failing probe takes no calls: all that answer are looked at.
    for reason, problem in ((HealthyReason.BUNDLE_REFUSED, _refusal), (HealthyReason.GOLDEN_PROBE_FAILING, _failure)):
        if hit := [one for one in everybody if problem(one[1])]:
            message = f"{_on(hit, len(facts.taps))}: {_first(problem(one[1]) for one in hit)}"
            return Finding(kind, FALSE, reason, message)
    if ill := [one for one in said if one[1].health.verdict is HealthState.UNHEALTHY]:
        return Finding(kind, FALSE, HealthyReason.MODEL_UNHEALTHY, _illness(ill, len(ready)))
    if not ready and facts.serving is not None and facts.serving.serves:  # its pods are not known yet
        return _kept(before) or Finding(kind, UNKNOWN, HealthyReason.NOT_EVALUATED, _NOT_ASKED)
    if not ready:
        return Finding(kind, UNKNOWN, HealthyReason.NO_REPLICA_READY, _NO_REPLICA)
    if silent := [tap for tap in ready if tap.silence]:
        message = _silence_story(silent, len(ready), "complains")
        return Finding(kind, UNKNOWN, HealthyReason.TAPS_UNREACHABLE, message)
    if blind := [one for one in said if one[1].health.state not in (Watching.WATCHING, Watching.STARTING)]:
        message = (
            f"nothing is known to be wrong, but outputs are not watched: {_first(o[1].health.detail for o in blind)}"
        )
        return Finding(kind, UNKNOWN, HealthyReason.NOT_WATCHED, message)
    judged = [one for one in said if one[1].health.verdict is HealthState.HEALTHY]
    if not judged:
        message = (
            f"nothing is known to be wrong, but too little traffic so far to judge every measure {_of(0, len(ready))}"
        )
        return Finding(kind, UNKNOWN, HealthyReason.INSUFFICIENT_DATA, message)
    message = f"golden probes pass; every measure is judged and as expected {_of(len(judged), len(ready))}"
    return Finding(kind, TRUE, HealthyReason.HEALTHY, message)


def _kept(before: Finding | None) -> Finding | None:
    """What was said stands, but for what the ready replicas themselves deny."""
    return None if before is not None and before.reason == DriftingReason.NO_REPLICA_READY else before


def complaint(taps: Iterable[TapFacts]) -> str:
    """Why pods take no calls, as their taps say: a refused bundle or a failing probe; empty without one."""
    for tap, summary in _said(taps, ready_only=False):
        if not tap.ready and (problem := _refusal(summary) or _failure(summary)):
            return f"pod {tap.pod}: {problem}"
    return ""


def refusal(taps: Iterable[TapFacts]) -> str:
    """Why pods can never take calls: their bundle is not the promised one; empty where none is refused."""
    for tap, summary in _said(taps, ready_only=False):
        if problem := _refusal(summary):
            return f"pod {tap.pod}: {problem}"
    return ""


def essence(taps: Sequence[TapFacts]) -> tuple[object, ...]:
    """All that a status says of one revision's taps: while it stays equal, so does the status."""
    facts = ModelFacts(generation=0, serving=_SERVING, taps=tuple(taps))
    told = told_of_bundle(taps)
    return drifting(facts, None), healthy(facts, None), complaint(taps), told


def told_of_bundle(taps: Iterable[TapFacts]) -> tuple[str, int] | None:
    """The bundle's version and size in bytes, as the first pod with a verified one says; None before that."""
    for _, summary in _said(taps, ready_only=False):
        if summary.bundle is not None and summary.bundle.state is BundleState.VERIFIED:
            return summary.version, summary.bundle.bytes
    return None


def _said(taps: Iterable[TapFacts], *, ready_only: bool = True) -> Iterable[Said]:
    for tap in sorted(taps, key=lambda one: one.pod):
        if tap.summary is not None and tap.answers and (tap.ready or not ready_only):
            yield tap, tap.summary


def _ready(taps: Iterable[TapFacts]) -> list[TapFacts]:
    return sorted((tap for tap in taps if tap.ready), key=lambda one: one.pod)


def _unread(taps: Iterable[TapFacts]) -> bool:
    return any(tap.summary is None and not tap.silence for tap in taps)


def _refusal(summary: TapSummary) -> str:
    if summary.bundle is None or summary.bundle.state is not BundleState.REFUSED:
        return ""
    return f"the bundle is refused: {_first(summary.bundle.problems) or 'see /bundle of its admin port'}"


def _failure(summary: TapSummary) -> str:
    # Without the probe's detail: its numbers differ from probe to probe.
    failures = summary.probes.failures if summary.probes is not None else ()
    failed = _listed([f"{failure.operation}: {failure.outcome}" for failure in failures], ", ")
    return f"a golden probe fails ({failed}); see /probes of its admin port" if failed else ""


def _drift_story(alarming: Sequence[Said], ready: int) -> str:
    alarms = [alarm for _, summary in alarming for alarm in summary.drift.alarms]
    where = f"{_on(alarming, ready)}; /drift of a pod's admin port has the numbers by dimension"
    if not alarms:
        return f"an alarm whose explanation is lost, {where}"
    first = min(alarms, key=lambda alarm: (alarm.raised_seconds, alarm.tensor, alarm.statistic))
    since = min(alarm.since_seconds for alarm in alarms if _same(alarm, first))
    others = sorted({f"{alarm.tensor} ({alarm.statistic})" for alarm in alarms if not _same(alarm, first)})
    also = f"; also {_listed(others, ', ')}" if others else ""
    return f"since {_minute(since)} {first.event}{also}; {where}"


def _same(one: AlarmSummary, other: AlarmSummary) -> bool:
    return (one.tensor, one.statistic) == (other.tensor, other.statistic)


def _illness(ill: Sequence[Said], ready: int) -> str:
    where = f"{_on(ill, ready)}; /health-of-model of a pod's admin port has the numbers"
    problems = [problem for _, summary in ill for problem in summary.health.problems]
    if not problems:
        return f"the health of the model is not as expected, {where}"
    since = _minute(min(problem.since_seconds for problem in problems))
    named = sorted({f"{problem.measure} of the {problem.part}" for problem in problems})
    return f"since {since} not as in the reference: {_listed(named, ', ')}; {where}"


def _silence_story(silent: Sequence[TapFacts], ready: int, nothing: str) -> str:
    pods = _listed([f"{tap.pod} ({tap.silence})" for tap in silent], "; ")
    return f"{len(silent)} of {ready} taps cannot be read: {pods}; none of the others {nothing}"


def _on(said: Sequence[Said], total: int) -> str:
    return f"on {len(said)} of {total} replicas (pod {_listed([tap.pod for tap, _ in said], ', ')})"


def _of(count: int, total: int) -> str:
    return f"on {count} of {total} replicas"


def _listed(names: Sequence[str], separator: str) -> str:
    rest = len(names) - _NAMED
    return separator.join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _first(texts: Iterable[str]) -> str:
    return next(iter(texts), "")


def _minute(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
