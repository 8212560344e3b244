"""The whole status of a LatentModel, and what its changes are worth telling as events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from latentry_operator.api.status import (
    CandidateStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    LatentModelStatus,
    ModelAddress,
    StableStatus,
)
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.summary import SummaryReason
from latentry_operator.plan.tap_facts import TapFacts
from latentry_operator.status.conditions import conditions
from latentry_operator.status.facts import ModelFacts, RevisionFacts
from latentry_operator.status.reasons import DriftingReason, ProgressingReason
from latentry_operator.status.rollout import candidate_verdicts, rollout_status, since
from latentry_operator.status.watching import told_of_bundle
from latentry_serving.contract.units import ByteSize

_LONGEST_VERSION = 128
_TOLD_BY_THE_ROLLOUT = {*SummaryReason, RolloutReason.HELD, RolloutReason.INCONCLUSIVE} - {SummaryReason.COMPLETE}
"""Reasons of Progressing that follow from events of the rollout, which say more."""
_BAD_REASONS = (ProgressingReason.STALLED, ProgressingReason.APPLY_FAILED)


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that changed, as an event tells it."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def model_status(
    facts: ModelFacts,
    before: LatentModelStatus,
    now: str,
    *,
    digest: str | None,
    selector: str,
    address: ModelAddress,
) -> LatentModelStatus:
    """The status that follows from ``facts``.

    Args:
        before: the status as it is, for transition times and for what only the bundle in the pod told.
        now: RFC 3339.
        digest: the bundle that the spec promises, None when nothing was planned.
        selector: of the model's pods.
        address: where clients reach the model once it is deployed.
    """
    serving = facts.serving
    stable = facts.stable or serving
    state = facts.rollout.state if facts.rollout is not None else None
    return LatentModelStatus(
        observed_generation=facts.generation,
        conditions=conditions(facts, before.conditions, now),
        workload=facts.workload or before.workload,
        replicas=stable.replicas if stable is not None else 0,
        selector=selector,
        stable=_revision(stable, facts.stable_taps or facts.taps, facts, before, digest) if stable else None,
        candidate=_candidate(facts, before, digest) if state is not None else before.candidate,
        rollout=rollout_status(state) if state is not None else before.rollout,
        address=address if serving is not None else None,
    )


def _revision(
    running: RevisionFacts, taps: Sequence[TapFacts], facts: ModelFacts, before: LatentModelStatus, digest: str | None
) -> StableStatus:
    """A revision with what is known of its bundle, also from the time when it was the other one of the two."""
    known = (one for one in (before.stable, before.candidate) if one is not None and one.revision == running.name)
    told = next(known, StableStatus(revision=running.name))
    target = facts.target is not None and facts.target.name == running.name
    update: dict[str, Any] = {"ready_replicas": running.available, "digest": digest if target else told.digest}
    if (bundle := told_of_bundle(taps)) is not None:
        update |= {"version": bundle[0][:_LONGEST_VERSION], "bundle_bytes": ByteSize(bundle[1])}
    fields = {name: getattr(told, name) for name in StableStatus.model_fields}
    return StableStatus(**(fields | update))


def _candidate(facts: ModelFacts, before: LatentModelStatus, digest: str | None) -> CandidateStatus | None:
    """The revision on trial beside a stable one; a model's first revision is on no trial."""
    decision, target = facts.rollout, facts.target
    if decision is None or target is None or not decision.state.stable or decision.state.candidate != target.name:
        return None
    state = decision.state
    known = _revision(target, facts.candidate_taps, facts, before, digest)
    return CandidateStatus(
        **{name: getattr(known, name) for name in StableStatus.model_fields},
        weight=state.weight,
        step=state.step,
        since=since(state),
        verdicts=candidate_verdicts(decision.results),
    )


def transitions(before: Sequence[Condition], after: Sequence[Condition]) -> Iterator[Transition]:
    """Changes of status or reason that are news, as events: of several that one step brings, the one that says most."""
    old = {condition.type: condition for condition in before}
    changed = {
        condition.type: condition
        for condition in after
        if (was := old.get(condition.type)) is None or (was.status, was.reason) != (condition.status, condition.reason)
    }
    if (accepted := changed.get(ConditionType.ACCEPTED)) is not None:
        refused = accepted.status is ConditionStatus.FALSE
        if refused or ConditionType.ACCEPTED in old:
            yield Transition("Warning" if refused else "Normal", accepted.reason, accepted.message)
    progressing, available = changed.get(ConditionType.PROGRESSING), changed.get(ConditionType.AVAILABLE)
    if progressing is not None and progressing.reason in _TOLD_BY_THE_ROLLOUT:
        progressing = None
    if progressing is not None and progressing.reason != ProgressingReason.NOT_ACCEPTED:
        bad = progressing.reason in _BAD_REASONS
        yield Transition("Warning" if bad else "Normal", progressing.reason, progressing.message)
    elif available is not None and ConditionType.AVAILABLE in old:
        down = available.status is ConditionStatus.FALSE
        yield Transition("Warning" if down else "Normal", available.reason, available.message)
    yield from _judgements(changed, old)


_BAD = {
    ConditionType.DRIFTING: ConditionStatus.TRUE,
    ConditionType.HEALTHY: ConditionStatus.FALSE,
    ConditionType.SLO_MET: ConditionStatus.FALSE,
}


def _judgements(changed: Mapping[str, Condition], old: Mapping[str, Condition]) -> Iterator[Transition]:
    """What began to be wrong, which taps cannot be read any more, and what is as it should be again."""
    for kind, bad in _BAD.items():
        condition, before = changed.get(kind), old.get(kind)
        if condition is None:
            continue
        if condition.status is bad or _unseen(condition):
            yield Transition("Warning", condition.reason, condition.message)
        elif condition.status is not ConditionStatus.UNKNOWN and before and (before.status is bad or _unseen(before)):
            yield Transition("Normal", condition.reason, condition.message)


def _unseen(condition: Condition) -> bool:
    # Healthy says the same of the same taps, and a silent Prometheus is no model's news.
    return condition.type == ConditionType.DRIFTING and condition.reason == DriftingReason.TAPS_UNREACHABLE
