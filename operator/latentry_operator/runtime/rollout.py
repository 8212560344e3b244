"""A model's rollout in the cluster: what is seen becomes the policy's facts, what it decides becomes an exposure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from sys import maxsize

from latentry_operator.api.labels import ROLLOUT_ANNOTATION
from latentry_operator.kube.kinds import GRPC_ROUTE, HTTP_ROUTE
from latentry_operator.kube.records import Child
from latentry_operator.plan.cluster import Autoscaler, ClusterPlan
from latentry_operator.plan.exposure import Exposure, routed
from latentry_operator.plan.rollout.facts import Command, Evidence, RolloutFacts, Running, parse_command
from latentry_operator.plan.rollout.machine import Decision, advance
from latentry_operator.plan.rollout.policy import FULL, Policy, policy_of
from latentry_operator.plan.rollout.state import RolloutState
from latentry_operator.plan.tap_facts import TapFacts
from latentry_operator.render.service import revision_behind
from latentry_operator.runtime.observe import WORKLOADS, Seen, status_of
from latentry_operator.status.rollout import rollout_state
from latentry_operator.status.watching import complaint, refusal


@dataclass(frozen=True, slots=True)
class Given:
    """What a pass knows beside the API server's objects.

    Attributes:
        taps: of all the model's pods.
        evidence: what the gates judge by.
        now: Unix time, seconds.
    """

    taps: tuple[TapFacts, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    now: float = 0.0


def memory(seen: Seen) -> RolloutState | None:
    """The rollout as the status remembers it, None when it does not."""
    return rollout_state(status_of(seen.record).rollout)


def policy(plan: ClusterPlan, state: RolloutState | None) -> Policy:
    """The rules for a look in this cluster."""
    divides = routed(plan)
    rules = policy_of(plan.model.spec, weights=divides, mirror=divides)
    if state is not None and (state.stable or not state.candidate):
        return rules
    # The first revision: a pod takes no calls before its tap saw the promised bundle and its golden outputs.
    return replace(rules, gates=rules.gates.model_copy(update={"golden": False, "max_restarts": maxsize}))


def look(seen: Seen, plan: ClusterPlan, given: Given) -> Decision:
    """What the policy says of what is seen."""
    state = memory(seen)
    facts = rollout_facts(seen, plan, given, state)
    rules = policy(plan, state)
    return advance(state, facts, rules, given.now)


def exposure(plan: ClusterPlan, decision: Decision) -> Exposure:
    """Who gets the calls. While nothing may serve yet the Service waits for the plan's revision."""
    state, desired = decision.state, decision.desired
    runs = plan.revision in (state.stable, state.candidate) and plan.revision in desired.replicas
    sized = plan.revision == state.candidate and bool(state.stable)
    return Exposure(
        selected=desired.selected or plan.revision,
        shares=desired.weights,
        mirror=desired.mirror,
        revisions=tuple(sorted({*desired.replicas, *desired.weights, *([plan.revision] if runs else [])})),
        runs=runs,
        replicas=desired.replicas[plan.revision] if sized else None,
    )


def rollout_facts(seen: Seen, plan: ClusterPlan, given: Given, state: RolloutState | None) -> RolloutFacts:
    """One look at the cluster."""
    revisions = {name: _running(seen, plan, given.taps, name) for name in sorted(_names(seen))}
    full = plan.scaling.min_replicas
    if state is not None and state.stable in revisions and state.stable != plan.revision:
        full = max(full, revisions[state.stable].wanted)
    return RolloutFacts(
        target=plan.revision,
        full=full,
        revisions=revisions,
        traffic=traffic(seen),
        evidence=given.evidence,
        command=command(seen),
    )


def command(seen: Seen) -> Command | None:
    """What the annotation asks for, None for nothing that is a command."""
    annotations = seen.record.raw["metadata"].get("annotations") or {}
    return parse_command(str(annotations.get(ROLLOUT_ANNOTATION, "")))


def traffic(seen: Seen) -> dict[str, int]:
    """Shares by revision, percent: of the routes, and all for what the model's Service selects.

    Where both name a revision the larger share counts: a revision is without traffic once nothing leads to it.
    """
    shares = {seen.traffic: FULL} if seen.traffic else {}
    for route in _routes(seen):
        whole = sum(route.shares.values()) or 1
        for service, weight in route.shares.items():
            if weight and (revision := revision_behind(service)):
                share = max(1, round(FULL * weight / whole))
                shares[revision] = max(shares.get(revision, 0), share)
    return shares


def _routes(seen: Seen) -> Iterator[Child]:
    return (
        child
        for kind, child in seen.children
        if kind in (HTTP_ROUTE, GRPC_ROUTE) and child.owner == seen.owner and child.key[1] == seen.owner.name
    )


def _names(seen: Seen) -> set[str]:
    """Revisions that have a workload of ours."""
    return {
        child.revision
        for kind, child in seen.children
        if kind in WORKLOADS and child.revision and child.owner == seen.owner and not child.deleting
    }


def _running(seen: Seen, plan: ClusterPlan, taps: Sequence[TapFacts], name: str) -> Running:
    fixed = plan.scaling.min_replicas if plan.scaling.autoscaler is Autoscaler.NONE else None
    facts = seen.revision(name)
    own = [tap for tap in taps if tap.revision == name]
    born = [child.created for kind, child in seen.children if kind in WORKLOADS and child.revision == name]
    return Running(
        # All pods of a revision run the same model: those of an older template answer as well.
        ready=facts.available if facts is not None else 0,
        wanted=facts.wanted if facts is not None else fixed or 0,
        created=min((datetime.fromisoformat(text).timestamp() for text in born if text), default=0.0),
        restarts=sum(pod.restarts for pod in seen.pods if pod.revision == name),
        refused=refusal(own),
        problem=complaint(own) or seen.problem(name),
    )
