"""The control plane itself: what the other Kubernetes tests rely on.

Covered: storage and validation of custom resources, ownership and garbage collection, users, kubectl, a killed API
server, errors at start, nothing left behind by a killed parent.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from kube import Api, ApiError, Assets, ControlPlane, Kind, NoControlPlane, find_assets, install_crds, kinds
from kube.api import Obj
from kube.assets import REPOSITORY

WIDGET = Kind("test.latentry.dev/v1", "Widget", "widgets")
PATIENCE_S = 30
START_AND_WAIT = """
import sys, time
from kube import ControlPlane, find_assets
with ControlPlane(find_assets()) as running:
    print(running.folder, flush=True)
    time.sleep(600)
"""


def widget_crd() -> Obj:
    """A kind with a required number, an empty default (patched in our build) and a CEL rule (unknown before 1.25)."""
    size = {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= 0"}]}
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {"size": size, "colour": {"type": "string", "default": ""}},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.latentry.dev"},
        "spec": {"group": "test.latentry.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    }


async def test_a_crd_installed_later_is_served_defaulted_pruned_and_validated(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    with control_plane.http() as http:
        assert install_crds(http, [widget_crd()]) == ["widgets.test.latentry.dev"]

    made = await api.create(WIDGET, namespace, {"metadata": {"name": "w"}, "spec": {"size": 3, "unknown": True}})
    assert made["spec"] == {"size": 3, "colour": ""}

    wrong = {"metadata": {"name": "w"}, "spec": {"size": "three"}}
    with pytest.raises(ApiError) as refused:
        await api.create(WIDGET, namespace, wrong)
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")

    # Server-side apply does not prune: it refuses, and 1.20 calls that an internal error.
    unknown = {"metadata": {"name": "v"}, "spec": {"size": 3, "unknown": True}}
    with pytest.raises(ApiError, match=r"\.spec\.unknown: field not declared in schema"):
        await api.apply(WIDGET, namespace, unknown, manager="test")


async def test_applying_what_another_manager_owns_is_a_conflict(api: Api, namespace: str) -> None:
    def settings(value: str) -> Obj:
        return {"metadata": {"name": "settings"}, "data": {"key": value}}

    await api.apply(kinds.config_map, namespace, settings("first"), manager="one")
    with pytest.raises(ApiError) as refused:
        await api.apply(kinds.config_map, namespace, settings("second"), manager="two")
    assert refused.value.status == 409
    forced = await api.apply(kinds.config_map, namespace, settings("second"), manager="two", force=True)
    assert forced["data"] == {"key": "second"}


async def test_an_owned_object_goes_with_its_owner(api: Api, namespace: str) -> None:
    owner = await api.create(kinds.config_map, namespace, {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    await api.create(kinds.config_map, namespace, owned)
    await api.create(kinds.config_map, namespace, {"metadata": {"name": "free"}})

    await api.delete(kinds.config_map, namespace, "owner")

    await api.until(kinds.config_map, namespace, "owned", lambda found: found is None, PATIENCE_S)
    assert await api.find(kinds.config_map, namespace, "free") is not None


async def test_the_operators_account_may_do_nothing_until_bound(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    async with control_plane.api("operator") as operator:
        with pytest.raises(ApiError) as refused:
            await operator.list(kinds.config_map, namespace)
        assert refused.value.status == 403
        assert control_plane.operator_user in str(refused.value)

        account_namespace, account = control_plane.operator_user.split(":")[2:]
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
        await api.create(kinds.role, namespace, {"metadata": {"name": "reader"}, "rules": rules})
        binding = {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "namespace": account_namespace, "name": account}],
        }
        await api.create(kinds.role_binding, namespace, binding)
        await _until_allowed(operator, namespace)
        with pytest.raises(ApiError, match="403 Forbidden"):
            await operator.list(kinds.pod, namespace)


async def _until_allowed(operator: Api, namespace: str) -> None:
    """The authorizer reads bindings from its own cache, a moment later."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            await operator.list(kinds.config_map, namespace)
        except ApiError:
            assert time.monotonic() < deadline, "the binding had no effect"
            await asyncio.sleep(0.05)
        else:
            return


async def test_kubectl_applies_and_reads(control_plane: ControlPlane, namespace: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"key": "value"}}
    control_plane.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", given=json.dumps(manifest))
    read = control_plane.kubectl("-n", namespace, "get", "configmap", "c", "-o", "jsonpath={.data.key}")
    assert read.stdout == "value"
    refused = control_plane.kubectl("-n", namespace, "get", "pods", user="operator", check=False)
    assert refused.returncode != 0
    assert "forbidden" in refused.stderr


async def test_a_killed_api_server_comes_back_with_its_data(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    body = {"metadata": {"name": "kept"}, "data": {"key": "value"}}
    before = await api.create(kinds.config_map, namespace, body)

    control_plane.kill_api_server()
    assert not control_plane.api_server.running
    control_plane.start_api_server(wait=False)
    await api.until_ready()

    assert await api.get(kinds.config_map, namespace, "kept") == before


def test_a_program_that_ends_while_starting_is_an_error_with_its_last_words(
    kube_assets: Assets, tmp_path: Path
) -> None:
    broken = tmp_path / "etcd"
    broken.write_text("#!/bin/sh\necho no such disk >&2\nexit 3\n")
    broken.chmod(0o755)
    plane = ControlPlane(replace(kube_assets, etcd=broken))
    with pytest.raises(NoControlPlane, match=r"(?s)etcd ended while starting.*no such disk"):
        plane.start()
    assert not plane.folder.exists()


def test_missing_programs_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        NoControlPlane, match=r"has no etcd, kube-apiserver, kube-controller-manager: .*KUBEBUILDER_ASSETS"
    ):
        find_assets({"KUBEBUILDER_ASSETS": str(tmp_path)})


def test_nothing_outlives_a_killed_parent(kube_assets: Assets) -> None:
    support = REPOSITORY / "tests" / "support"
    parent = subprocess.Popen([sys.executable, "-c", START_AND_WAIT], cwd=support, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    folder = Path(parent.stdout.readline().strip())
    children = psutil.Process(parent.pid).children(recursive=True)
    assert sorted(child.name()[:14] for child in children) == ["etcd", "kube-apiserver", "kube-controlle"]

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []
    assert folder.exists()  # its files are what the next control plane removes
    unused = ControlPlane(kube_assets)
    assert not folder.exists()
    unused.stop()
