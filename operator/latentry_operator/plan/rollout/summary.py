"""Where the rollout stands, as the Progressing condition says it: which gate, which number, what is next."""

from dataclasses import dataclass
from enum import StrEnum

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.policy import FULL
from latentry_operator.plan.rollout.state import Held, Phase, RolloutState
from latentry_operator.plan.rollout.turn import Turn


class SummaryReason(StrEnum):
    """Reasons of the condition Progressing while a rollout decides it."""

    COMPLETE = "Complete"
    """The spec is what serves."""
    REJECTED = "Rejected"
    """The spec's revision is given up, the stable one serves."""
    HELD = "Held"
    """Somebody must decide."""
    PAUSED = "Paused"
    """Somebody paused it."""
    STUCK = "RollbackTargetBroken"
    """Traffic should go back to a revision that does not answer."""
    RELIEVED = "StableLost"
    """The stable revision does not answer, another carries the traffic."""
    PREPARING = "Preparing"
    GATING = "Gating"
    SHADOWING = "Shadowing"
    SCALING = "Scaling"
    STEPPING = "Stepping"
    WATCHING = "Watching"


@dataclass(frozen=True, slots=True)
class Summary:
    """The condition: whether a change is under way by itself, a reason and a sentence."""

    progressing: bool
    reason: SummaryReason
    message: str


def summarise(turn: Turn) -> Summary:
    """The most important thing first."""
    state = turn.state
    if state.leaving is not None and state.leaving.weight:
        message = (
            f"revision {state.leaving.revision} keeps {state.leaving.weight} % of the traffic, as no replica of"
            f" {state.stable} answers; repair that revision or apply a spec that works"
        )
        return Summary(False, SummaryReason.STUCK, message)
    if state.relief:
        message = f"no replica of revision {state.stable} answers, {state.relief} carries all traffic"
        return Summary(True, SummaryReason.RELIEVED, message)
    if state.candidate:
        return _on_trial(turn)
    if state.rejection is not None:
        told = f"{state.rejection.revision} is given up ({state.rejection.reason}): {state.rejection.message}"
        message = f"{state.stable} serves; {told}. Change the spec, or `latentry rollout retry`"
        return Summary(False, SummaryReason.REJECTED, message)
    if state.paused and turn.facts.target != state.stable:
        message = f"paused before revision {turn.facts.target} starts; `latentry rollout resume` goes on"
        return Summary(False, SummaryReason.PAUSED, message)
    kept = f"; {state.previous} is kept for an undo" if state.previous else ""
    return Summary(False, SummaryReason.COMPLETE, f"revision {state.stable} runs and carries the traffic{kept}")


def _on_trial(turn: Turn) -> Summary:
    state = turn.state
    where = f"revision {state.candidate} {_where(turn, state)}"
    if state.held is not None:
        message = f"{where} is held ({state.held.reason}): {state.held.message}{_choice(state.held)}"
        return Summary(False, SummaryReason.HELD, message)
    if state.paused:
        return Summary(False, SummaryReason.PAUSED, f"{where} is paused; `latentry rollout resume` goes on")
    message = f"{where}: {_waits_for(turn)}; then {_next(turn)}"
    return Summary(True, SummaryReason(state.phase.value), message)


def _where(turn: Turn, state: RolloutState) -> str:
    if not state.weight:
        return "without traffic"
    return f"at {state.weight} %, step {state.step} of {len(turn.policy.stages)}"


def _waits_for(turn: Turn) -> str:
    state, policy = turn.state, turn.policy
    if turn.ready < turn.needed:
        running = turn.facts.revisions.get(state.candidate)
        complaint = f" ({running.problem})" if running is not None and running.problem else ""
        return f"{turn.ready} of {turn.needed} replicas answer{complaint}"
    waiting = [f"gate {result.gate}: {result.message}" for result in turn.results if result.verdict is Verdict.WAIT]
    hold = {Phase.SHADOWING: policy.shadow}.get(state.phase, policy.stage(state.step).hold if state.weight else 0.0)
    watched = [f"watched for {state.healthy:.0f} of {hold:g} s"] if state.healthy < hold else []
    return "; ".join(watched + waiting) or "no gate waits"


def _next(turn: Turn) -> str:
    """What follows once nothing is waited for, if nothing fails."""
    state, policy = turn.state, turn.policy
    if state.phase is Phase.PREPARING:
        return "its gates"
    if state.phase is Phase.GATING and policy.shadow:
        return "copies of requests"
    if state.phase is Phase.WATCHING or state.forced:
        return "it is promoted"
    above = (stage for stage in policy.stages if stage.weight > state.weight)
    stage = policy.stage(state.step) if state.phase is Phase.SCALING else next(above, policy.stages[-1])
    if stage.weight < FULL:
        return f"{stage.weight} % of the traffic"
    return "all traffic" if stage.hold else "it is promoted"


def _choice(held: Held) -> str:
    """What people can do, unless the message says it."""
    if "latentry rollout" in held.message:
        return ""
    return ". Decide: `latentry rollout resume` judges it anew, `promote` overrules, `abort` gives it up"
