"""What a serving pod is beside its containers, the same under KServe and in our own Deployment."""

from latentry_operator.api.labels import POOL_LABEL
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.config_map import CONFIG_ANNOTATION, config_hash
from latentry_operator.render.containers import termination_seconds
from latentry_operator.render.manifest import Manifest, plain, present, revision_labels, selector
from latentry_operator.render.service_account import service_account_name

ROLLING_UPDATE: Manifest = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
"""One more pod at a time, none fewer: a pod that does not become ready takes nothing away."""


def pod_labels(plan: ClusterPlan) -> dict[str, str]:
    """The spec's labels and ours, which win."""
    pool = plan.model.spec.placement.gpu_pool
    return dict(plan.model.spec.pod.labels) | revision_labels(plan) | ({POOL_LABEL: pool} if pool else {})


def pod_annotations(plan: ClusterPlan) -> dict[str, str]:
    """The spec's annotations, and the hash that replaces pods when the tap's configuration changes."""
    return dict(plan.model.spec.pod.annotations) | {CONFIG_ANNOTATION: config_hash(plan)}


def pod_fields(plan: ClusterPlan) -> Manifest:
    """The fields of a PodSpec but for containers and volumes."""
    placement = plan.placement
    return present(
        serviceAccountName=service_account_name(plan),
        automountServiceAccountToken=False,
        enableServiceLinks=False,
        securityContext=_security(plan),
        terminationGracePeriodSeconds=termination_seconds(plan),
        imagePullSecrets=[{"name": name} for name in plan.model.spec.pod.image_pull_secrets],
        nodeSelector=plain(placement.node_selector),
        tolerations=[toleration.to_dict() for toleration in placement.tolerations],
        runtimeClassName=placement.runtime_class_name,
        topologySpreadConstraints=[
            _spread(plan, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
    )


def pod_volumes(plan: ClusterPlan) -> list[Manifest]:
    """The tap's configuration, and a place to write for each container."""
    return [
        {"name": "tap-config", "configMap": {"name": plan.revision}},
        {"name": "tap-tmp", "emptyDir": {}},
        {"name": "triton-tmp", "emptyDir": {}},
    ]


def _security(plan: ClusterPlan) -> Manifest:
    user = plan.settings.run_as
    return present(
        runAsNonRoot=True,
        runAsUser=user,
        runAsGroup=user,
        fsGroup=user,
        fsGroupChangePolicy=None if user is None else "OnRootMismatch",
        seccompProfile={"type": "RuntimeDefault"},
    )


def _spread(plan: ClusterPlan, key: str) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(plan, plan.revision)},
    }
