"""What a candidate does next where it stands, one function for each phase. At most one transition for each look."""

from collections.abc import Callable, Mapping

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.gates.result import GateResult, count
from latentry_operator.plan.rollout.policy import FULL
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Leaving, Phase
from latentry_operator.plan.rollout.turn import Turn

UNDECIDED = frozenset({RolloutReason.INCONCLUSIVE})
"""Holds that end by themselves once the gates have their evidence."""


def progress(turn: Turn) -> bool:
    """Takes the next step if it is time. Whether the state's phase or step changed."""
    return _PHASES[turn.state.phase](turn)


def failures(turn: Turn) -> bool:
    """Acts on what speaks against the candidate, before anything may speak for it. Whether it left or is held."""
    state = turn.state
    running = turn.facts.revisions.get(state.candidate)
    if running is not None and running.refused:
        turn.fail(RolloutReason.CANDIDATE_REFUSED, running.refused)
        return True
    if state.weight and turn.ready == 0 and turn.stable_ready:
        return _lost(turn)
    if bad := [result for result in turn.results if result.verdict is Verdict.FAIL]:
        message = "; ".join(f"gate {result.gate} ({result.reason}): {result.message}" for result in bad)
        # A gate that asks for people is obeyed only where the others leave the choice.
        turn.fail(RolloutReason.GATE_FAILED, message, hold=all(result.hold for result in bad))
        return True
    late = turn.ready < turn.needed and state.seconds - state.healthy > turn.policy.deadline
    if late:
        complaint = f": {running.problem}" if running is not None and running.problem else ""
        message = f"{turn.ready} of {turn.needed} replicas answered within {turn.policy.deadline:g} s{complaint}"
        turn.fail(RolloutReason.DEADLINE_EXCEEDED, message)
        return True
    return False


def _lost(turn: Turn) -> bool:
    state = turn.state
    message = f"no replica of revision {state.candidate}, which had {state.weight} % of the traffic, answers any more"
    if not turn.policy.rollback:  # it will be held, and what does not answer keeps no share
        turn.enter(Phase.PREPARING, step=0, weight=0, forced=False)
    turn.fail(RolloutReason.CANDIDATE_LOST, message)
    return True


def _preparing(turn: Turn) -> bool:
    if turn.ready < turn.needed:
        return False
    state = turn.state
    turn.tell(RolloutReason.CANDIDATE_READY, f"{turn.ready} of {turn.needed} replicas of {state.candidate} answer")
    turn.enter(Phase.GATING)
    return True


def _gating(turn: Turn) -> bool:
    if not _all_pass(turn):
        return _inconclusive(turn, 0.0)
    if turn.ready < turn.needed:
        return False
    state, policy = turn.state, turn.policy
    if not state.stable:
        _promote(turn, RolloutReason.FIRST_SERVING, f"revision {state.candidate} serves: {_passes(turn.results)}")
    elif policy.shadow:
        message = f"{state.candidate} gets copies of requests for {policy.shadow:g} s: {_passes(turn.results)}"
        turn.tell(RolloutReason.SHADOWING, message)
        turn.enter(Phase.SHADOWING)
    else:
        _scale(turn, 1)
    return True


def _shadowing(turn: Turn) -> bool:
    if turn.state.healthy < turn.policy.shadow:
        return False
    if not _all_pass(turn):
        return _inconclusive(turn, turn.policy.shadow)
    _scale(turn, 1)
    return True


def _scaling(turn: Turn) -> bool:
    state, policy = turn.state, turn.policy
    if turn.ready < turn.needed:
        return False
    if state.leaving is not None and state.leaving.weight:
        return False  # only two revisions ever share the traffic
    stage = policy.stage(state.step)
    last = stage.weight >= FULL
    if state.forced or (last and not stage.hold):
        _promote(turn, RolloutReason.PROMOTED, f"revision {state.candidate} replaces {state.stable or 'nothing'}")
        return True
    if last:
        message = f"{state.candidate} has all traffic and is watched for {stage.hold:g} s; {state.stable} stays"
        turn.tell(RolloutReason.SWITCHED, message)
    else:
        message = f"the share of {state.candidate} is {stage.weight} %, it is watched for {stage.hold:g} s"
        turn.tell(RolloutReason.WEIGHT_RAISED, message)
    turn.enter(Phase.WATCHING if last else Phase.STEPPING, weight=stage.weight)
    return True


def _stepping(turn: Turn) -> bool:
    state, policy = turn.state, turn.policy
    hold = policy.stage(state.step).hold
    if state.healthy < hold:
        return False
    if not _all_pass(turn):
        return _inconclusive(turn, hold)
    if state.weight < FULL:
        _scale(turn, next(step for step, stage in enumerate(policy.stages, 1) if stage.weight > state.weight))
    else:
        message = f"revision {state.candidate} replaces {state.stable}: {_passes(turn.results)}"
        _promote(turn, RolloutReason.PROMOTED, message)
    return True


def _scale(turn: Turn, step: int) -> None:
    stage, state = turn.policy.stage(step), turn.state
    turn.enter(Phase.SCALING, step=step)
    message = f"{state.candidate} gets {count(turn.needed, 'replica')} for {stage.weight} % of the traffic"
    turn.tell(RolloutReason.SCALING, f"{message}: {_passes(turn.results)}")


def _promote(turn: Turn, reason: RolloutReason, message: str) -> None:
    state, keep = turn.state, turn.policy.keep_for
    kept = bool(keep and state.stable in turn.facts.revisions)
    if kept:
        message = f"{message}; {state.stable} stays for {keep:g} s, `latentry rollout undo` goes back"
    leaving = state.leaving
    if state.stable and not kept:
        leaving = Leaving(state.stable, 0)
    turn.tell(reason, message)
    turn.enter(
        Phase.IDLE,
        stable=state.candidate,
        candidate="",
        previous=state.stable if kept else "",
        step=0,
        weight=0,
        forced=False,
        held=None,
        leaving=leaving,
        rejection=None,
        relief="",
    )


def _all_pass(turn: Turn) -> bool:
    return all(result.verdict is Verdict.PASS for result in turn.results)


def _inconclusive(turn: Turn, hold: float) -> bool:
    """Holds the rollout when gates have waited for as long as they may."""
    if turn.state.seconds <= hold + turn.policy.longest_wait or turn.ready < turn.needed:
        return False
    open_ = "; ".join(
        f"gate {result.gate} ({result.reason}): {result.message}"
        for result in turn.results
        if result.verdict is Verdict.WAIT
    )
    message = (
        f"after {turn.state.seconds:.0f} s there is too little evidence: {open_}. It goes on by itself once there is;"
        " or decide with `latentry rollout promote` or `abort`"
    )
    turn.hold(RolloutReason.INCONCLUSIVE, message)
    return True


def _passes(results: tuple[GateResult, ...]) -> str:
    names = [result.gate for result in results if result.verdict is Verdict.PASS]
    return f"passed {', '.join(names)}" if names else "no gate is on"


def _idle(_: Turn) -> bool:
    return False


_PHASES: Mapping[Phase, Callable[[Turn], bool]] = {
    Phase.IDLE: _idle,
    Phase.PREPARING: _preparing,
    Phase.GATING: _gating,
    Phase.SHADOWING: _shadowing,
    Phase.SCALING: _scaling,
    Phase.STEPPING: _stepping,
    Phase.WATCHING: _stepping,
}
