"""One function per condition of a LatentModel; each answers one question with a reason and a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentry_operator.api.status import Condition, ConditionStatus, ConditionType
from latentry_operator.status.facts import ModelFacts, RevisionFacts
from latentry_operator.status.reasons import (
    AcceptedReason,
    AvailableReason,
    DriftingReason,
    ProgressingReason,
    SloMetReason,
)

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_LONGEST = 32768


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its times."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def conditions(facts: ModelFacts, before: Sequence[Condition], now: str) -> tuple[Condition, ...]:
    """All conditions; ``now`` (RFC 3339) becomes the transition time of those whose status differs from ``before``."""
    findings = (accepted(facts), available(facts), progressing(facts), drifting(facts), slo_met(facts))
    return stamped(findings, facts.generation, before, now)


def stamped(
    findings: Sequence[Finding], generation: int, before: Sequence[Condition], now: str
) -> tuple[Condition, ...]:
    """Findings as conditions; the transition time moves only where the status does."""
    old = {condition.type: condition for condition in before}
    result = []
    for finding in findings:
        previous = old.get(finding.type)
        same = previous is not None and previous.status is finding.status
        result.append(
            Condition(
                type=finding.type,
                status=finding.status,
                observed_generation=generation,
                last_transition_time=previous.last_transition_time if previous is not None and same else now,
                reason=finding.reason,
                message=finding.message[:_LONGEST],
            )
        )
    return tuple(result)


def accepted(facts: ModelFacts) -> Finding:
    """Is the spec valid and can it be planned?"""
    if facts.refusal is not None:
        return Finding(ConditionType.ACCEPTED, FALSE, facts.refusal.reason, facts.refusal.message)
    message = "; ".join(("the spec is valid", *facts.notes))
    return Finding(ConditionType.ACCEPTED, TRUE, AcceptedReason.VALID, message)


def available(facts: ModelFacts) -> Finding:
    """Do requests get answers?"""
    serving = facts.serving or facts.target
    if serving is None:
        message = "nothing of this model runs"
        return Finding(ConditionType.AVAILABLE, FALSE, AvailableReason.NOT_DEPLOYED, message)
    message = f"{_ready(serving.available, serving)}{_because(serving)}"
    if not serving.serves:
        return Finding(ConditionType.AVAILABLE, FALSE, AvailableReason.NO_REPLICA_READY, message)
    if serving.available < serving.wanted:
        return Finding(ConditionType.AVAILABLE, TRUE, AvailableReason.PARTLY_READY, message)
    return Finding(ConditionType.AVAILABLE, TRUE, AvailableReason.READY, message)


def progressing(facts: ModelFacts) -> Finding:
    """Is a change under way?"""
    kind, target, serving = ConditionType.PROGRESSING, facts.target, facts.serving
    if facts.refusal is not None or target is None:
        running = f"revision {serving.name} goes on serving" if serving else "nothing of this model runs"
        message = f"the spec of generation {facts.generation} is not accepted; {running}"
        return Finding(kind, FALSE, ProgressingReason.NOT_ACCEPTED, message)
    if facts.failure:
        message = f"the API server refused an object, it is tried again: {facts.failure}"
        return Finding(kind, FALSE, ProgressingReason.APPLY_FAILED, message)
    if facts.cleanup:
        return Finding(kind, TRUE, ProgressingReason.WAITING_FOR_CLEANUP, facts.cleanup)
    replacing = serving is not None and serving.name != target.name
    if target.complete and not replacing:
        return Finding(kind, FALSE, ProgressingReason.COMPLETE, f"revision {target.name} runs and carries the traffic")
    fresh = min(target.updated, target.available) if target.current else 0
    message = f"{_ready(fresh, target)}{_because(target)}"
    if target.stalled:
        return Finding(kind, FALSE, ProgressingReason.STALLED, f"{message}; {target.stalled}")
    if replacing and serving is not None:
        message = f"{message}; revision {serving.name} carries the traffic until they are"
        return Finding(kind, TRUE, ProgressingReason.REPLACING, message)
    if serving is None or not serving.serves:
        return Finding(kind, TRUE, ProgressingReason.DEPLOYING, message)
    only_number = target.current and target.updated >= target.replicas
    return Finding(kind, TRUE, ProgressingReason.SCALING if only_number else ProgressingReason.REPLACING, message)


def drifting(_: ModelFacts) -> Finding:
    """Does live traffic differ from the profile?"""
    message = "the operator does not evaluate drift in this release"
    return Finding(ConditionType.DRIFTING, UNKNOWN, DriftingReason.NOT_EVALUATED, message)


def slo_met(facts: ModelFacts) -> Finding:
    """Are all objectives kept over their period?"""
    slo = facts.slo
    if slo is not None and not slo.latency and slo.availability is None and slo.quality is None:
        message = "the spec sets no objective"
        return Finding(ConditionType.SLO_MET, UNKNOWN, SloMetReason.NO_OBJECTIVES, message)
    message = "the operator does not evaluate objectives in this release; the taps' /slis shows what they measure"
    return Finding(ConditionType.SLO_MET, UNKNOWN, SloMetReason.NOT_EVALUATED, message)


def _ready(count: int, revision: RevisionFacts) -> str:
    verb = "is" if count == 1 else "are"
    return f"{count} of {revision.wanted} replicas of revision {revision.name} {verb} ready"


def _because(revision: RevisionFacts) -> str:
    return f": {revision.problem}" if revision.problem and not revision.complete else ""
