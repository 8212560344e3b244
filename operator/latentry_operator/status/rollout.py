"""The rollout's memory in a LatentModel's status, there and back: what is read is what was written."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from latentry_operator.api.status import GateVerdict, RolloutStatus
from latentry_operator.plan.rollout.gates import GateResult
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Answered, Held, Leaving, Phase, Rejection, RolloutState


def rollout_status(state: RolloutState) -> RolloutStatus:
    """The state as it stands in the status."""
    held, leaving, rejection, answered = state.held, state.leaving, state.rejection, state.answered
    return RolloutStatus(
        phase=state.phase,
        stable=state.stable or None,
        candidate=state.candidate or None,
        previous=state.previous or None,
        step=state.step,
        attempt=state.attempt,
        weight=state.weight,
        since=_written(state.since),
        looked=_written(state.looked),
        observed_seconds=state.seconds,
        healthy_seconds=state.healthy,
        was_healthy=state.was_healthy,
        paused=state.paused,
        forced=state.forced,
        relief=state.relief or None,
        held=held.reason if held else None,
        held_message=held.message if held else None,
        leaving=leaving.revision if leaving else None,
        leaving_weight=leaving.weight if leaving else 0,
        leaving_seconds=leaving.seconds if leaving else 0.0,
        rejected=rejection.revision if rejection else None,
        rejected_policy=rejection.policy if rejection else None,
        rejected_reason=rejection.reason if rejection else None,
        rejected_message=rejection.message if rejection else None,
        command=state.command or None,
        command_reason=answered.reason if answered else None,
        command_message=answered.message if answered else None,
    )


def rollout_state(status: RolloutStatus | None) -> RolloutState | None:
    """The state that a status remembers; None when it remembers none, or in words of another release."""
    if status is None:
        return None
    try:
        return _state(status)
    except ValueError:
        return None


def settled(state: RolloutState) -> RolloutState:
    """The state without its clocks, which may be lost: rollouts only take longer by it."""
    return replace(state, looked=0.0, seconds=0.0, healthy=0.0, was_healthy=False)


def candidate_verdicts(results: Iterable[GateResult]) -> tuple[GateVerdict, ...]:
    """What the gates say, as the status has it."""
    return tuple(one.to_status() for one in results)


def since(state: RolloutState) -> str:
    """When the stage began, for people."""
    return datetime.fromtimestamp(state.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _state(status: RolloutStatus) -> RolloutState:
    held = Held(RolloutReason(status.held), status.held_message or "") if status.held else None
    leaving = Leaving(status.leaving, status.leaving_weight, status.leaving_seconds) if status.leaving else None
    rejection = None
    if status.rejected and status.rejected_reason:
        reason = RolloutReason(status.rejected_reason)
        rejection = Rejection(status.rejected, status.rejected_policy or "", reason, status.rejected_message or "")
    answered = None
    if status.command_reason:
        answered = Answered(RolloutReason(status.command_reason), status.command_message or "")
    return RolloutState(
        phase=Phase(status.phase),
        stable=status.stable or "",
        candidate=status.candidate or "",
        previous=status.previous or "",
        step=status.step,
        attempt=status.attempt,
        weight=status.weight,
        since=_read(status.since),
        looked=_read(status.looked),
        seconds=status.observed_seconds,
        healthy=status.healthy_seconds,
        was_healthy=status.was_healthy,
        paused=status.paused,
        forced=status.forced,
        relief=status.relief or "",
        held=held,
        leaving=leaving,
        rejection=rejection,
        command=status.command or "",
        answered=answered,
    )


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
