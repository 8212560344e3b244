"""Who gets the calls: what the rollout decided, as the renderers need it."""

from collections.abc import Mapping
from dataclasses import dataclass

from latentry_operator.plan.outcome import ClusterPlan


@dataclass(frozen=True, slots=True)
class Exposure:
    """One model's revisions at one moment.

    Attributes:
        selected: the revision that the model's own Service selects.
        shares: of the routes by revision, percent, together 100; a route is made only where this is not empty.
        mirror: the revision that routes send copies of requests to, empty for none.
        revisions: those that have objects, each gets a Service of its own where there are routes.
        runs: whether the plan's own revision has objects; else it was given up, or is not begun.
        replicas: fewest replicas of the plan's revision; None for as many as the plan says.
    """

    selected: str
    shares: Mapping[str, int]
    mirror: str = ""
    revisions: tuple[str, ...] = ()
    runs: bool = True
    replicas: int | None = None


def at_rest(plan: ClusterPlan) -> Exposure:
    """The plan's revision alone, with all the traffic."""
    return Exposure(plan.revision, {plan.revision: 100}, revisions=(plan.revision,))


def routed(plan: ClusterPlan) -> bool:
    """Whether the spec asks for routes that the cluster can have: all of them, or none."""
    gateway, able = plan.model.spec.gateway, plan.capabilities
    if gateway is None:
        return False
    return (not gateway.hostnames or able.http_route) and (not gateway.grpc_hostnames or able.grpc_route)
