"""The operator and the rest of the cluster, on a real API server.

Covered: GPU pools that are missing, limited, changed; CRDs that come later; two operators; a killed API server; that
each verb of the role is used.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import yaml
from kube import Api, Assets, ControlPlane, Kind, Obj, StandIn, install_crds, kinds, our_crds, upstream_crds
from kube.assets import REPOSITORY

from latentry_operator.kube.kinds import CHILDREN, GPU_POOL, LATENT_MODEL
from latentry_operator.kube.lease import LeaseSettings
from latentry_operator.runtime.operator import Operator

Make = Callable[..., Obj]
TAKEOVER_SECONDS = 20
"""As docs/install.md says."""
ALONE = """
import sys
from pathlib import Path
from latentry_operator.runtime.operator import run_operator
from latentry_operator.settings import load_settings
run_operator(load_settings(
    kubeconfig=Path(sys.argv[1]), http={"host": "127.0.0.1", "port": 0}, leader={"namespace": "latentry-system"}
))
"""


def pool(name: str, **spec: Any) -> Obj:
    return {"metadata": {"name": name}, "spec": {"memoryPerDevice": "24Gi"} | spec}


def on(name: str, replicas: int = 1) -> dict[str, Any]:
    return {"placement": {"gpuPool": name}, "scaling": {"metric": "None", "minReplicas": replicas}}


def message(obj: Obj, kind: str) -> str:
    return str(next(entry for entry in obj["status"]["conditions"] if entry["type"] == kind)["message"])


async def test_models_wait_for_pools_and_for_devices(operator: Operator, world: Any, make_model: Make) -> None:
    name = f"pool-{world.namespace}"
    await world.apply(make_model("first", **on(name, 2)))
    waiting = await world.until("first", "Accepted", "False", "GPUPoolNotFound")
    assert f"there is no GPUPool {name}" in message(waiting, "Accepted")
    try:
        await world.api.apply(kinds.gpu_pool, None, pool(name, maxDevices=3), manager="user")
        await world.complete("first")
        await world.apply(make_model("second", **on(name, 2)))
        full = await world.until("second", "Accepted", "False", "GPUPoolUsedUp")
        assert "1 are left" in message(full, "Accepted")

        def counted(obj: Obj | None) -> bool:
            status = (obj or {}).get("status", {})
            users = [{"namespace": world.namespace, "name": "first", "devices": 2}]
            return status.get("devicesInUse") == 2 and status.get("users") == users

        await world.api.until(kinds.gpu_pool, None, name, counted)
        # What is used up for a change leaves what runs.
        await world.apply(make_model("first", **on(name, 4)))
        await world.until("first", "Accepted", "False", "GPUPoolTooSmall")
        assert len(await world.names(kinds.inference_service)) == 1
        await world.api.delete(kinds.latent_model, world.namespace, "first")
        await world.complete("second")
        # A changed pool reaches the pods of its models.
        await world.api.apply(
            kinds.gpu_pool, None, pool(name, nodeSelector={"disk": "fast"}), manager="user", force=True
        )

        async def moved() -> bool:
            (service,) = await world.owned(kinds.inference_service)
            return service["spec"]["predictor"].get("nodeSelector") == {"disk": "fast"}

        await world.eventually(moved)
    finally:
        await world.api.delete(kinds.gpu_pool, None, name)


async def test_kserve_installed_later_is_found(
    kube_assets: Assets, run_operator_on: Any, make_model: Make, condition_of: Any
) -> None:
    with ControlPlane(kube_assets, crds=our_crds()) as plane:
        with plane.http() as http:
            http.post("/api/v1/namespaces", json={"metadata": {"name": "later"}}).raise_for_status()
            http.post("/api/v1/namespaces", json={"metadata": {"name": "latentry-system"}}).raise_for_status()
        settings = {"kubeconfig": plane.kubeconfig}
        async with plane.api() as api, run_operator_on(plane, **settings):

            async def reason(name: str, kind: str, wanted: str) -> Obj:
                found = await api.until(
                    kinds.latent_model, "later", name, lambda obj: condition_of(obj, kind).get("reason") == wanted
                )
                assert found is not None
                return found

            for name, workload in (("auto", "Auto"), ("kserve", "KServe")):
                await api.apply(kinds.latent_model, "later", make_model(name, workload=workload), manager="user")
            await reason("kserve", "Accepted", "KServeNotInstalled")
            before = await reason("auto", "Progressing", "Deploying")
            assert before["status"]["workload"] == "Deployment"
            with plane.http() as http:
                await asyncio.to_thread(install_crds, http, upstream_crds("kserve"))
            async with StandIn(api):
                await reason("kserve", "Progressing", "Complete")
                # What runs as a Deployment goes on as one; its next revision is KServe's.
                ready = await reason("auto", "Progressing", "Complete")
                assert ready["status"]["workload"] == "Deployment"
                changed = make_model("auto", runtime={"instances": 2})
                await api.apply(kinds.latent_model, "later", changed, manager="user", force=True)
                after = await reason("auto", "Progressing", "Complete")
                assert after["status"]["workload"] == "KServe"


async def test_a_second_operator_takes_over_from_a_killed_one(
    permitted: ControlPlane, run_operator_on: Any, world: Any, make_model: Make
) -> None:
    times = LeaseSettings()
    assert times.duration + 1.2 * times.retry < TAKEOVER_SECONDS, "on a machine that has nothing else to do"
    first = subprocess.Popen([sys.executable, "-c", ALONE, permitted.operator_kubeconfig], stderr=subprocess.DEVNULL)
    try:
        await world.apply(make_model("one"))
        await world.complete("one")
        held = await world.api.get(LEASE, "latentry-system", "latentry-operator")
        second = asyncio.create_task(_lead_and_serve(permitted, run_operator_on, world, make_model))
        await asyncio.sleep(1.5)  # the second one stands by: it must not act while the first one leads
        assert not second.done()
        again = await world.api.get(LEASE, "latentry-system", "latentry-operator")
        assert again["spec"]["holderIdentity"] == held["spec"]["holderIdentity"]
        first.send_signal(signal.SIGKILL)
        await asyncio.wait_for(second, 120)
    finally:
        first.kill()
        first.wait()


async def _lead_and_serve(plane: ControlPlane, run_operator_on: Any, world: Any, make_model: Make) -> None:
    async with run_operator_on(plane):
        await world.apply(make_model("two"))
        await world.complete("two")


async def test_a_killed_api_server_is_survived(
    permitted: ControlPlane, operator: Operator, world: Any, make_model: Make
) -> None:
    await world.apply(make_model("one"))
    await world.complete("one")
    permitted.kill_api_server()
    permitted.start_api_server(wait=False)
    await world.eventually(lambda: asyncio.to_thread(_is_ready, permitted), seconds=60)
    async with permitted.api() as api, StandIn(api):
        await world.apply(make_model("two"))
        await world.complete("two", seconds=90)


def _is_ready(plane: ControlPlane) -> bool:
    try:
        with plane.http() as http:
            return http.get("/readyz").is_success
    except httpx.TransportError:
        return False


LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
PLURALS = {kind.name: (kind.group, kind.plural) for kind in (*CHILDREN, LATENT_MODEL, GPU_POOL)} | {
    "Pod": ("", "pods"),
    "Event": ("", "events"),
    "Lease": ("coordination.k8s.io", "leases"),
}
USED_AS = {"get": {"get"}, "list": {"list"}, "watch": {"watch"}, "apply": {"patch", "create"}, "delete": {"delete"}}
"""A call of ours -> verbs that RBAC asks for; an apply that creates needs both."""


async def test_every_verb_of_the_role_is_used(
    permitted: ControlPlane, run_operator_on: Any, world: Any, make_model: Make
) -> None:
    await world.api.delete(LEASE, "latentry-system", "latentry-operator")
    async with run_operator_on(permitted) as operator:
        scaling = {"minReplicas": 1, "maxReplicas": 3}
        hosts = {"hostnames": ["a.example.com"], "grpcHostnames": ["b.example.com"]}
        gateway = {"parentRefs": [{"name": "shared"}], **hosts}
        await world.apply(make_model("in-flight", scaling=scaling, gateway=gateway))
        await world.apply(make_model("cpu", workload="Deployment", scaling=scaling | {"metric": "CPU"}))
        await world.api.apply(kinds.gpu_pool, None, pool("verbs"), manager="user")
        for name in ("in-flight", "cpu"):
            await world.complete(name)
        owner = await world.api.get(kinds.latent_model, world.namespace, "cpu")
        served = operator.cache.served
        children = [Kind(kind.api_version, kind.name, kind.plural) for kind in CHILDREN if kind in served]
        for kind in children:  # what an older release made and this one does not
            await leave_behind(world.api, kind, world.namespace, owner)
        for kind in children:
            await world.api.until(kind, world.namespace, "leftover", lambda found: found is None)
        try:
            await world.eventually(lambda: _pool_is_counted(world.api))
            await world.eventually(lambda: _lease_is_renewed(operator))
        finally:
            await world.api.delete(kinds.gpu_pool, None, "verbs")
        used = {
            (*PLURALS[kind], verb)
            for called, kind in calls(operator)
            if kind in PLURALS
            for verb in verbs(called, kind)
        }
    # A repeated event is counted, which the unit tests show.
    assert granted() == used | {("", "events", "patch")}


async def _pool_is_counted(api: Api) -> bool:
    return bool((await api.get(kinds.gpu_pool, None, "verbs")).get("status"))


async def _lease_is_renewed(operator: Operator) -> bool:
    return ("update", LEASE.name) in calls(operator)


def verbs(called: str, kind: str) -> set[str]:
    """RBAC verbs of a call; of our own kinds only the status is written, and that is there already."""
    if kind in ("LatentModel", "GPUPool") and called == "apply":
        return {"patch"}
    return USED_AS.get(called, {called})


def calls(operator: Operator) -> set[tuple[str, str]]:
    """(verb, kind) of every call that succeeded."""
    return {
        (sample.labels["verb"], sample.labels["kind"])
        for metric in operator.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "latentry_operator_api_calls_total" and sample.labels["code"] in ("200", "201", "404")
    }


def granted() -> set[tuple[str, str, str]]:
    """(group, resource, verb) of the operator's roles, subresources under their resource's name."""
    roles = yaml.safe_load_all((REPOSITORY / "manifests" / "operator" / "role.yaml").read_text())
    return {
        (group, resource.partition("/")[0], verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def leave_behind(api: Api, kind: Kind, namespace: str, owner: Obj) -> None:
    """An object with the operator's marks that no plan asks for."""
    selector = {"matchLabels": {"app": "none"}}
    containers = [{"name": "kserve-container", "image": "none"}]
    specs: dict[str, Obj] = {
        "Deployment": {
            "replicas": 0,
            "selector": selector,
            "template": {"metadata": {"labels": {"app": "none"}}, "spec": {"containers": containers}},
        },
        "Service": {"ports": [{"port": 1, "protocol": "TCP"}]},
        "NetworkPolicy": {"podSelector": selector},
        "PodDisruptionBudget": {"selector": selector},
        "HTTPRoute": {"hostnames": ["leftover.example.com"]},
        "GRPCRoute": {"hostnames": ["leftover-grpc.example.com"]},
        "HorizontalPodAutoscaler": {
            "maxReplicas": 1,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
        },
        "ScaledObject": {"scaleTargetRef": {"name": "none"}, "triggers": [{"type": "cpu", "metadata": {"value": "1"}}]},
        "PodMonitor": {"selector": selector, "podMetricsEndpoints": []},
        "PrometheusRule": {"groups": []},
        "ServingRuntime": {"containers": containers, "supportedModelFormats": [{"name": "x"}]},
        "InferenceService": {"predictor": {"model": {"modelFormat": {"name": "x"}, "runtime": "none"}}},
    }
    reference = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "LatentModel",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    labels = {"app.kubernetes.io/managed-by": "latentry", "latentry.dev/model": owner["metadata"]["name"]}
    body: Obj = {"metadata": {"name": "leftover", "labels": labels, "ownerReferences": [reference]}}
    if kind.name in specs:
        body["spec"] = specs[kind.name]
    await api.apply(kind, namespace, body, manager="older-release")
