"""One look in progress: the state as it becomes, and what is told on the way."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from latentry_operator.plan.rollout.facts import Evidence, RolloutFacts
from latentry_operator.plan.rollout.gates.result import GateResult
from latentry_operator.plan.rollout.policy import Policy, replicas_for
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Held, Leaving, Phase, Rejection, RolloutState

_ON_TRIAL_WITH_TRAFFIC = (Phase.STEPPING, Phase.WATCHING)


@dataclass(frozen=True, slots=True)
class Happening:
    """What is worth an event."""

    kind: Literal["Normal", "Warning"]
    reason: RolloutReason
    message: str


class Turn:
    """The working copy of one look."""

    def __init__(self, state: RolloutState, facts: RolloutFacts, policy: Policy, now: float) -> None:
        self.state = state
        self.facts = facts
        self.policy = policy
        self.now = now
        self.told: list[Happening] = []
        self.results: tuple[GateResult, ...] = ()

    def tell(self, reason: RolloutReason, message: str, *, warning: bool = False) -> None:
        """Something happened."""
        self.told.append(Happening("Warning" if warning else "Normal", reason, message))

    def set(self, **changes: Any) -> None:
        """Changes the state without beginning a stage."""
        self.state = replace(self.state, **changes)

    def enter(self, phase: Phase, **changes: Any) -> None:
        """Begins a phase or step: its clocks start at zero."""
        self.set(phase=phase, since=self.now, seconds=0.0, healthy=0.0, was_healthy=False, **changes)

    @property
    def ready(self) -> int:
        """Replicas of the candidate that answer."""
        return self.facts.ready(self.state.candidate)

    @property
    def stable_ready(self) -> int:
        """Replicas of the stable revision that answer."""
        return self.facts.ready(self.state.stable)

    @property
    def needed(self) -> int:
        """Replicas that the candidate needs where it stands."""
        return candidate_replicas(self.state, self.policy, self.facts.full)

    @property
    def evidence(self) -> Evidence:
        """What is known about this candidate at this stage: what was counted before it is left out."""
        evidence, state = self.facts.evidence, self.state
        if evidence.stage == state.stage:
            return evidence
        if evidence.stage.rpartition("/")[0] != state.candidate:
            return Evidence()
        monitor = replace(evidence.monitor, scored=0, anomalous=0) if evidence.monitor is not None else None
        return replace(evidence, traffic=None, monitor=monitor)

    def leave(self, reason: RolloutReason, message: str, *, warning: bool = False) -> None:
        """The candidate makes room. Traffic that it has stays with it until the stable revision can take it."""
        state = self.state
        leaving = Leaving(state.candidate, state.weight if state.relief != state.candidate else 100)
        if state.leaving is not None and state.leaving.weight:
            leaving = state.leaving
        self.tell(reason, message, warning=warning)
        relief = "" if state.relief == state.candidate else state.relief
        self.enter(Phase.IDLE, candidate="", step=0, weight=0, forced=False, held=None, leaving=leaving, relief=relief)

    def reject(self, reason: RolloutReason, message: str) -> None:
        """Gives the candidate up; it is not tried again until the spec changes or somebody says so."""
        name = self.state.candidate
        self.leave(RolloutReason.REJECTED, f"revision {name} is given up ({reason}): {message}", warning=True)
        self.set(rejection=Rejection(name, self.policy.fingerprint, reason, message))

    def fail(self, reason: RolloutReason, message: str, *, hold: bool = False) -> None:
        """The candidate failed: rejected, or held where the rules or the gate say so, or where nothing else serves."""
        if self.state.stable and self.policy.rollback and not hold:
            self.reject(reason, message)
        else:
            self.hold(reason, message)

    def hold(self, reason: RolloutReason, message: str) -> None:
        """The candidate stays at its share; said once."""
        held = self.state.held
        if held is not None and held.reason is reason:
            return
        share = f"at {self.state.weight} %" if self.state.weight else "without traffic"
        told = f"revision {self.state.candidate} is held {share} ({reason}): {message}"
        self.tell(RolloutReason.HELD, told, warning=True)
        self.set(held=Held(reason, message))


def candidate_replicas(state: RolloutState, policy: Policy, full: int) -> int:
    """Replicas that the candidate is to have: for the share it gets next, before it gets it."""
    if not state.stable or state.relief == state.candidate:
        return replicas_for(100, full)
    weight = policy.stage(state.step).weight
    if state.phase in _ON_TRIAL_WITH_TRAFFIC or state.weight > weight:
        weight = max(weight, state.weight)
    return replicas_for(weight, full)
