"""``latentry render``: what the operator would apply for resource files, with no cluster."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.load import load_files
from latentry_operator.plan.cluster import Capabilities, ClusterPlan, ClusterSettings, PoolFacts, Waiting, plan_cluster
from latentry_operator.render.objects import render
from latentry_serving.contract.errors import InvalidInput, OperationFailed

PRESETS: Mapping[str, Capabilities] = MappingProxyType(
    {
        "full": Capabilities(),
        "no-kserve": Capabilities(kserve=False),
        "kubernetes-1.20": Capabilities(
            kserve=False,
            keda=False,
            pod_monitor=False,
            prometheus_rule=False,
            http_route=False,
            grpc_route=False,
            pod_disruption_budget="policy/v1beta1",
            hpa="autoscaling/v2beta2",
        ),
    }
)
"""Clusters to render for: every optional API, all but KServe, and an old cluster with none."""


def render_files(
    paths: Sequence[Path], capabilities_preset: str = "full", settings: ClusterSettings | None = None
) -> str:
    """YAML of every object of every LatentModel in the files, in the order of the files.

    GPUPools come from the files too; models before take their devices first. A comment above each model says which
    workload was chosen and what the cluster could not give.

    Raises:
        InvalidInput: with every problem of the files, or for a preset that does not exist.
        OperationFailed: a model would wait, for a pool or for KServe.
    """
    capabilities = PRESETS.get(capabilities_preset)
    if capabilities is None:
        problem = f"{capabilities_preset!r} is not known"
        raise InvalidInput.one("render", path="preset", problem=problem, remedy=f"write {', '.join(PRESETS)}")
    loaded = load_files(paths)
    pools = {pool.metadata.name: pool for pool in loaded if isinstance(pool, GPUPool)}
    models = [model for model in loaded if isinstance(model, LatentModel)]
    if not models:
        raise InvalidInput.one(
            ", ".join(map(str, paths)), path="kind", problem="no LatentModel", remedy="add a file with one"
        )
    in_use: dict[str, dict[str, int]] = defaultdict(dict)
    texts = []
    for model in models:
        plan = _planned(model, capabilities, PoolFacts(pools, in_use), settings or ClusterSettings())
        if model.spec.placement.gpu_pool is not None:
            in_use[model.spec.placement.gpu_pool][f"{plan.namespace}/{plan.name}"] = plan.devices
        texts.append(_text(plan))
    return "".join(texts)


def _planned(
    model: LatentModel, capabilities: Capabilities, pools: PoolFacts, settings: ClusterSettings
) -> ClusterPlan:
    plan = plan_cluster(model, capabilities, pools, settings)
    if isinstance(plan, Waiting):
        problem, _, remedy = plan.message.partition("; ")
        raise OperationFailed(f"LatentModel {model.metadata.name} would wait ({plan.reason}): {problem}", remedy=remedy)
    return plan


def _text(plan: ClusterPlan) -> str:
    comments = [f"# LatentModel {plan.namespace}/{plan.name}: {plan.workload_reason}", *(f"# {n}" for n in plan.notes)]
    return "\n".join([*comments, as_yaml(render(plan))])


def as_yaml(manifests: Sequence[Mapping[str, Any]], *, sort_keys: bool = False) -> str:
    """The objects as YAML documents, each after a line ``---``."""
    return str(
        yaml.dump_all(
            manifests, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=True, width=120, explicit_start=True
        )
    )


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, nothing as an alias: as people write it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
