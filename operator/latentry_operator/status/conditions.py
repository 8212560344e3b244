"""One function per condition of a LatentModel; each answers one question with a reason and a sentence."""

from collections.abc import Sequence

from latentry_operator.api.status import Condition, ConditionStatus, ConditionType
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.summary import SummaryReason
from latentry_operator.status.facts import ModelFacts, RevisionFacts
from latentry_operator.status.finding import Finding, repeated, stamped
from latentry_operator.status.objectives import slo_met
from latentry_operator.status.reasons import AcceptedReason, AvailableReason, ProgressingReason
from latentry_operator.status.watching import drifting, healthy

TRUE, FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE


def conditions(facts: ModelFacts, before: Sequence[Condition], now: str) -> tuple[Condition, ...]:
    """All conditions; ``now`` (RFC 3339) becomes the transition time of those whose status differs from ``before``."""
    findings = (
        accepted(facts),
        available(facts),
        progressing(facts),
        drifting(facts, repeated(ConditionType.DRIFTING, before)),
        healthy(facts, repeated(ConditionType.HEALTHY, before)),
        slo_met(facts, repeated(ConditionType.SLO_MET, before)),
    )
    return stamped(findings, facts.generation, before, now)


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
    if (on_trial := _rollout(facts, target)) is not None:
        return on_trial
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


def _rollout(facts: ModelFacts, target: RevisionFacts) -> Finding | None:
    """What the policy says; None while it has nothing to say: at rest, and of a model's first revision."""
    kind, decision = ConditionType.PROGRESSING, facts.rollout
    if decision is None or decision.summary.reason is SummaryReason.COMPLETE:
        return None
    state, summary = decision.state, decision.summary
    if state.candidate and not state.stable:
        if not target.complete:
            return None
        message = f"{_ready(target.available, target)}; it is taken as the stable one next"
        return Finding(kind, TRUE, ProgressingReason.DEPLOYING, message)
    if summary.reason is SummaryReason.PREPARING and target.stalled:
        return Finding(kind, FALSE, ProgressingReason.STALLED, f"{summary.message}; {target.stalled}")
    reason = str(summary.reason)
    if summary.reason is SummaryReason.HELD and state.held is not None:
        undecided = state.held.reason is RolloutReason.INCONCLUSIVE
        reason = RolloutReason.INCONCLUSIVE if undecided else RolloutReason.HELD
    return Finding(kind, TRUE if summary.progressing else FALSE, reason, summary.message)


def _ready(count: int, revision: RevisionFacts) -> str:
    verb = "is" if count == 1 else "are"
    return f"{count} of {revision.wanted} replicas of revision {revision.name} {verb} ready"


def _because(revision: RevisionFacts) -> str:
    return f": {revision.problem}" if revision.problem and not revision.complete else ""
