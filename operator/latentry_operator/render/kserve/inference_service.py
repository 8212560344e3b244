"""The InferenceService: KServe fetches the bundle and makes the Deployment; the tap is its ``transformer-container``.

That name is the only one for a second container that KServe mounts the bundle into and sends the traffic to.
"""

from latentry_operator.api.quantity import MAX_CORES
from latentry_operator.plan.cluster import Autoscaler, ClusterPlan
from latentry_operator.render.containers import tap_container
from latentry_operator.render.kserve.serving_runtime import MODEL_FORMAT, PROTOCOL
from latentry_operator.render.manifest import Manifest, present, revision_labels, revision_object
from latentry_operator.render.pod import ROLLING_UPDATE, pod_annotations, pod_fields, pod_labels, pod_volumes
from latentry_operator.render.resources import triton_resources

TAP_CONTAINER = "transformer-container"
_UNLIMITED = {"cpu": str(MAX_CORES), "memory": "64Ti"}
"""More than any node has. KServe writes a limit of 1 CPU and 2Gi where none stands, below many a request."""


def inference_service(plan: ClusterPlan) -> Manifest:
    """The InferenceService of the revision; everything that KServe would default is said."""
    fixed = plan.scaling.autoscaler is Autoscaler.NONE
    return revision_object(
        plan,
        "serving.kserve.io/v1beta1",
        "InferenceService",
        metadata={
            "labels": revision_labels(plan) | {"networking.kserve.io/visibility": "cluster-local"},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                # external: our own autoscaler acts on KServe's Deployment, whose replicas KServe then leaves alone.
                "serving.kserve.io/autoscalerClass": "none" if fixed else "external",
                "serving.kserve.io/enable-prometheus-scraping": "false",
            },
        },
        spec={
            "predictor": {
                **present(minReplicas=plan.scaling.min_replicas if fixed else None),
                "deploymentStrategy": ROLLING_UPDATE,
                "labels": pod_labels(plan),
                "annotations": pod_annotations(plan),
                **pod_fields(plan),
                "model": _model(plan),
                "containers": [tap_container(plan, TAP_CONTAINER)],
                "volumes": pod_volumes(plan),
            }
        },
    )


def _model(plan: ClusterPlan) -> Manifest:
    resources = triton_resources(plan)
    return {
        "modelFormat": MODEL_FORMAT,
        "runtime": plan.revision,
        "protocolVersion": PROTOCOL,
        "storageUri": plan.model.spec.bundle.uri,
        "resources": resources | {"limits": _UNLIMITED | resources.get("limits", {})},
    }
