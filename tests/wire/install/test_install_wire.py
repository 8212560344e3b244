"""The chart and the kustomize base on a real API server.

Covered: install on an empty cluster, the operator at work with nothing but the chart's rights and settings, upgrade of
values and of CRDs, an upgrade that changes nothing, uninstall with the CRDs kept and not, install over kept ones and
over somebody else's, one namespace only, rights refused, kustomize applied twice. Not covered: pods (no nodes).
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cached_tools import ROOT
from kube import Api, ControlPlane, Kind, Obj, install_crds, kinds, our_crds

from latentry_operator.runtime.operator import Operator
from latentry_operator.settings import load_settings

CHART = ROOT / "charts" / "latentry"
SYSTEM, NAME = "latentry-system", "latentry-operator"
CRDS = ("gpupools.latentry.dev", "latentmodels.latentry.dev")
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
MODEL: Obj = {
    "metadata": {"name": "encoder"},
    "spec": {
        "family": "Encoder",
        "bundle": {"uri": "s3://models/encoder/1", "digest": "sha256:" + "ab" * 32},
        "scaling": {"metric": "None"},
    },
}


@asynccontextmanager
async def operator(control_plane: ControlPlane, api: Api, folder: Path) -> AsyncIterator[Operator]:
    """An operator as the Deployment would start it: the chart's settings, the chart's service account."""
    live = await api.get(kinds.config_map, SYSTEM, f"{NAME}-settings")
    file = folder / "operator.yaml"
    file.write_text(live["data"]["operator.yaml"])
    settings = load_settings(file)
    settings = load_settings(
        file,
        kubeconfig=control_plane.operator_kubeconfig,
        http={"host": "127.0.0.1", "port": 0},
        leader=settings.leader.model_dump() | {"namespace": SYSTEM},
    )
    running = Operator(settings)
    task = asyncio.create_task(running.run())
    try:
        async with asyncio.timeout(60):
            while not running.leads:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
        yield running
    finally:
        running.stop()
        await asyncio.wait_for(task, 60)


async def served(api: Api, namespace: str) -> Obj:
    """The Deployment that the operator makes of the model."""
    await api.apply(kinds.latent_model, namespace, MODEL, manager="user")
    async with asyncio.timeout(90):
        while not (found := (await api.list(kinds.deployment, namespace, "latentry.dev/model=encoder"))["items"]):
            await asyncio.sleep(0.05)
    return dict(found[0])


async def versions(api: Api) -> dict[str, str]:
    """Of a release's objects, those that no controller writes to."""
    found = {name: await api.get(kinds.crd, None, name) for name in CRDS}
    for kind in (kinds.config_map, kinds.role, kinds.role_binding):
        for one in (await api.list(kind, SYSTEM, "app.kubernetes.io/instance=latentry"))["items"]:
            found[f"{kind.name} {one['metadata']['name']}"] = one
    return {name: one["metadata"]["resourceVersion"] for name, one in found.items()}


async def test_install_serve_upgrade_uninstall_and_install_again(
    control_plane: ControlPlane, api: Api, helm: Any, until_served: Any, tmp_path: Path
) -> None:
    notes = helm("install")
    assert "Latentry 0.1.0 serves LatentModels in every namespace." in notes
    await until_served(kinds.latent_model)
    await until_served(kinds.gpu_pool)
    async with operator(control_plane, api, tmp_path):
        workload = await served(api, "default")
    images = [one["image"] for one in workload["spec"]["template"]["spec"]["containers"]]
    assert "ghcr.io/latentry/tap:0.1.0" in images

    helm("upgrade", "--set", "replicas=2,podMonitor.enabled=true")
    assert (await api.get(kinds.deployment, SYSTEM, NAME))["spec"]["replicas"] == 2
    assert (await api.get(kinds.budget, SYSTEM, NAME))["spec"]["maxUnavailable"] == 1
    assert await api.find(kinds.pod_monitor, SYSTEM, NAME) is not None
    before = await versions(api)
    assert len(before) == 5
    helm("upgrade", "--set", "replicas=2,podMonitor.enabled=true")
    assert await versions(api) == before

    helm("uninstall")
    for kind in (kinds.deployment, kinds.config_map, kinds.role):
        assert not (await api.list(kind, SYSTEM, "app.kubernetes.io/instance=latentry"))["items"]
    kept = await api.get(kinds.latent_model, "default", "encoder")
    assert await api.find(kinds.deployment, "default", workload["metadata"]["name"]) is not None

    helm("install")
    again = await api.get(kinds.latent_model, "default", "encoder")
    assert again["metadata"]["uid"] == kept["metadata"]["uid"]
    async with operator(control_plane, api, tmp_path):
        same = await served(api, "default")
    assert same["metadata"]["uid"] == workload["metadata"]["uid"]
    await api.delete(kinds.latent_model, "default", "encoder")


async def test_an_upgrade_brings_the_crds_of_the_new_chart(
    api: Api, helm: Any, until_served: Any, tmp_path: Path
) -> None:
    helm("install")
    await until_served(kinds.gpu_pool)
    newer = tmp_path / "latentry"
    shutil.copytree(CHART, newer)
    file = newer / "files" / "crds" / "gpupools.yaml"
    crd = yaml.safe_load(file.read_text())
    version = crd["spec"]["versions"][0]
    version["additionalPrinterColumns"].append({"name": "NEW", "type": "string", "jsonPath": ".spec.new"})
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["new"] = {"type": "string"}
    file.write_text(yaml.safe_dump(crd))
    helm("upgrade", chart=newer)
    live = (await api.get(kinds.crd, None, "gpupools.latentry.dev"))["spec"]["versions"][0]
    assert live["additionalPrinterColumns"][-1]["name"] == "NEW"
    assert "new" in live["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


async def test_without_keep_the_crds_go_with_the_release(api: Api, helm: Any, until_served: Any) -> None:
    notes = helm("install", "--set", "crds.keep=false")
    assert "deletes every LatentModel" in notes
    await until_served(kinds.latent_model)
    await api.apply(kinds.latent_model, "default", MODEL, manager="user")
    helm("uninstall")
    for name in CRDS:
        await api.until(kinds.crd, None, name, lambda found: found is None)


async def test_keep_can_be_decided_late(api: Api, helm: Any, until_served: Any) -> None:
    helm("install", "--set", "crds.keep=false")
    await until_served(kinds.latent_model)
    helm("upgrade", "--set", "crds.keep=true")
    helm("uninstall")
    for name in CRDS:
        assert await api.find(kinds.crd, None, name) is not None


async def test_crds_of_somebody_else(control_plane: ControlPlane, api: Api, helm: Any) -> None:
    with control_plane.http() as http:
        install_crds(http, our_crds())
    refused = helm("install", fails=True)
    assert "invalid ownership metadata" in refused
    helm("install", "--set", "crds.install=false")
    helm("uninstall")
    helm("install", "--take-ownership")
    labels = (await api.get(kinds.crd, None, CRDS[0]))["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "Helm"


async def may(api: Api, verb: str, kind: Kind, namespace: str | None, name: str = "") -> bool:
    group = kind.api_version.rpartition("/")[0]
    asked = {"verb": verb, "group": group, "resource": kind.plural, "namespace": namespace or "", "name": name}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = await api.request("POST", REVIEWS, body, headers={"Content-Type": "application/json"})
    return bool(answer["status"]["allowed"])


@pytest.fixture
async def team(api: Api) -> AsyncIterator[None]:
    """Two namespaces, ``team-a`` and ``team-b``."""
    for name in ("team-a", "team-b"):
        if await api.find(kinds.namespace, None, name) is None:
            await api.create(kinds.namespace, None, {"metadata": {"name": name}})
    yield
    for name in ("team-a", "team-b"):
        await api.delete(kinds.latent_model, name, "encoder")


async def test_one_namespace(
    control_plane: ControlPlane, api: Api, helm: Any, until_served: Any, team: None, tmp_path: Path
) -> None:
    helm("install", "--set", "watchNamespace=team-a")
    await until_served(kinds.latent_model)
    await until_served(kinds.gpu_pool)
    async with control_plane.api("operator") as account:
        assert await may(account, "watch", kinds.latent_model, "team-a")
        assert not await may(account, "watch", kinds.latent_model, "team-b")
        assert not await may(account, "watch", kinds.latent_model, None)
        assert not await may(account, "create", kinds.deployment, SYSTEM)
        assert await may(account, "watch", kinds.gpu_pool, None)
    await api.apply(kinds.latent_model, "team-b", MODEL, manager="user")
    async with operator(control_plane, api, tmp_path):
        await served(api, "team-a")
        for kind in (kinds.deployment, kinds.service, kinds.config_map):
            assert not (await api.list(kind, "team-b", "app.kubernetes.io/managed-by=latentry"))["items"], kind.name
        assert "status" not in await api.get(kinds.latent_model, "team-b", "encoder")

    helm("upgrade", "--set", "watchNamespace=")
    async with control_plane.api("operator") as account:
        assert await may(account, "watch", kinds.latent_model, None)
    async with operator(control_plane, api, tmp_path):
        await served(api, "team-b")


async def test_rights_the_operator_has_not(control_plane: ControlPlane, helm: Any) -> None:
    helm("install")
    secret = Kind("v1", "Secret", "secrets")
    async with control_plane.api("operator") as account:
        assert await may(account, "get", kinds.lease, SYSTEM, NAME)
        assert not await may(account, "get", kinds.lease, SYSTEM, "another")
        assert not await may(account, "create", kinds.lease, "default")
        assert not await may(account, "get", secret, SYSTEM)
        assert not await may(account, "update", kinds.latent_model, "default")
        assert not await may(account, "delete", kinds.pod, "default")
        assert not await may(account, "create", kinds.crd, None)
        assert not await may(account, "create", kinds.cluster_role_binding, None)


async def test_kustomize_twice(control_plane: ControlPlane, api: Api) -> None:
    apply = ("apply", "--server-side", "-k", str(ROOT / "manifests" / "operator"), "-o", "json")
    first, second = (json.loads(control_plane.kubectl(*apply).stdout)["items"] for _ in range(2))

    def version(items: list[Obj]) -> dict[str, str]:
        # Controllers write to these two: a status, a token.
        quiet = [one for one in items if one["kind"] not in ("Deployment", "ServiceAccount")]
        return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in quiet}

    assert len(first) == 13
    assert version(first) == version(second)
    async with control_plane.api("operator") as account:
        assert await may(account, "patch", kinds.deployment, "default")
        assert await may(account, "update", kinds.lease, SYSTEM, NAME)
    control_plane.kubectl("delete", "-k", str(ROOT / "manifests" / "operator"), "--wait=false")
