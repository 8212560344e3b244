"""What sets the number of replicas. The same for both workloads: it acts on the Deployment, KServe's child or ours."""

from latentry_operator.plan.cluster import Autoscaler, ClusterPlan
from latentry_operator.render.manifest import Manifest, revision_object
from latentry_serving.contract import metrics

_AVERAGED_OVER = "1m"
"""Requests in flight are a gauge, read at every scrape: one reading says little."""


def autoscaler(plan: ClusterPlan) -> Manifest | None:
    """The HorizontalPodAutoscaler or ScaledObject of the revision; None when nothing scales."""
    match plan.scaling.autoscaler:
        case Autoscaler.HPA:
            return _hpa(plan)
        case Autoscaler.KEDA:
            return _scaled_object(plan)
        case Autoscaler.NONE:
            return None


def _target(plan: ClusterPlan) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.deployment}


def _hpa(plan: ClusterPlan) -> Manifest:
    # Both API versions know these fields by the same names.
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": plan.scaling.target}}
    return revision_object(
        plan,
        plan.capabilities.hpa or "autoscaling/v2",
        "HorizontalPodAutoscaler",
        spec={
            "scaleTargetRef": _target(plan),
            "minReplicas": plan.scaling.min_replicas,
            "maxReplicas": plan.scaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    )


def _scaled_object(plan: ClusterPlan) -> Manifest:
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": plan.settings.prometheus_url,
            "query": in_flight_query(plan),
            "threshold": str(plan.scaling.target),
            # A missing metric says that scraping is broken, not that nobody calls: then the replicas stay as they are.
            "ignoreNullValues": "false",
        },
    }
    return revision_object(
        plan,
        "keda.sh/v1alpha1",
        "ScaledObject",
        spec={
            "scaleTargetRef": _target(plan),
            "minReplicaCount": plan.scaling.min_replicas,
            "maxReplicaCount": plan.scaling.max_replicas,
            "triggers": [trigger],
        },
    )


def in_flight_query(plan: ClusterPlan) -> str:
    """PromQL: inference requests in flight over all pods of the revision.

    By namespace and pod name, which every common scrape configuration attaches, the PodMonitor's too.
    """
    matchers = (
        f'namespace="{plan.namespace}"',
        f'pod=~"{plan.deployment}-.+"',
        f'{metrics.OPERATION}!="{metrics.MANAGEMENT_OPERATION}"',
    )
    return f"sum(avg_over_time({metrics.REQUESTS_IN_FLIGHT}{{{','.join(matchers)}}}[{_AVERAGED_OVER}]))"
