"""Every sample, planned for either workload and every way to scale; what the API server would say of the result."""

import copy
import difflib
import functools
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator
from kubernetes import client
from samples import SCALINGS, WORKLOADS, models, planned

from latentry_operator.plan.cluster import Capabilities
from latentry_operator.render import Manifest, render

ROOT = Path(__file__).parents[3]
CRDS = ROOT / "tests" / "data" / "crds"
LEGACY = Capabilities(
    kserve=False,
    keda=False,
    pod_monitor=False,
    prometheus_rule=False,
    pod_disruption_budget="policy/v1beta1",
    hpa="autoscaling/v2beta2",
)


def as_yaml(manifests: tuple[Manifest, ...]) -> str:
    return yaml.safe_dump_all(copy.deepcopy(manifests), sort_keys=False, width=120)


class Golden:
    """The text files beside the test: delete one and run, and it is written anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, name: str, text: str) -> None:
        path = self.folder / name
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"{path.name} was missing and has been written: read it, then run again")
        kept = path.read_text(encoding="utf-8")
        difference = "\n".join(difflib.unified_diff(kept.splitlines(), text.splitlines(), "kept", "rendered", n=2))
        assert not difference, f"{name} differs; if that is meant, delete it and run again\n{difference}"


def served_kinds() -> dict[tuple[str, str], dict[str, Any]]:
    """(apiVersion, kind) -> schema, for every CRD of the test data."""
    kinds = {}
    for path in CRDS.rglob("*.json.gz"):
        spec = json.loads(gzip.decompress(path.read_bytes()))["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            kinds[key] = version["schema"]["openAPIV3Schema"]
    return kinds


def unknown_fields(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """What the API server would prune."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                yield from unknown_fields(properties[name], inner, f"{path}.{name}")
            elif isinstance(more, dict):
                yield from unknown_fields(more, inner, f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(schema.get("items", {}), item, f"{path}[{index}]")


def custom_complaints(schema: dict[str, Any], manifest: Manifest) -> list[str]:
    wrong = [f"{'.'.join(map(str, e.path))}: {e.message}" for e in Draft4Validator(schema).iter_errors(manifest)]
    known = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    return wrong + list(unknown_fields(schema, known, ""))


MODELS = {
    "ConfigMap": client.V1ConfigMap,
    "Deployment": client.V1Deployment,
    "HorizontalPodAutoscaler": client.V2HorizontalPodAutoscaler,
    "NetworkPolicy": client.V1NetworkPolicy,
    "PodDisruptionBudget": client.V1PodDisruptionBudget,
    "Service": client.V1Service,
    "ServiceAccount": client.V1ServiceAccount,
}


def core_complaints(manifest: Manifest) -> list[str]:
    """What does not survive the kubernetes package's own model of the kind: unknown, misspelt or mistyped fields."""
    api = client.ApiClient()
    parsed = api.deserialize(json.dumps(manifest), MODELS[manifest["kind"]], "application/json")
    again = api.sanitize_for_serialization(parsed)
    return (
        []
        if again == manifest
        else list(difflib.ndiff(as_yaml((manifest,)).split("\n"), as_yaml((again,)).split("\n")))
    )


# Run apart: kserve and tritonclient both register the protobuf package "inference", and one process holds only one.
LIST_SDK_MODELS = """
import json, kserve
models = {name: value for name, value in vars(kserve).items() if hasattr(value, "attribute_map")}
print(json.dumps({
    name: {field: model.openapi_types[attribute] for attribute, field in model.attribute_map.items()}
    for name, model in models.items()
}))
"""


@functools.cache
def sdk_models() -> dict[str, dict[str, str]]:
    """The KServe SDK's models: class name -> JSON field -> type."""
    done = subprocess.run([sys.executable, "-c", LIST_SDK_MODELS], capture_output=True, text=True, check=True)
    models: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return models


def kserve_complaints(kind: str, value: Any, path: str) -> Iterator[str]:
    """Fields that the KServe SDK's model of a kind does not have."""
    if not isinstance(value, dict):
        return  # the schema tells that
    fields = sdk_models()[kind]
    for key, inner in value.items():
        if key not in fields:
            yield f"{path}.{key}"
            continue
        nested = re.sub(r"^list\[(.*)\]$", r"\1", fields[key])
        for item in inner if isinstance(inner, list) else [inner]:
            if nested in sdk_models():
                yield from kserve_complaints(nested, item, f"{path}.{key}")


@pytest.fixture(scope="session")
def server_kinds() -> dict[tuple[str, str], dict[str, Any]]:
    return served_kinds()


@pytest.fixture(scope="session")
def complaints(server_kinds: dict[tuple[str, str], dict[str, Any]]) -> Any:
    """Everything that is wrong with a manifest."""

    def find(manifest: Manifest) -> list[str]:
        schema = server_kinds.get((manifest["apiVersion"], manifest["kind"]))
        found = core_complaints(manifest) if schema is None else custom_complaints(schema, manifest)
        sdk = {"InferenceService": "V1beta1InferenceService", "ServingRuntime": "V1alpha1ServingRuntime"}
        if manifest["kind"] in sdk:
            found += kserve_complaints(sdk[manifest["kind"]], manifest, "")
        return found

    return find


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(Path(__file__).parent / "files")


@pytest.fixture(scope="session")
def plan_sample() -> Any:
    return planned


@pytest.fixture(scope="session")
def rendered_yaml() -> Any:
    return lambda *case, **more: as_yaml(render(planned(*case, **more)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, values in (
        ("sample", list(models())),
        ("workload", WORKLOADS),
        ("scaling", list(SCALINGS)),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.fixture(scope="session")
def legacy() -> Capabilities:
    return LEGACY
