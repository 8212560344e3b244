"""A plan of a LatentModel, and its objects by kind."""

from collections.abc import Callable
from typing import Any

import pytest

from latentry_operator.api.parse import parse_resource
from latentry_operator.plan.cluster import Capabilities, ClusterPlan, ClusterSettings, PoolFacts, plan_cluster
from latentry_operator.plan.exposure import Exposure
from latentry_operator.render import Manifest, render

POOL = {
    "apiVersion": "latentry.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "a10"},
    "spec": {
        "memoryPerDevice": "24Gi",
        "nodeSelector": {"gpu": "a10"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
    },
}


@pytest.fixture
def plan() -> Callable[..., ClusterPlan]:
    """Plans a VAE from spec fields on a cluster where everything is there."""

    def make(
        *, settings: ClusterSettings | None = None, capabilities: Capabilities | None = None, **spec: Any
    ) -> ClusterPlan:
        bundle = {"uri": "s3://models/digits", "digest": "sha256:" + "ab" * 32}
        data = {
            "apiVersion": "latentry.dev/v1alpha1",
            "kind": "LatentModel",
            "metadata": {"name": "digits-vae", "namespace": "demo"},
            "spec": {"family": "VAE"} | spec | {"bundle": bundle | spec.get("bundle", {})},
        }
        pools = PoolFacts({"a10": parse_resource(POOL, subject="a10")})
        found = plan_cluster(
            parse_resource(data, subject="digits-vae"),
            capabilities or Capabilities(),
            pools,
            settings or ClusterSettings(prometheus_url="http://prometheus:9090", dashboard_labels={}),
        )
        assert isinstance(found, ClusterPlan), found
        return found

    return make


@pytest.fixture
def objects(plan: Any) -> Callable[..., dict[str, Manifest]]:
    """Renders a VAE from spec fields; kind -> object, the dashboards' ConfigMap as ``Dashboards``."""

    def make(*, exposure: Exposure | None = None, **spec: Any) -> dict[str, Manifest]:
        manifests = render(plan(**spec), exposure)
        found = {_kind(manifest): manifest for manifest in manifests}
        assert len(found) == len(manifests), "one object of a kind"
        return found

    return make


def _kind(manifest: Manifest) -> str:
    return "Dashboards" if manifest["metadata"]["name"].endswith("-dashboards") else manifest["kind"]


@pytest.fixture
def pod(objects: Any) -> Callable[..., Manifest]:
    """The pod spec as it will run, whichever workload makes it: under KServe the runtime's container is put in."""

    def make(workload: str, **spec: Any) -> Manifest:
        found = objects(workload=workload, **spec)
        if workload == "Deployment":
            return found["Deployment"]["spec"]["template"]["spec"]
        predictor = dict(found["InferenceService"]["spec"]["predictor"])
        (triton,) = found["ServingRuntime"]["spec"]["containers"]
        return predictor | {
            "containers": [triton | {"resources": predictor["model"]["resources"]}, *predictor["containers"]]
        }

    return make
