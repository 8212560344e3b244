"""The CRDs: structural, bounded, described, with the columns and subresources that kubectl users expect."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import cel
import pytest
import yaml
from jsonschema import Draft4Validator, ValidationError
from kubernetes.client import V1CustomResourceDefinitionVersion, V1JSONSchemaProps

from latentry_operator.api.crd import crd_files, gpupool_crd, latentmodel_crd

CRDS = {"LatentModel": latentmodel_crd(), "GPUPool": gpupool_crd()}
# Kubernetes documentation, "Specifying a structural schema", and the features it lists as unsupported.
FORBIDDEN = {
    "$ref", "$schema", "additionalItems", "allOf", "anyOf", "definitions", "dependencies", "id", "not", "oneOf",
    "patternProperties", "uniqueItems", "nullable",
}  # fmt: skip
KNOWN = set(V1JSONSchemaProps.attribute_map.values())

Node = tuple[str, dict[str, Any]]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[Node]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}.*")


def schema_of(kind: str) -> dict[str, Any]:
    return CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def structural(path: str, node: dict[str, Any]) -> None:
    if node.get("x-kubernetes-int-or-string"):
        # the one union that a structural schema may say, in these words only
        assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        assert "type" not in node
        assert set(node) <= KNOWN | {"anyOf", "x-kubernetes-int-or-string"}
        return
    assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}
    assert set(node) <= KNOWN
    assert not set(node) & FORBIDDEN
    assert not ("properties" in node and "additionalProperties" in node)
    assert isinstance(node.get("additionalProperties", {}), dict)
    assert ("items" in node) == (node["type"] == "array")
    assert set(node.get("required", ())) <= set(node.get("properties", {}))
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        assert node.get(bound, True) is True
        assert bound not in node or bound.removeprefix("exclusive").lower() in node


def bounded_so_that_rules_cost_little(path: str, node: dict[str, Any]) -> None:
    if path in (".apiVersion", ".kind"):
        return  # the server's own
    if node.get("type", "string") == "string" and "enum" not in node:
        assert "maxLength" in node
    if node.get("type") == "array":
        assert "maxItems" in node
    if "additionalProperties" in node:
        assert "maxProperties" in node


def described_with_unit_and_default(path: str, node: dict[str, Any]) -> None:
    if path.startswith(".metadata") or path.endswith(("[]", ".*")):
        return
    text = node["description"]
    assert "\n" not in text
    timed = node.get("pattern", "").startswith(("^([0-9]+(", "^[0-9]+("))
    if node.get("type", "integer") in ("integer", "number") or timed:
        assert "Unit: " in text or "No unit" in text
    if "default" in node and node["default"] != {}:
        written = str(node["default"]).lower() if isinstance(node["default"], bool) else f"{node['default']}"
        assert text.endswith(f"Default: {written.removesuffix('.0')}.")
    elif "properties" not in node and path:
        assert "Required." in text or "Left out: " in text


def valid_in_its_default(path: str, node: dict[str, Any]) -> None:
    if "default" in node:
        assert not path.startswith(".status"), "nobody defaults what has not been observed"
        Draft4Validator(node).validate(node["default"])
        # apiextensions-apiserver checks rules on the default as it stands, before the defaults inside it are filled in
        for rule in node.get("x-kubernetes-validations", ()):
            context = cel.Context({"self": node["default"], "oldSelf": node["default"]})
            assert cel.evaluate(rule["rule"], context) is True, rule


def mergeable_by_fields_that_are_always_there(path: str, node: dict[str, Any]) -> None:
    if node.get("type") != "array":
        return
    assert node["x-kubernetes-list-type"] in ("map", "atomic")
    assert ("x-kubernetes-list-map-keys" in node) == (node["x-kubernetes-list-type"] == "map")
    for key in node.get("x-kubernetes-list-map-keys", ()):
        assert key in node["items"]["required"]


def telling_what_to_do_in_rules(path: str, node: dict[str, Any]) -> None:
    for rule in node.get("x-kubernetes-validations", ()):
        assert set(rule) == {"rule", "message"}
        assert re.match(r"[A-Za-z]", rule["message"])
        for name in re.findall(r"self\.([a-zA-Z]+)", rule["rule"]):
            assert name in node.get("properties", {}) or node["type"] == "string"


CHECKS = [
    structural,
    bounded_so_that_rules_cost_little,
    described_with_unit_and_default,
    valid_in_its_default,
    mergeable_by_fields_that_are_always_there,
    telling_what_to_do_in_rules,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", CRDS)
def test_every_place_of_the_schema_is(kind: str, check: Callable[[str, dict[str, Any]], None]) -> None:
    wrong = []
    for path, node in nodes(schema_of(kind)):
        try:
            check(path, node)
        except (AssertionError, ValidationError) as error:
            wrong.append(f"{path}: {error}")
    assert wrong == []


def test_metadata_is_restricted_by_name_only() -> None:
    for kind in CRDS:
        assert set(schema_of(kind)["properties"]["metadata"]["properties"]) == {"name"}


def test_names_and_subresources() -> None:
    model, pool = CRDS["LatentModel"]["spec"], CRDS["GPUPool"]["spec"]
    assert (model["scope"], model["names"]["shortNames"]) == ("Namespaced", ["lm"])
    assert (pool["scope"], pool["names"]["shortNames"]) == ("Cluster", ["gp"])
    assert set(model["versions"][0]["subresources"]) == {"status", "scale"}
    assert set(pool["versions"][0]["subresources"]) == {"status"}
    for crd in CRDS.values():
        assert set(crd["spec"]["versions"][0]) <= set(V1CustomResourceDefinitionVersion.attribute_map.values())


def test_columns() -> None:
    columns = CRDS["LatentModel"]["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if not column.get("priority")]
    assert shown == ["FAMILY", "VERSION", "READY", "ROLLOUT", "SHARE", "DRIFT", "SLO", "AGE"]


@pytest.mark.parametrize("kind", CRDS)
def test_columns_and_scale_point_at_fields_that_exist(kind: str) -> None:
    version = CRDS[kind]["spec"]["versions"][0]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += version["subresources"].get("scale", {}).values()
    known = {path for path, _ in nodes(schema_of(kind))} | {".metadata.creationTimestamp"}
    for path in paths:
        assert re.sub(r"\[\?\(.*?\)\]", "[]", path) in known


def test_the_files_are_what_the_functions_give() -> None:
    assert {yaml.safe_load(text)["metadata"]["name"] for text in crd_files().values()} == {
        "latentmodels.latentry.dev",
        "gpupools.latentry.dev",
    }
    assert [yaml.safe_load(text) for text in crd_files().values()] == list(CRDS.values())
