"""How the bundle reaches the pod: KServe's own way, an init container, an image, a claim; credentials in each."""

from typing import Any

import pytest

from latentry_serving.contract.errors import InvalidInput

SECRET = {"credentialsSecret": "models-s3"}


def test_kserve_fetches_it(objects: Any) -> None:
    model = objects(workload="KServe")["InferenceService"]["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://models/digits"
    assert (model["modelFormat"]["name"], model["protocolVersion"]) == ("triton", "v2")
    assert model["runtime"] == objects(workload="KServe")["ServingRuntime"]["metadata"]["name"]


def test_kserve_takes_credentials_from_the_service_account(objects: Any) -> None:
    assert objects(workload="KServe", bundle=SECRET)["ServiceAccount"]["secrets"] == [{"name": "models-s3"}]
    assert "secrets" not in objects(workload="KServe")["ServiceAccount"]
    with pytest.raises(InvalidInput, match="add models-s3 to its secrets"):
        objects(workload="KServe", bundle=SECRET, pod={"serviceAccountName": "mine"})


def test_an_init_container_fetches_it(pod: Any) -> None:
    found = pod("Deployment")
    (init,) = found["initContainers"]
    assert (init["name"], init["args"]) == ("storage-initializer", ["s3://models/digits", "/mnt/models"])
    assert "envFrom" not in init
    (writable,) = [mount for mount in init["volumeMounts"] if mount["mountPath"] == "/mnt/models"]
    assert "readOnly" not in writable
    for container in found["containers"]:
        assert {"name": "bundle", "mountPath": "/mnt/models", "readOnly": True} in container["volumeMounts"]
    assert {"name": "bundle", "emptyDir": {}} in found["volumes"]


def test_credentials_of_the_init_container(pod: Any, objects: Any) -> None:
    (init,) = pod("Deployment", bundle=SECRET)["initContainers"]
    assert init["envFrom"] == [{"secretRef": {"name": "models-s3"}}]
    assert "secrets" not in objects(workload="Deployment", bundle=SECRET)["ServiceAccount"]


def test_an_image_carries_it(pod: Any) -> None:
    (init,) = pod("Deployment", bundle={"uri": "oci://registry/models/vae:3"})["initContainers"]
    assert (init["image"], init["command"]) == ("registry/models/vae:3", ["cp", "-r", "/models/.", "/mnt/models/"])


@pytest.mark.parametrize(
    ("uri", "claim", "path"),
    [("pvc://models/vae/3/", "models", "vae/3"), ("pvc://models", "models", None), ("pvc://models/", "models", None)],
)
def test_a_claim_holds_it(pod: Any, uri: str, claim: str, path: str | None) -> None:
    found = pod("Deployment", bundle={"uri": uri})
    assert "initContainers" not in found
    (volume,) = [volume for volume in found["volumes"] if volume["name"] == "bundle"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    for container in found["containers"]:
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "bundle"]
        assert (mount.get("subPath"), mount["readOnly"]) == (path, True)
