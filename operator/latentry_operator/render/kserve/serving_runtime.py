"""Triton as KServe's model server.

A runtime of our own, one per revision: KServe concatenates a runtime's arguments with an InferenceService's, so its
built-in Triton runtime cannot be moved off the tap's ports, and a changed runtime replaces the pods of all its users.
"""

from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.containers import triton_container
from latentry_operator.render.manifest import Manifest, revision_object

MODEL_CONTAINER = "kserve-container"
MODEL_FORMAT = {"name": "triton", "version": "2"}
PROTOCOL = "v2"


def serving_runtime(plan: ClusterPlan) -> Manifest:
    """The ServingRuntime; resources are the InferenceService's, where KServe would put its own."""
    return revision_object(
        plan,
        "serving.kserve.io/v1alpha1",
        "ServingRuntime",
        spec={
            "multiModel": False,
            "protocolVersions": [PROTOCOL],
            "supportedModelFormats": [MODEL_FORMAT | {"autoSelect": False}],
            "containers": [triton_container(plan, MODEL_CONTAINER)],
        },
    )
