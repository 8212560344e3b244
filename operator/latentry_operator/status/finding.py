"""What a condition says, and how it becomes one in a status."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentry_operator.api.status import Condition, ConditionStatus

_LONGEST = 32768


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its times."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


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


def repeated(kind: str, before: Sequence[Condition]) -> Finding | None:
    """What a condition said last, None where there is none."""
    for condition in before:
        if condition.type == kind:
            return Finding(kind, condition.status, condition.reason, condition.message)
    return None
