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
    if progressing is not None and progressing.reason != ProgressingReason.NOT_ACCEPTED:
        bad = progressing.reason in _BAD_REASONS
        yield Transition("Warning" if bad else "Normal", progressing.reason, progressing.message)
    elif available is not None and ConditionType.AVAILABLE in old:
        down = available.status is ConditionStatus.FALSE
        yield Transition("Warning" if down else "Normal", available.reason, available.message)
