"""How Prometheus finds the metrics of the taps, and of the Tritons behind them."""

from latentry_operator.api.labels import MODEL_LABEL, REVISION_LABEL
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, plain, selector
from latentry_serving.contract import triton_metrics
from latentry_serving.contract.ports import METRICS_PATH, TRITON_METRICS_PATH


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
            "podMetricsEndpoints": [
                {"port": "admin", "path": METRICS_PATH},
                {
                    "port": "admin",
                    "path": TRITON_METRICS_PATH,
                    # Both endpoints are one address: without a label of its own this one's `up` would be the tap's.
                    "relabelings": [
                        # The action is the default, which the API server would write in: it must be ours too.
                        {"sourceLabels": ["__metrics_path__"], "targetLabel": "metrics_path", "action": "replace"}
                    ],
                    "metricRelabelings": [_kept(triton_metrics.KEPT)],
                },
            ],
        },
    )
    manifest["metadata"]["labels"] = plain(plan.settings.monitor_labels) | manifest["metadata"]["labels"]
    return manifest


def _kept(names: tuple[str, ...]) -> Manifest:
    return {"sourceLabels": ["__name__"], "regex": "|".join(names), "action": "keep"}
