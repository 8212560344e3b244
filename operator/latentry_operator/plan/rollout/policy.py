"""The rules of one rollout, resolved from the spec: no default is left open, no unit but seconds and percent."""

import hashlib
import json
from dataclasses import dataclass
from math import ceil

from latentry_operator.api import defaults
from latentry_operator.api.latentmodel import LatentModelSpec
from latentry_operator.api.objectives import Slo
from latentry_operator.api.rollout import Analysis, FailureAction, Gates, Strategy

FULL = 100


@dataclass(frozen=True, slots=True)
class Stage:
    """A share of the traffic, percent, and for how many healthy seconds it is watched."""

    weight: int
    hold: float


@dataclass(frozen=True, slots=True)
class Policy:
    """How a candidate takes over.

    Attributes:
        stages: ascending, the last with all the traffic.
        shadow: seconds with copies of requests before the first stage; 0 for none.
        deadline: longest observed time without enough replicas that answer, seconds.
        keep_for: how long the replaced revision stays, seconds.
        longest_wait: how long gates may wait for evidence beyond a stage's own time, seconds.
        rollback: whether a failed gate gives the candidate up; else it is held.
        gates, analysis, slo: as in the spec.
        fingerprint: changes with the rules, not with what is deployed.
        notes: what of the spec cannot be done here, as sentences.
    """

    stages: tuple[Stage, ...]
    shadow: float
    deadline: float
    keep_for: float
    longest_wait: float
    rollback: bool
    gates: Gates
    analysis: Analysis
    slo: Slo
    fingerprint: str
    notes: tuple[str, ...] = ()

    def stage(self, step: int) -> Stage:
        """The stage of a step, counted from 1; the nearest one beyond either end."""
        return self.stages[max(1, min(step, len(self.stages))) - 1]


def policy_of(spec: LatentModelSpec, *, weights: bool, mirror: bool) -> Policy:
    """The rules that a spec gives.

    Args:
        weights: whether traffic can be divided (Gateway API routes; one machine's own listener).
        mirror: whether requests can be copied.
    """
    rollout, notes = spec.rollout, []
    steps = defaults.steps(rollout)
    if steps and not weights:
        steps = ()
        notes.append(
            f"rollout.strategy {Strategy.CANARY} needs Gateway API routes, which are missing: traffic switches at once,"
            " as with BlueGreen; install the Gateway API and write spec.gateway, or write strategy: BlueGreen"
        )
    shadow = rollout.shadow.hold_for.seconds if rollout.shadow is not None else 0.0
    if shadow and not mirror:
        shadow = 0.0
        notes.append("rollout.shadow is left out: nothing here can copy requests; use a gateway with RequestMirror")
    stages = [Stage(step.weight, step.hold_for.seconds) for step in steps]
    if not stages or stages[-1].weight < FULL:
        stages.append(Stage(FULL, rollout.watch_for.seconds))
    rules = {
        "rollout": rollout.model_dump(mode="json", exclude_defaults=True),
        "slo": spec.slo.model_dump(mode="json", exclude_defaults=True),
    }
    return Policy(
        stages=tuple(stages),
        shadow=shadow,
        deadline=rollout.deadline.seconds,
        keep_for=rollout.keep_for.seconds,
        longest_wait=rollout.analysis.longest_wait.seconds,
        rollback=rollout.on_failure is FailureAction.ROLLBACK,
        gates=rollout.gates,
        analysis=rollout.analysis,
        slo=spec.slo,
        fingerprint=hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:8],
        notes=tuple(notes),
    )


def replicas_for(weight: int, full: int) -> int:
    """Replicas that a share of the traffic needs, at least one: ``ceil(full * weight / 100)``."""
    return max(1, ceil(full * weight / FULL))
