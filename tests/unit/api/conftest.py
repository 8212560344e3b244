"""What an API server does with our schemas, as far as tests need it: nulls, defaults, schema checks, CEL rules."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from jsonschema import Draft4Validator

from latentry_operator.api.crd import gpupool_crd, latentmodel_crd

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Server:
    """One kind's schema, applied the way kube-apiserver does. OpenAPI v3.0's keywords are JSON Schema draft 4's."""

    schema: dict[str, Any]

    def admit(self, data: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
        """Complaints about an object; ``old`` is what it replaces."""
        data = self.defaulted(data)
        complaints = [error.message for error in Draft4Validator(self.schema).iter_errors(data)]
        return complaints or list(_cel(self.schema, data, old and self.defaulted(old)))

    def accepts_schema(self, data: dict[str, Any]) -> bool:
        return Draft4Validator(self.schema).is_valid(data)

    def defaulted(self, data: dict[str, Any]) -> dict[str, Any]:
        data = copy.deepcopy(data)
        _fill(self.schema, data)
        return data

    def knows(self, data: dict[str, Any]) -> bool:
        """Whether every field of the spec is in the schema; the server would prune or refuse the others."""
        return _knows(self.schema["properties"]["spec"], data.get("spec"))


def _fill(schema: dict[str, Any], value: Any) -> None:
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                _fill(inner, value[name])
    elif isinstance(value, list):
        for item in value:
            _fill(schema.get("items", {}), item)


def _knows(schema: dict[str, Any], value: Any) -> bool:
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return all(name in known and _knows(known[name], inner) for name, inner in value.items())
    if isinstance(value, list) and "items" in schema:
        return all(_knows(schema["items"], item) for item in value)
    return True


def _cel(schema: dict[str, Any], value: Any, old: Any):
    for entry in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in entry["rule"] and old is None:
            continue
        context = cel.Context()
        context.add_function("isSorted", lambda items: list(items) == sorted(items))  # Kubernetes' list library
        context.add_variable("self", value)
        context.add_variable("oldSelf", old)
        if cel.evaluate(entry["rule"], context) is not True:
            yield entry["message"]
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield from _cel(inner, value[name], old.get(name) if isinstance(old, dict) else None)
    elif isinstance(value, list):
        for item in value:
            yield from _cel(schema.get("items", {}), item, None)


def _server(crd: dict[str, Any]) -> Server:
    return Server(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


@pytest.fixture(scope="session")
def servers() -> dict[str, Server]:
    return {"LatentModel": _server(latentmodel_crd()), "GPUPool": _server(gpupool_crd())}


@pytest.fixture(scope="session")
def sample_documents() -> list[tuple[str, dict[str, Any]]]:
    files = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
    return [(path.name, document) for path in files for document in yaml.safe_load_all(path.read_text())]


@pytest.fixture
def model() -> dict[str, Any]:
    """The smallest valid VAE."""
    return {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "LatentModel",
        "metadata": {"name": "digits-vae"},
        "spec": {"family": "VAE", "bundle": {"uri": "s3://models/digits", "digest": "sha256:" + "a" * 64}},
    }


@pytest.fixture
def pool() -> dict[str, Any]:
    """The smallest valid pool."""
    return {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": "a10"},
        "spec": {"memoryPerDevice": "24Gi"},
    }
