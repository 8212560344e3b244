"""The cluster's planner: a LatentModel and what is known of the cluster in, what must exist there out.

The operator reads no bundle: the tap does, in the pod, and refuses any other than the one promised here.
"""

from collections.abc import Iterator

from latentry_operator.api.latentmodel import LatentModel, LatentModelSpec
from latentry_operator.api.status import Workload
from latentry_operator.api.validation import local_path
from latentry_operator.plan.autoscaling import plan_scaling
from latentry_operator.plan.facts import Amounts, Capabilities, ClusterSettings, PoolFacts
from latentry_operator.plan.outcome import (
    Autoscaler,
    ClusterPlan,
    PodPlacement,
    ScalingPlan,
    Waiting,
    WaitingReason,
)
from latentry_operator.plan.planner import drift, latency_buckets, probes, quality, sampling
from latentry_operator.plan.pools import place
from latentry_operator.plan.revision import revision_name
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.tap_config import LoadOverrides, TapConfig

__all__ = [
    "Amounts",
    "Autoscaler",
    "Capabilities",
    "ClusterPlan",
    "ClusterSettings",
    "PodPlacement",
    "PoolFacts",
    "ScalingPlan",
    "Waiting",
    "WaitingReason",
    "plan_cluster",
]

BUNDLE_DIR = "/mnt/models"
"""Where KServe mounts a bundle; the Deployment workload does the same."""


def plan_cluster(
    model: LatentModel, capabilities: Capabilities, pools: PoolFacts, settings: ClusterSettings
) -> ClusterPlan | Waiting:
    """What must exist so that ``model`` is served, or why that must wait. The same arguments give an equal result.

    Raises:
        InvalidInput: the spec asks for what no cluster can do.
    """
    spec = model.spec
    workload, reason = _workload(spec.workload, capabilities)
    if problems := tuple(_impossible(spec, workload)):
        raise InvalidInput(f"LatentModel {model.metadata.name}", problems)
    digest = spec.bundle.digest or ""  # never empty: only file:// may leave it out
    if workload is Workload.KSERVE and not capabilities.kserve:
        return Waiting(WaitingReason.KSERVE_NOT_INSTALLED, reason)
    revision = revision_name(model.metadata.name, spec, digest)
    placed = place(model, revision, pools, settings)
    if isinstance(placed, Waiting):
        return placed
    scaling, notes = plan_scaling(spec.scaling, placed.most_replicas, capabilities, settings)
    return ClusterPlan(
        model=model,
        namespace=model.metadata.namespace or "default",
        revision=revision,
        digest=digest,
        workload=workload,
        workload_reason=reason,
        tap=_tap(model, digest, settings.tap, scaling.max_replicas),
        placement=placed.placement,
        scaling=scaling,
        notes=notes,
        capabilities=capabilities,
        settings=settings,
    )


def _impossible(spec: LatentModelSpec, workload: Workload) -> Iterator[Problem]:
    bundle = spec.bundle
    if local_path(bundle.uri) is not None:
        yield Problem(
            "spec.bundle.uri",
            f"{bundle.uri} is on one machine, pods cannot reach it",
            "upload the bundle and write its s3://, gs://, pvc://, oci:// or https:// address and its digest",
        )
    if bundle.credentials_secret and spec.pod.service_account_name and workload is Workload.KSERVE:
        yield Problem(
            "spec.bundle.credentialsSecret",
            f"KServe takes secrets from the service account, and {spec.pod.service_account_name} is yours",
            f"add {bundle.credentials_secret} to its secrets and remove credentialsSecret, or remove"
            " spec.pod.serviceAccountName",
        )


def _workload(asked: Workload, capabilities: Capabilities) -> tuple[Workload, str]:
    if asked is Workload.KSERVE and not capabilities.kserve:
        return asked, "workload KServe, but its CRDs are not installed; install KServe or write workload: Deployment"
    if asked is not Workload.AUTO:
        return asked, f"workload {asked}, as the spec says"
    if capabilities.kserve:
        return Workload.KSERVE, "workload Auto became KServe: its CRDs are installed"
    return Workload.DEPLOYMENT, "workload Auto became Deployment: KServe's CRDs are not installed"


def _tap(model: LatentModel, digest: str, base: TapConfig, most_replicas: int) -> TapConfig:
    runtime, monitoring = model.spec.runtime, model.spec.monitoring
    return base.model_copy(
        update={
            "model": model.metadata.name,
            "digest": digest,
            "bundle_dir": BUNDLE_DIR,
            "load": LoadOverrides(
                instances=runtime.instances,
                max_batch_size=runtime.max_batch_size,
                max_queue_delay_us=runtime.max_queue_delay.microseconds,
            ),
            "latency_buckets_seconds": latency_buckets(base.latency_buckets_seconds, model.spec.slo),
            "probes": probes(base.probes, monitoring),
            "sampling": sampling(base.sampling, monitoring),
            "drift": drift(base.drift, monitoring, most_replicas),
            "quality": quality(base.quality, model.spec.slo.quality),
        }
    )
