"""The types and the CRD's schema say the same: for valid objects, for mutated ones, for defaults, for the samples."""

import copy
import json
from typing import Any

import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from latentry_operator.api.crd import gpupool_crd, latentmodel_crd
from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.load import load_documents
from latentry_operator.api.parse import check_resource, parse_resource
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.units import ByteSize, Duration

TYPES = {"LatentModel": LatentModel, "GPUPool": GPUPool}
SPECS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for crd in (latentmodel_crd(), gpupool_crd())
}
ODD = [
    "", "x", "A B", "-", "5", "p99", "50ms", "1Gi", "None", "Canary", "s3://b/x", "nvidia.com/gpu", "true",
    0, 1, -1, 50, 101, 10**12, 0.5, 99.9, -0.5, 1e300, True, False, [], {}, ["x"], [{}], {"x": "y"},
]  # fmt: skip
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a structural schema accepts."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(schema["minimum"], schema["maximum"]) | texts(schema)
    match schema["type"]:
        case "object" if "properties" in schema:
            fields = {name: values(inner) for name, inner in schema["properties"].items()}
            required = {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=fields)
        case "object":
            return st.dictionaries(
                st.from_regex(r"[a-z]{1,8}", fullmatch=True), values(schema["additionalProperties"]), max_size=2
            )
        case "array":
            most = min(3, schema["maxItems"])
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=most)
        case "string":
            return texts(schema)
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            return st.floats(
                schema.get("minimum"),
                schema.get("maximum"),
                exclude_min=schema.get("exclusiveMinimum", False),
                exclude_max=schema.get("exclusiveMaximum", False),
                allow_nan=False,
                allow_infinity=False,
            )
    return st.booleans()


def texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    number = st.one_of(st.integers(0, 9999).map(str), st.floats(0, 999).map(lambda x: f"{x:.3f}"))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("pattern") == Duration.PATTERN:
        return st.builds(str.__add__, number, st.sampled_from(["ns", "us", "ms", "s", "m", "h", "d", "m30s"]))
    if schema.get("pattern") == ByteSize.PATTERN:
        return st.builds(str.__add__, number, st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]))
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True).filter(lambda text: len(text) <= schema["maxLength"])
    characters = st.characters(codec="utf-8", exclude_categories=["C"])
    return st.text(characters, min_size=schema.get("minLength", 0), max_size=min(20, schema["maxLength"]))


def objects(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    head = {"apiVersion": "latentry.dev/v1alpha1", "kind": kind, "metadata": {"name": "some-name"}}
    return values(SPECS[kind]).map(lambda spec: {**copy.deepcopy(head), "spec": spec})


any_object = st.sampled_from(sorted(SPECS)).flatmap(objects)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def types_accept(data: dict[str, Any]) -> bool:
    try:
        TYPES[data["kind"]].model_validate_json(json.dumps(data), strict=True)
    except ValidationError:
        return False
    return True


@many
@given(data=any_object)
def test_what_the_schema_accepts_the_types_accept(servers: Any, data: dict[str, Any]) -> None:
    assert servers[data["kind"]].accepts_schema(data)
    assert types_accept(data)


@many
@given(data=any_object, draw=st.data())
def test_both_refuse_the_same_mutations(servers: Any, data: dict[str, Any], draw: st.DataObject) -> None:
    path = draw.draw(st.sampled_from(places(data["spec"])))
    change = draw.draw(st.sampled_from(["remove", *ODD]))
    parent: Any = data
    for part in ("spec", *path)[:-1]:
        parent = parent[part]
    last = ("spec", *path)[-1]
    if change == "remove":
        parent.pop(last)
    else:
        parent[last] = copy.deepcopy(change)
    server = servers[data["kind"]]
    if server.knows(data):
        assert types_accept(data) == server.accepts_schema(data)
    else:
        assert not types_accept(data), "unknown fields are pruned by the schema and refused by the types"


@many
@given(data=any_object)
def test_what_the_server_refuses_validate_refuses(servers: Any, data: dict[str, Any]) -> None:
    _, problems = check_resource(data)
    if servers[data["kind"]].admit(data):
        assert problems


@many
@given(data=any_object)
def test_problems_are_sentences_whatever_the_input(data: dict[str, Any]) -> None:
    for problem in check_resource(data)[1]:
        assert problem.path.startswith("spec.")
        assert problem.problem
        assert problem.remedy


@many
@given(data=any_object)
def test_defaults_of_types_and_schema_are_the_same(servers: Any, data: dict[str, Any]) -> None:
    kind = TYPES[data["kind"]]
    assert kind.model_validate(servers[data["kind"]].defaulted(data)) == kind.model_validate(data)


@many
@given(data=any_object)
def test_round_trip_through_yaml(data: dict[str, Any]) -> None:
    resource = TYPES[data["kind"]].model_validate(data)
    text = yaml.safe_dump(resource.to_dict(), allow_unicode=True)
    try:
        (again,) = load_documents(text, subject="x")
    except InvalidInput:
        assert check_resource(data)[1], "writing it out made it invalid"
        assume(False)  # contradictory fields: not a resource that could be loaded in the first place
    assert again == resource


def test_samples_pass_schema_rules_and_checks(sample_documents: Any, servers: Any) -> None:
    assert len(sample_documents) >= 7
    for name, document in sample_documents:
        assert servers[document["kind"]].knows(document), name
        assert servers[document["kind"]].admit(document) == [], name
        assert parse_resource(document, subject=name).kind == document["kind"]


def test_samples_show_every_family_and_kind_of_hardware(sample_documents: Any) -> None:
    specs = [document["spec"] for _, document in sample_documents]
    assert {spec.get("family") for spec in specs} >= {"Encoder", "Autoencoder", "VAE"}
    assert {spec.get("resourceName") for spec in specs} >= {"nvidia.com/gpu", "nvidia.com/mig-1g.10gb"}
    pools = {document["metadata"]["name"] for _, document in sample_documents if document["kind"] == "GPUPool"}
    assert {spec["placement"]["gpuPool"] for spec in specs if "placement" in spec} == pools
