"""What the cluster can do, from the kinds it serves."""

from collections.abc import Collection
from typing import Literal

from latentry_operator.kube import kinds
from latentry_operator.kube.kinds import Kind
from latentry_operator.plan.facts import Capabilities


def capabilities(served: Collection[Kind]) -> Capabilities:
    """The planner's view of what discovery found."""
    budget: Literal["policy/v1", "policy/v1beta1"] | None = None
    if kinds.DISRUPTION_BUDGET_V1 in served:
        budget = "policy/v1"
    elif kinds.DISRUPTION_BUDGET_V1BETA1 in served:
        budget = "policy/v1beta1"
    hpa: Literal["autoscaling/v2", "autoscaling/v2beta2"] | None = None
    if kinds.AUTOSCALER_V2 in served:
        hpa = "autoscaling/v2"
    elif kinds.AUTOSCALER_V2BETA2 in served:
        hpa = "autoscaling/v2beta2"
    return Capabilities(
        kserve=kinds.INFERENCE_SERVICE in served and kinds.SERVING_RUNTIME in served,
        keda=kinds.SCALED_OBJECT in served,
        pod_monitor=kinds.POD_MONITOR in served,
        prometheus_rule=kinds.PROMETHEUS_RULE in served,
        http_route=kinds.HTTP_ROUTE in served,
        grpc_route=kinds.GRPC_ROUTE in served,
        pod_disruption_budget=budget,
        hpa=hpa,
    )
