"""What the spec asks for, against what is under way: start, cancel, replace, go back."""

from latentry_operator.plan.rollout.commands import back_to_previous
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Phase
from latentry_operator.plan.rollout.turn import Turn


def follow(turn: Turn) -> bool:
    """Follows the spec. Whether the state changed."""
    if turn.state.candidate:
        return _changed_in_the_middle(turn)
    _forget_rejection(turn)
    return _stable_gone(turn) or _start(turn)


def _changed_in_the_middle(turn: Turn) -> bool:
    state, target = turn.state, turn.facts.target
    if target == state.candidate:
        return False
    if target == state.stable:
        message = f"the spec is revision {state.stable} again, which goes on; {state.candidate} is not needed"
        turn.leave(RolloutReason.CANCELLED, message)
    else:
        goes_on = f"{state.stable} goes on" if state.stable else "nothing served before"
        message = f"the spec asks for revision {target} in place of {state.candidate}; {goes_on}"
        turn.leave(RolloutReason.SUPERSEDED, message)
    return True


def _forget_rejection(turn: Turn) -> None:
    rejection = turn.state.rejection
    if rejection is None:
        return
    if rejection.revision != turn.facts.target or rejection.policy != turn.policy.fingerprint:
        turn.set(rejection=None)


def _stable_gone(turn: Turn) -> bool:
    """Objects of a stable revision that the spec no longer describes cannot be made again."""
    state, facts = turn.state, turn.facts
    if not state.stable or state.stable == facts.target or state.stable in facts.revisions:
        return False
    if state.leaving is not None and state.leaving.weight:
        return False
    if facts.ready(state.previous):
        message = f"the objects of revision {state.stable} are gone; {state.previous}, which was kept, takes its place"
        back_to_previous(turn, RolloutReason.BACK_TO_PREVIOUS, message)
        return True
    message = f"the objects of revision {state.stable} are gone; revision {facts.target} of the spec takes its place"
    turn.tell(RolloutReason.STABLE_GONE, message, warning=True)
    turn.set(stable="", rejection=None, relief="")
    return True


def _start(turn: Turn) -> bool:
    state, facts = turn.state, turn.facts
    target = facts.target
    if target == state.stable or state.rejection is not None:
        return False
    if target == state.previous and facts.ready(target):
        message = f"the spec is revision {target} again, which was kept: it takes over from {state.stable}"
        back_to_previous(turn, RolloutReason.BACK_TO_PREVIOUS, message)
        return True
    if state.paused or not target:
        return False
    if facts.ready(state.previous) and not facts.ready(state.stable):
        message = f"revision {state.previous}, which was kept, serves in place of {state.stable}: it is the base now"
        back_to_previous(turn, RolloutReason.BACK_TO_PREVIOUS, message)
        return True
    leaving = state.leaving
    if leaving is not None and leaving.revision == target and not (leaving.weight or facts.traffic.get(target)):
        leaving = None
    beside = f"beside {state.stable}" if state.stable else "as the first"
    deadline = f"{turn.policy.deadline:g} s"
    turn.tell(RolloutReason.STARTED, f"revision {target} starts {beside}; it has {deadline} to get ready")
    turn.set(candidate=target, previous="", leaving=leaving, relief="", held=None)
    turn.enter(Phase.PREPARING, step=0, attempt=0, weight=0)
    return True
