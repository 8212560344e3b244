"""What people ask for: each command is carried out once, or said to have nothing to act on."""

from collections.abc import Callable, Mapping

from latentry_operator.plan.rollout.facts import Verb
from latentry_operator.plan.rollout.policy import FULL
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Answered, Leaving, Phase, Rejection
from latentry_operator.plan.rollout.turn import Turn


def obey(turn: Turn) -> bool:
    """Carries out the command that stands, if it is new. Whether it did."""
    command = turn.facts.command
    if command is None or command.text == turn.state.command:
        return False
    told = len(turn.told)
    if problem := _VERBS[command.verb](turn):
        turn.tell(RolloutReason.COMMAND_IGNORED, f"{command.verb}: {problem}", warning=True)
    first = turn.told[told]
    turn.set(command=command.text, answered=Answered(first.reason, first.message))
    return True


def _pause(turn: Turn) -> str:
    if turn.state.paused:
        return "the rollout is paused already"
    turn.set(paused=True, was_healthy=False)
    share = f" at {turn.state.weight} %" if turn.state.candidate else ""
    turn.tell(RolloutReason.PAUSED, f"paused{share}; failing gates still roll back; `latentry rollout resume` goes on")
    return ""


def _resume(turn: Turn) -> str:
    state = turn.state
    if not state.paused and state.held is None:
        return "the rollout is neither paused nor held"
    if state.held is not None:
        turn.enter(state.phase, held=None, paused=False, attempt=state.attempt + 1)
        turn.tell(RolloutReason.RESUMED, f"revision {state.candidate} is judged again at {state.weight} %")
    else:
        turn.set(paused=False)
        turn.tell(RolloutReason.RESUMED, "the rollout goes on")
    return ""


def _abort(turn: Turn) -> str:
    if not turn.state.candidate:
        return "there is no candidate"
    if not turn.state.stable:
        return "there is no stable revision to go back to; change the spec"
    turn.reject(RolloutReason.ABORTED, "somebody aborted the rollout")
    return ""


def _promote(turn: Turn) -> str:
    state = turn.state
    if not state.candidate:
        return "there is no candidate"
    if turn.ready == 0:
        return f"no replica of revision {state.candidate} answers"
    turn.enter(Phase.SCALING, step=len(turn.policy.stages), forced=True, held=None, paused=False)
    message = f"revision {state.candidate} is promoted past its remaining gates as soon as it has all its replicas"
    turn.tell(RolloutReason.FORCED, message)
    return ""


def _undo(turn: Turn) -> str:
    state = turn.state
    if state.candidate:
        return _abort(turn)
    if not state.previous:
        return "no replaced revision is kept; write the old spec"
    if turn.facts.ready(state.previous) == 0:
        return f"no replica of revision {state.previous}, which is kept, answers"
    message = f"revision {state.previous}, which was kept, takes over from {state.stable} again"
    back_to_previous(turn, RolloutReason.UNDONE, message)
    reason = "somebody undid the rollout"
    turn.set(rejection=Rejection(state.stable, turn.policy.fingerprint, RolloutReason.UNDONE, reason))
    return ""


def _retry(turn: Turn) -> str:
    rejection = turn.state.rejection
    if rejection is None:
        return "no revision is rejected"
    turn.set(rejection=None)
    turn.tell(RolloutReason.RETRIED, f"revision {rejection.revision} may be tried again")
    return ""


def back_to_previous(turn: Turn, reason: RolloutReason, message: str) -> None:
    """The kept revision is stable again; the one that had replaced it leaves once its traffic is taken."""
    state = turn.state
    leaving = Leaving(state.stable, 0 if state.relief else FULL)
    turn.tell(reason, message)
    turn.enter(Phase.IDLE, stable=state.previous, previous="", leaving=leaving, relief="")


_VERBS: Mapping[Verb, Callable[[Turn], str]] = {
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.ABORT: _abort,
    Verb.PROMOTE: _promote,
    Verb.UNDO: _undo,
    Verb.RETRY: _retry,
}
