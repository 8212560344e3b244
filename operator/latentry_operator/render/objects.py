"""All objects of a plan, in the order in which they are applied."""

from latentry_operator.api.status import Workload
from latentry_operator.plan.cluster import ClusterPlan
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
from latentry_operator.render.service import service
from latentry_operator.render.service_account import service_account


def render(plan: ClusterPlan, *, traffic: str | None = None) -> tuple[Manifest, ...]:
    """Everything that must exist for ``plan``, what others need first.

    Args:
        plan: what is to run.
        traffic: the revision that the Service sends its calls to; None for the plan's own. Another one while the
            plan's is not available yet.
    """
    candidates = (
        service_account(plan),
        config_map(plan),
        network_policy(plan),
        disruption_budget(plan),
        pod_monitor(plan),
        dashboard_config_map(plan),
        prometheus_rule(plan),
        service(plan, traffic or plan.revision),
        *_workload(plan),
        autoscaler(plan),
    )
    # Copies: nothing that a caller adds to one object may show up in another.
    return tuple(plain(manifest) for manifest in candidates if manifest is not None)


def _workload(plan: ClusterPlan) -> tuple[Manifest, ...]:
    if plan.workload is Workload.KSERVE:
        return serving_runtime(plan), inference_service(plan)
    return (deployment(plan),)
