"""The samples of manifests/samples/, planned for either workload and every way to scale."""

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from latentry_operator.api.parse import parse_resource
from latentry_operator.plan.cluster import Capabilities, ClusterPlan, ClusterSettings, PoolFacts, plan_cluster

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
SETTINGS = ClusterSettings(prometheus_url="http://prometheus.monitoring:9090", dashboard_labels={})
WORKLOADS = ("KServe", "Deployment")
SCALINGS = {
    "hpa": {"minReplicas": 2, "maxReplicas": 6, "metric": "CPU", "target": 70},
    "keda": {"minReplicas": 2, "maxReplicas": 6, "metric": "Concurrency", "target": 16},
    "none": {"minReplicas": 2, "metric": "None"},
}


def models() -> dict[str, dict[str, Any]]:
    """The samples that a cluster can run, by file name without suffix."""
    found = {path.stem: yaml.safe_load(path.read_text()) for path in SAMPLES.glob("*.yaml") if path.stem != "gpu-pool"}
    return {name: data for name, data in sorted(found.items()) if not data["spec"]["bundle"]["uri"].startswith("file:")}


@functools.cache
def pools() -> dict[str, Any]:
    """The GPUPools that they need, by name."""
    documents = yaml.safe_load_all((SAMPLES / "gpu-pool.yaml").read_text())
    return {data["metadata"]["name"]: parse_resource(data, subject="gpu-pool.yaml") for data in documents}


def variant(sample: str, workload: str, scaling: str | None = None) -> dict[str, Any]:
    """The sample with that workload, and with one of SCALINGS in place of its own."""
    data = copy.deepcopy(models()[sample])
    data["spec"]["workload"] = workload
    if scaling is not None:
        data["spec"]["scaling"] = SCALINGS[scaling]
    return data


def planned(
    sample: str, workload: str, scaling: str | None = None, capabilities: Capabilities | None = None
) -> ClusterPlan:
    """The plan of a :func:`variant`, for a current cluster with everything unless told otherwise."""
    model = parse_resource(variant(sample, workload, scaling), subject=sample)
    plan = plan_cluster(model, capabilities or Capabilities(), PoolFacts(pools()), SETTINGS)
    assert isinstance(plan, ClusterPlan), plan
    return plan
