"""The whole status of a LatentModel, and what its changes are worth telling as events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from latentry_operator.api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    LatentModelStatus,
    ModelAddress,
    StableStatus,
)
from latentry_operator.status.conditions import conditions
from latentry_operator.status.facts import ModelFacts
from latentry_operator.status.reasons import ProgressingReason

_GOOD = {
    ConditionType.ACCEPTED: ConditionStatus.TRUE,
    ConditionType.AVAILABLE: ConditionStatus.TRUE,
    ConditionType.DRIFTING: ConditionStatus.FALSE,
    ConditionType.SLO_MET: ConditionStatus.TRUE,
}
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
    stable = None
    if serving is not None:
        old = before.stable
        told = old if old is not None and old.revision == serving.name else StableStatus(revision=serving.name)
        target = facts.target is not None and facts.target.name == serving.name
        stable = told.model_copy(
            update={"ready_replicas": serving.available, "digest": digest if target else told.digest}
        )
    return LatentModelStatus(
        observed_generation=facts.generation,
        conditions=conditions(facts, before.conditions, now),
        workload=facts.workload or before.workload,
        replicas=serving.replicas if serving is not None else 0,
        selector=selector,
        stable=stable,
        address=address if serving is not None else None,
    )


def transitions(before: Sequence[Condition], after: Sequence[Condition]) -> Iterator[Transition]:
    """Conditions whose status or reason changed, as events; unknown ones are not news."""
    old = {condition.type: (condition.status, condition.reason) for condition in before}
    for condition in after:
        if old.get(condition.type) == (condition.status, condition.reason):
            continue
        if condition.status is ConditionStatus.UNKNOWN or condition.reason == ProgressingReason.NOT_ACCEPTED:
            continue  # nothing is known, or Accepted has told it
        good = _GOOD.get(ConditionType(condition.type), condition.status) is condition.status
        if not good and condition.type == ConditionType.AVAILABLE and condition.type not in old:
            continue  # a new model answers nothing yet: no warning
        kind: Literal["Normal", "Warning"] = "Normal" if good and condition.reason not in _BAD_REASONS else "Warning"
        yield Transition(kind, condition.reason, condition.message)
