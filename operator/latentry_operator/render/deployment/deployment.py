"""The Deployment: the pod that KServe would make, and an init container that fetches the bundle."""

from latentry_operator.plan.cluster import Autoscaler, ClusterPlan
from latentry_operator.render.containers import tap_container, triton_container
from latentry_operator.render.deployment.bundle import bundle_source
from latentry_operator.render.manifest import Manifest, present, revision_object, selector
from latentry_operator.render.pod import ROLLING_UPDATE, pod_annotations, pod_fields, pod_labels, pod_volumes
from latentry_operator.render.resources import triton_resources

_NANOSECONDS = 10**9


def deployment(plan: ClusterPlan) -> Manifest:
    """The Deployment of the revision; without replicas where an autoscaler sets them."""
    fixed = plan.scaling.autoscaler is Autoscaler.NONE
    template = {
        "metadata": {"labels": pod_labels(plan), "annotations": pod_annotations(plan)},
        "spec": _pod(plan),
    }
    return revision_object(
        plan,
        "apps/v1",
        "Deployment",
        spec={
            **present(replicas=plan.scaling.min_replicas if fixed else None),
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": max(1, plan.model.spec.rollout.deadline.nanoseconds // _NANOSECONDS),
            "strategy": ROLLING_UPDATE,
            "selector": {"matchLabels": selector(plan, plan.revision)},
            "template": template,
        },
    )


def _pod(plan: ClusterPlan) -> Manifest:
    source = bundle_source(plan)
    triton = triton_container(plan, "triton") | {"resources": triton_resources(plan)}
    tap = tap_container(plan, "tap")
    for container in (triton, tap):
        container["volumeMounts"] = [*container["volumeMounts"], source.mount]
    return {
        **pod_fields(plan),
        **present(initContainers=list(source.init_containers)),
        "containers": [triton, tap],
        "volumes": [*pod_volumes(plan), source.volume, *source.more_volumes],
    }
