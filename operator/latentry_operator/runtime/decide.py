"""From what is seen of a model to what must exist: pure decisions, no calls."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.status import Workload
from latentry_operator.kube.kinds import CHILDREN, DEPLOYMENT, Kind, Obj
from latentry_operator.kube.records import Child
from latentry_operator.plan.cluster import (
    Autoscaler,
    Capabilities,
    ClusterPlan,
    ClusterSettings,
    PoolFacts,
    Waiting,
    plan_cluster,
)
from latentry_operator.plan.rollout import machine
from latentry_operator.render import render
from latentry_operator.runtime.observe import Seen
from latentry_operator.runtime.rollout import Given, exposure, look, policy
from latentry_operator.status.facts import Refusal, RevisionFacts
from latentry_operator.status.reasons import AcceptedReason
from latentry_serving.contract.errors import InvalidInput, Problem

KINDS: Mapping[tuple[str, str], Kind] = {(kind.api_version, kind.name): kind for kind in CHILDREN}


@dataclass(frozen=True, slots=True)
class Decision:
    """What must exist for a model.

    Attributes:
        plan: of the revision that the spec asks for.
        target: what runs of it.
        traffic: the revision that the model's Service selects.
        objects: everything that must exist, in the order of writing.
        kept: revisions whose objects stay as they are although the plan does not name them.
        rollout: what the policy says.
    """

    plan: ClusterPlan
    target: RevisionFacts
    traffic: str
    objects: tuple[tuple[Kind, Obj], ...]
    kept: frozenset[str]
    rollout: machine.Decision


def plan_for(
    seen: Seen,
    model: LatentModel,
    able: Capabilities,
    pools: Callable[[str], PoolFacts],
    settings: ClusterSettings,
) -> ClusterPlan | Refusal:
    """What the spec asks for, or why nothing is to be changed.

    Args:
        pools: facts about the GPUPool of that name, and about whichever others a message may name.
    """
    facts = pools(model.spec.placement.gpu_pool or "")
    try:
        plan = plan_cluster(model, able, facts, settings)
        if isinstance(plan, ClusterPlan) and _stays_deployment(seen, plan):
            plan = plan_cluster(model, replace(able, kserve=False), facts, settings)
    except InvalidInput as error:
        return invalid(error.problems)
    if isinstance(plan, Waiting):
        return Refusal(plan.reason, plan.message)
    if able.kserve and not plan.capabilities.kserve:
        reason = "workload Auto stays Deployment for the revision that runs so; the next one is KServe's"
        plan = replace(plan, workload_reason=reason)
    return replace(plan, notes=(*plan.notes, *policy(plan, None).notes))


def decide(seen: Seen, plan: ClusterPlan, given: Given) -> Decision:
    """What must exist now."""
    rollout = look(seen, plan, given)
    exposed = exposure(plan, rollout)
    least = plan.scaling.min_replicas if exposed.replicas is None else exposed.replicas
    fixed = least if plan.scaling.autoscaler is Autoscaler.NONE else None
    target = seen.revision(plan.revision, fixed) or RevisionFacts(
        plan.revision, least, False, 0, 0, 0, problem=seen.problem(plan.revision)
    )
    objects = tuple((KINDS[obj["apiVersion"], obj["kind"]], obj) for obj in render(plan, exposed))
    kept = {*rollout.desired.replicas, *rollout.desired.weights} - ({plan.revision} if exposed.runs else set())
    return Decision(plan, target, exposed.selected, objects, frozenset(kept - {""}), rollout)


def unwanted(seen: Seen, decision: Decision) -> list[tuple[Kind, str]]:
    """Kinds and names of objects that we own and need no more."""
    wanted = {(kind, obj["metadata"]["name"]) for kind, obj in decision.objects}
    return [
        (kind, child.key[1])
        for kind, child in seen.children
        if child.owner == seen.owner
        and not child.deleting
        and (kind, child.key[1]) not in wanted
        and child.revision not in decision.kept
    ]


def leftovers(seen: Seen) -> list[tuple[Kind, Child]]:
    """Objects of ours that belong to a deleted LatentModel of this name, and that nothing has begun to remove."""
    return [
        (kind, child)
        for kind, child in seen.children
        if child.owned
        and not child.deleting
        and child.owner is not None
        and child.owner != seen.owner
        and (child.owner.kind, child.owner.name) == (seen.owner.kind, seen.owner.name)
    ]


def invalid(problems: Collection[Problem]) -> Refusal:
    """A spec with problems, all of them."""
    return Refusal(AcceptedReason.INVALID_SPEC, "; and ".join(str(problem) for problem in problems))


def _stays_deployment(seen: Seen, plan: ClusterPlan) -> bool:
    """Whether Auto became Deployment for this revision: it stays so, as two workloads of one would share its name."""
    if plan.model.spec.workload is not Workload.AUTO or plan.workload is not Workload.KSERVE:
        return False
    return any(
        kind is DEPLOYMENT and child.owner == seen.owner and child.revision == plan.revision
        for kind, child in seen.children
    )
