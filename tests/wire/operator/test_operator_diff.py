"""``latentry diff`` and GitOps on a real API server: what a dry run says, and that nothing flips by itself.

Covered: nothing there yet, nothing to do, a changed spec, drift, a taken name, a missing pool, bad files, no server.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube import ControlPlane, Obj, kinds

from latentry_operator.runtime.operator import Operator

Make = Callable[..., Obj]
EVERY_KIND = (
    kinds.service_account,
    kinds.config_map,
    kinds.service,
    kinds.deployment,
    kinds.inference_service,
    kinds.serving_runtime,
    kinds.budget,
    kinds.network_policy,
    kinds.pod_monitor,
)


@pytest.fixture
def diff(permitted: ControlPlane, world: Any, tmp_path: Path) -> Callable[..., Any]:
    """``await diff(*models)``: exit code, standard output, standard error of the command."""

    async def run(*models: Obj, kubeconfig: Path = permitted.kubeconfig) -> tuple[int, str, str]:
        file = tmp_path / "models.yaml"
        file.write_text(yaml.safe_dump_all(models))
        config = tmp_path / "operator.yaml"
        config.write_text("cluster: {prometheusUrl: 'http://prometheus.monitoring:9090', dashboardLabels: {}}")
        command = [sys.executable, "-m", "latentry_operator", "diff", file, "-n", world.namespace]
        command += ["--kubeconfig", kubeconfig, "--config", config]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("workload", ["KServe", "Deployment"])
async def test_diff_before_during_and_after(
    workload: str, operator: Operator, world: Any, make_model: Make, diff: Any
) -> None:
    model = make_model("tiny", workload=workload)
    code, out, err = await diff(model)
    assert (code, err) == (1, "")
    assert f"# Service {world.namespace}/tiny: would be created" in out
    assert not await world.names(kinds.service), "a dry run made something"
    await world.apply(model)
    old = (await world.complete("tiny"))["status"]["stable"]["revision"]
    assert await diff(model) == (0, "", "")

    code, out, _ = await diff(make_model("tiny", workload=workload, runtime={"instances": 2}))
    assert code == 1
    assert f"# ConfigMap {world.namespace}/{old}: would be pruned" in out
    assert f"-    latentry.dev/revision: {old}" in out
    assert await diff(model) == (0, "", "")


async def test_diff_shows_what_the_operator_would_not_do(
    permitted: ControlPlane, world: Any, make_model: Make, diff: Any
) -> None:
    await world.api.create(
        kinds.service, world.namespace, {"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 1}]}}
    )
    code, out, _ = await diff(make_model("taken"))
    assert code == 1
    assert "left as it is: Service taken exists and is not made by this LatentModel" in out
    code, out, _ = await diff(make_model("gpu", placement={"gpuPool": "nowhere"}))
    assert code == 1
    assert "would wait: GPUPoolNotFound: placement.gpuPool: there is no GPUPool nowhere" in out


async def test_diff_with_bad_input_or_no_server_ends_with_2(
    world: Any, make_model: Make, diff: Any, tmp_path: Path
) -> None:
    code, out, err = await diff(make_model("tiny", family="Unheard"))
    assert (code, out) == (2, "")
    assert "spec.family" in err
    nobody = tmp_path / "nobody.kubeconfig"
    cluster = {"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    config = {
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "x", "user": {}}],
        "current-context": "x",
    }
    nobody.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config"} | config))
    code, out, err = await diff(make_model("tiny"), kubeconfig=nobody)
    assert (code, out) == (2, "")
    assert "127.0.0.1:1" in err


async def test_gitops_sees_no_difference(operator: Operator, world: Any, make_model: Make) -> None:
    """What Argo CD and Flux do: server-side apply of the same files again, dry and for good."""
    models = [
        make_model("kserve"),
        make_model("plain", workload="Deployment"),
        make_model("scaled", workload="Deployment", scaling={"minReplicas": 1, "maxReplicas": 3, "metric": "CPU"}),
    ]
    for model in models:
        await world.apply(model)
    settled = {model["metadata"]["name"]: await world.complete(model["metadata"]["name"]) for model in models}
    children = await snapshot(world)
    for model in models:
        name = model["metadata"]["name"]
        dry = await world.api.apply(kinds.latent_model, world.namespace, model, manager="user", dry_run=True)
        assert dry == settled[name]
        again = await world.apply(model)
        assert again["metadata"] == settled[name]["metadata"]
        assert not again["metadata"].get("annotations")
        assert not again["metadata"].get("finalizers")
    # A model that comes after these applies is worked on after them.
    await world.apply(make_model("last"))
    await world.complete("last")
    after = await snapshot(world)
    assert {place: version for place, version in after.items() if place in children} == children


async def snapshot(world: Any) -> dict[tuple[str, str], str]:
    """(kind, name) -> what a Git tool compares: spec, data, labels, annotations."""
    return {
        (kind.name, item["metadata"]["name"]): yaml.safe_dump(
            [item.get("spec"), item.get("data"), item["metadata"].get("labels"), item["metadata"].get("generation")]
        )
        for kind in EVERY_KIND
        for item in await world.owned(kind)
    }
