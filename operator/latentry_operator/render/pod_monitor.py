"""How Prometheus finds the taps' metrics."""

from latentry_operator.api.labels import MODEL_LABEL, REVISION_LABEL
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, plain, selector


def pod_monitor(plan: ClusterPlan) -> Manifest | None:
    """The PodMonitor over all revisions; None where the cluster does not know the kind."""
    if not plan.capabilities.pod_monitor:
        return None
    manifest = model_object(
        plan,
        "monitoring.coreos.com/v1",
        "PodMonitor",
        spec={
            "selector": {"matchLabels": selector(plan)},
            "podTargetLabels": [MODEL_LABEL, REVISION_LABEL],
            "podMetricsEndpoints": [{"port": "admin", "path": "/metrics"}],
        },
    )
    manifest["metadata"]["labels"] = plain(plan.settings.monitor_labels) | manifest["metadata"]["labels"]
    return manifest
