"""Who carries the traffic when not everything is as it should be, and how revisions leave."""

from dataclasses import replace

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.clock import DRAIN_SECONDS
from latentry_operator.plan.rollout.policy import FULL
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Leaving, Phase, RolloutState
from latentry_operator.plan.rollout.turn import Turn

_GATES_BEHIND_IT = (Phase.SHADOWING, Phase.SCALING, Phase.STEPPING, Phase.WATCHING)


def relieve(turn: Turn) -> None:
    """While no replica of the stable revision answers, another one that may serve carries everything.

    That is the candidate once it passed the gates before traffic and fails none, or the revision that is kept. It
    promotes nobody: when the stable revision answers again the shares are as before.
    """
    state = turn.state
    if state.relief:
        gone = turn.facts.ready(state.relief) == 0
        if turn.stable_ready or gone:
            back = f"revision {state.stable} answers again" if turn.stable_ready else f"{state.relief} is lost too"
            turn.set(relief="")
            turn.tell(RolloutReason.STABLE_BACK if turn.stable_ready else RolloutReason.STABLE_LOST, back, warning=gone)
        return
    if not state.stable or turn.stable_ready:
        return
    helper = _helper(turn)
    if helper and weights(state).get(helper, 0) < FULL:
        message = f"no replica of revision {state.stable} answers; {helper} carries all traffic meanwhile"
        turn.set(relief=helper)
        turn.tell(RolloutReason.STABLE_LOST, message, warning=True)


def _helper(turn: Turn) -> str:
    state = turn.state
    failed = state.held is not None and state.held.reason is not RolloutReason.INCONCLUSIVE
    failed = failed or any(result.verdict is Verdict.FAIL for result in turn.results)
    if state.candidate and state.phase in _GATES_BEHIND_IT and not failed and turn.ready:
        return state.candidate
    if state.previous and turn.facts.ready(state.previous):
        return state.previous
    return ""


def retire(turn: Turn, before: Leaving | None, elapsed: float) -> None:
    """Takes the traffic off a leaving revision as soon as another can have it; removes it once calls had time to end.

    Args:
        before: what was leaving at the last look.
        elapsed: observed seconds since.
    """
    leaving, state, facts = turn.state.leaving, turn.state, turn.facts
    if leaving is None:
        return
    observed = facts.traffic.get(leaving.revision, 0)
    if (
        not leaving.weight
        and observed
        and facts.ready(leaving.revision)
        and not facts.ready(state.relief or state.stable)
    ):
        # Taking its traffic was decided but not carried out, and now nobody could have it.
        leaving = replace(leaving, weight=observed)
        turn.set(leaving=leaving)
    if leaving.weight:
        taker = state.relief or state.stable
        if facts.ready(taker) or leaving.revision not in facts.revisions:
            turn.set(leaving=replace(leaving, weight=0))
            turn.tell(RolloutReason.ROLLED_BACK, f"{taker} has all traffic; {leaving.revision} had {leaving.weight} %")
        elif before is None or before.revision != leaving.revision:
            message = (
                f"no replica of revision {state.stable}, which should have the traffic, answers;"
                f" {leaving.revision} keeps its {leaving.weight} % until one does, or until another revision may serve"
            )
            turn.tell(RolloutReason.ROLLBACK_TARGET_BROKEN, message, warning=True)
        return
    if observed:
        return
    seconds = leaving.seconds + (elapsed if before == leaving else 0.0)
    if seconds < DRAIN_SECONDS and leaving.revision in facts.revisions:
        turn.set(leaving=replace(leaving, seconds=seconds))
        return
    turn.set(leaving=None)
    if leaving.revision != state.candidate:
        turn.tell(RolloutReason.REMOVED, f"revision {leaving.revision} had its time to finish and is removed")


def expire(turn: Turn) -> None:
    """Lets the kept revision go when its time is over."""
    state = turn.state
    if not state.previous or state.seconds < turn.policy.keep_for:
        return
    if state.relief == state.previous or turn.facts.traffic.get(state.previous):
        return
    turn.tell(RolloutReason.KEEP_ENDED, f"revision {state.previous} was kept for its time and is removed")
    turn.set(previous="")


def weights(state: RolloutState) -> dict[str, int]:
    """Shares by revision, percent, together 100; empty while nothing may serve."""
    if state.relief:
        return {state.relief: FULL}
    if state.leaving is not None and state.leaving.weight:
        other, share = state.leaving.revision, state.leaving.weight
    else:
        other, share = state.candidate, state.weight
    shares = {state.stable: FULL - share, other: share} if share else {state.stable: FULL}
    return {revision: weight for revision, weight in shares.items() if revision and weight}
