"""All objects of a plan, in the order in which they are applied."""

from dataclasses import replace

from latentry_operator.api.status import Workload
from latentry_operator.plan.cluster import Autoscaler, ClusterPlan
from latentry_operator.plan.exposure import Exposure, at_rest
from latentry_operator.render.autoscaling import autoscaler
from latentry_operator.render.config_map import config_map
from latentry_operator.render.dashboards import dashboard_config_map
from latentry_operator.render.deployment.deployment import deployment
from latentry_operator.render.disruption_budget import disruption_budget
from latentry_operator.render.kserve.inference_service import inference_service
from latentry_operator.render.kserve.serving_runtime import serving_runtime
from latentry_operator.render.manifest import Manifest, plain
from latentry_operator.render.network_policy import network_policy
from latentry_operator.render.pod_monitor import pod_monitor
from latentry_operator.render.prometheus_rule import prometheus_rule
from latentry_operator.render.routes import grpc_route, http_route, revision_services
from latentry_operator.render.service import service
from latentry_operator.render.service_account import service_account


def render(plan: ClusterPlan, exposure: Exposure | None = None) -> tuple[Manifest, ...]:
    """Everything that must exist for ``plan``, what others need first.

    Args:
        plan: what is to run.
        exposure: who gets the calls; None for the plan's revision alone, as it is in the end.
    """
    exposure = exposure or at_rest(plan)
    sized = _sized(plan, exposure)
    candidates = (
        service_account(plan),
        config_map(plan) if exposure.runs else None,
        network_policy(plan),
        disruption_budget(plan),
        pod_monitor(plan),
        dashboard_config_map(plan),
        prometheus_rule(plan),
        service(plan, exposure.selected),
        *revision_services(plan, exposure),
        *(_workload(sized) if exposure.runs else ()),
        autoscaler(sized) if exposure.runs else None,
        http_route(plan, exposure),
        grpc_route(plan, exposure),
    )
    # Copies: nothing that a caller adds to one object may show up in another.
    return tuple(plain(manifest) for manifest in candidates if manifest is not None)


def _sized(plan: ClusterPlan, exposure: Exposure) -> ClusterPlan:
    """The plan with the replicas that the revision's share of the traffic needs."""
    if exposure.replicas is None:
        return plan
    scaling = plan.scaling
    if scaling.autoscaler is Autoscaler.NONE:
        return replace(plan, scaling=replace(scaling, min_replicas=exposure.replicas, max_replicas=exposure.replicas))
    least = min(max(scaling.min_replicas, exposure.replicas), scaling.max_replicas)
    return replace(plan, scaling=replace(scaling, min_replicas=least))


def _workload(plan: ClusterPlan) -> tuple[Manifest, ...]:
    if plan.workload is Workload.KSERVE:
        return serving_runtime(plan), inference_service(plan)
    return (deployment(plan),)
