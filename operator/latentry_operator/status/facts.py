"""What the conditions are decided from."""

from dataclasses import dataclass

from latentry_operator.api.objectives import Slo
from latentry_operator.api.status import Workload
from latentry_operator.plan.rollout.machine import Decision
from latentry_operator.plan.tap_facts import LastMinute, TapFacts


@dataclass(frozen=True, slots=True)
class RevisionFacts:
    """What runs of one revision, from its Deployment and pods.

    Attributes:
        name: the revision.
        wanted: replicas that should run.
        current: whether the Deployment's controller has seen its newest spec.
        replicas: pods there are, of this spec or of an older one.
        updated: pods of the newest spec.
        available: pods that answer.
        stalled: the Deployment passed its progress deadline; why, else empty.
        problem: why a pod does not run, or KServe's complaint; empty where nothing is known to be wrong.
    """

    name: str
    wanted: int
    current: bool
    replicas: int
    updated: int
    available: int
    stalled: str = ""
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether all of the newest spec's pods answer and no older one is left."""
        return self.current and self.updated >= self.wanted and self.available >= self.wanted >= self.replicas

    @property
    def serves(self) -> bool:
        """Whether any pod answers."""
        return self.available > 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing of the model is changed: the condition Accepted's reason and message."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Budget:
    """One objective, as Prometheus' recorded series have it, rounded so that it changes rarely.

    Attributes:
        slo: the objective's label: ``availability``, ``latency-50ms``, ``quality``, ``anomaly-rate``.
        remaining: share of the period's error budget that is left at least; negative beyond it.
        burn: errors of the last hour come at most so many times as fast as the objective allows; None without data.
    """

    slo: str
    remaining: float
    burn: float | None = None


@dataclass(frozen=True, slots=True)
class SloFacts:
    """What is known of a model's objectives.

    Attributes:
        watched: whether there is a Prometheus to ask.
        asked: whether it has been asked.
        problem: why it gave no answer, empty when it did.
        budgets: of the objectives that have series.
        last_minute: what the taps measured themselves, None when that says nothing.
    """

    watched: bool = False
    asked: bool = False
    problem: str = ""
    budgets: tuple[Budget, ...] = ()
    last_minute: LastMinute | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One LatentModel as it was seen.

    Attributes:
        generation: of the spec that was looked at.
        refusal: why the spec was not carried out, None when it was.
        workload: what Auto became, None when nothing was planned.
        notes: what Accepted's message says: why that workload, what the cluster cannot give.
        serving: the revision that carries the traffic, None where none does.
        target: the revision that the spec asks for, None when nothing was planned.
        cleanup: what of a deleted model of this name is in the way, else empty.
        failure: what the API server refused when the spec was carried out, else empty.
        slo: the objectives.
        taps: of the pods of the revision that carries the traffic.
        budgets: what is known of the objectives.
        rollout: what the policy says; None where nothing was planned.
        stable: what runs of the revision that owns the promotion, None where none does yet.
        stable_taps, candidate_taps: of the pods of either.
    """

    generation: int
    refusal: Refusal | None = None
    workload: Workload | None = None
    notes: tuple[str, ...] = ()
    serving: RevisionFacts | None = None
    target: RevisionFacts | None = None
    cleanup: str = ""
    failure: str = ""
    slo: Slo | None = None
    taps: tuple[TapFacts, ...] = ()
    budgets: SloFacts = SloFacts()
    rollout: Decision | None = None
    stable: RevisionFacts | None = None
    stable_taps: tuple[TapFacts, ...] = ()
    candidate_taps: tuple[TapFacts, ...] = ()
