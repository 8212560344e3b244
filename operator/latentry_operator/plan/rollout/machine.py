"""The rollout's state machine: ``advance`` looks once and decides."""

from collections.abc import Mapping
from dataclasses import dataclass

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.clock import credit, look_after, stands_still
from latentry_operator.plan.rollout.commands import obey
from latentry_operator.plan.rollout.facts import RolloutFacts, Running
from latentry_operator.plan.rollout.gates import GateInput, GateResult, before_traffic, with_traffic
from latentry_operator.plan.rollout.phases import UNDECIDED, failures, progress
from latentry_operator.plan.rollout.policy import FULL, Policy
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.recover import recover
from latentry_operator.plan.rollout.state import Phase, RolloutState
from latentry_operator.plan.rollout.summary import Summary, summarise
from latentry_operator.plan.rollout.target import follow
from latentry_operator.plan.rollout.traffic import expire, relieve, retire, weights
from latentry_operator.plan.rollout.turn import Happening, Turn

__all__ = ["Decision", "Desired", "Happening", "advance"]


@dataclass(frozen=True, slots=True)
class Desired:
    """What must exist and carry traffic.

    Attributes:
        weights: shares by revision, percent, together 100; empty while nothing may serve.
        selected: the revision that the model's own Service selects, empty for none: the one with all the traffic, or
            the stable one where routes divide it.
        replicas: least replicas by revision; its keys are all revisions that must exist, every other one goes.
        mirror: the revision that gets copies of requests, empty for none.
    """

    weights: Mapping[str, int]
    selected: str
    replicas: Mapping[str, int]
    mirror: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One look.

    Attributes:
        state: to be remembered before anything else is done.
        results: what the gates say, for the candidate's status.
        look_seconds: when to look again although nothing may have changed; 0 at once, None never.
    """

    state: RolloutState
    desired: Desired
    happenings: tuple[Happening, ...]
    results: tuple[GateResult, ...]
    summary: Summary
    look_seconds: float | None


def advance(state: RolloutState | None, facts: RolloutFacts, policy: Policy, now: float) -> Decision:
    """Decides from one look. The same arguments give an equal decision.

    Args:
        state: what the last decision said to remember; None when that is lost.
        now: Unix time, seconds. It may jump: only observed time counts.
    """
    now = round(now, 3)
    before = state
    if state is None:
        state = recover(facts, policy, now)
    turn = Turn(state, facts, policy, now)
    if before is None and state.stable:
        shares = ", ".join(f"{name} {weight} %" for name, weight in weights(state).items())
        turn.tell(RolloutReason.RECOVERED, f"the rollout's memory is made anew from the traffic: {shares}")
    elapsed = credit(state, policy, now)
    turn.results = _judge(turn)
    _tick(turn, elapsed)
    commanded = obey(turn)
    if not (follow(turn) or commanded) and turn.state.candidate:
        _try(turn)
    relieve(turn)
    retire(turn, state.leaving, elapsed)
    if not turn.state.candidate:
        expire(turn)
    moved = _place(turn.state) != _place(state) or (turn.state.leaving is not None and state.leaving is None)
    # A clock that stands still is not written again and again.
    if turn.told or moved or not (stands_still(turn.state) or turn.state.resting):
        turn.set(looked=now)
    return Decision(
        state=turn.state,
        desired=_desired(turn),
        happenings=tuple(turn.told),
        results=turn.results if turn.state.candidate == state.candidate else (),
        summary=summarise(turn),
        look_seconds=0.0 if moved else look_after(turn.state, policy),
    )


def _judge(turn: Turn) -> tuple[GateResult, ...]:
    state = turn.state
    if not state.candidate or state.forced or state.phase is Phase.PREPARING:
        return ()
    running = turn.facts.revisions.get(state.candidate, Running(0, 0))
    given = GateInput(turn.evidence, turn.policy, running, bool(state.stable))
    traffic = state.weight or state.relief == state.candidate or state.phase is Phase.SHADOWING
    return with_traffic(given) if traffic else before_traffic(given)


def _tick(turn: Turn, elapsed: float) -> None:
    """Time counts as healthy between two looks that both found the candidate so."""
    state = turn.state
    if not state.candidate:
        if not state.previous:
            return
        turn.set(seconds=round(state.seconds + elapsed, 3))
        return
    if stands_still(state):
        turn.set(was_healthy=False)
        return
    fails = any(result.verdict is Verdict.FAIL for result in turn.results)
    healthy = turn.ready >= turn.needed and not fails
    counted = elapsed if healthy and state.was_healthy else 0.0
    turn.set(seconds=round(state.seconds + elapsed, 3), healthy=round(state.healthy + counted, 3), was_healthy=healthy)


def _try(turn: Turn) -> None:
    """Failures first; then, unless people have a say, the next step."""
    if failures(turn):
        return
    held = turn.state.held
    decided = all(result.verdict is Verdict.PASS for result in turn.results)
    if held is not None and (not turn.state.stable or (held.reason in UNDECIDED and decided)):
        turn.set(held=None)
        turn.tell(RolloutReason.HOLD_ENDED, f"revision {turn.state.candidate} goes on: {held.reason} is over")
    if turn.state.held is None and not turn.state.paused:
        progress(turn)


def _desired(turn: Turn) -> Desired:
    state, facts = turn.state, turn.facts
    shares = weights(state)
    replicas: dict[str, int] = {}
    if state.leaving is not None:
        running = facts.revisions.get(state.leaving.revision)
        replicas[state.leaving.revision] = running.wanted if running is not None else 0
    for name in (state.stable, state.previous):
        if name:
            replicas[name] = facts.full
    if state.candidate:
        replicas[state.candidate] = max(turn.needed, replicas.get(state.candidate, 0))
    whole = [name for name, weight in shares.items() if weight == FULL]
    return Desired(
        weights=shares,
        selected=whole[0] if whole else state.stable,
        replicas=replicas,
        mirror=state.candidate if state.phase is Phase.SHADOWING and turn.ready else "",
    )


def _place(state: RolloutState) -> tuple[str, str, int, str]:
    return state.phase, state.candidate, state.step, state.stable
