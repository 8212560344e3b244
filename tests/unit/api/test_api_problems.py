"""What is wrong with a resource, in the user's words.

Single fields: wrong type, unit, range, form, enumeration, length, missing, unknown. Across fields: every rule of
validation.py, once broken and once kept. Both at once: neither hides the other. The CRD's CEL rules refuse the same.
"""

import re
from typing import Any

import pytest

from latentry_operator.api.parse import check_resource, parse_resource
from latentry_operator.api.validation import local_path
from latentry_serving.contract.errors import InvalidInput


def put(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Sets ``spec.slo.latency[0].within`` and makes what is not there yet."""
    parts = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]
    target: Any = data
    for part in parts[:-1]:
        target = target[part] if isinstance(part, int) else target.setdefault(part, {})
    if value is None:
        target.pop(parts[-1])
    else:
        target[parts[-1]] = value
    return data


def problems(data: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in check_resource(data)[1]]


FIELDS = [
    ("metadata.name", "Digits", "'Digits' has the wrong form; use lower-case letters"),
    ("metadata.name", "1digits", "starting with a letter"),
    ("metadata.name", "a" * 45, "45 characters; keep it to 44 characters"),
    ("metadata.name", None, "missing; add it, for example name: digits-vae"),
    ("spec.family", "vae", "'vae' is not Encoder, Autoencoder or VAE; write VAE"),
    ("spec.family", "GAN", "write Encoder, Autoencoder or VAE"),
    ("spec.family", None, "missing; add it, for example family: VAE"),
    ("spec.bundle", None, "missing; add it"),
    ("spec.bundle.uri", "ftp://x", "'ftp://x' has the wrong form; write it, for example, as s3://models/digits-vae/3"),
    ("spec.bundle.digest", "sha256:12", "'sha256:12' has the wrong form"),
    ("spec.runtime.instances", "2", "'2' is not a whole number; write 2 without quotes"),
    ("spec.runtime.instances", 1.5, "1.5 is not a whole number"),
    ("spec.runtime.instances", True, "true is not a whole number"),
    ("spec.runtime.instances", 0, "0 is out of range; write a whole number, 1 or more and at most 64"),
    ("spec.runtime.maxQueueDelay", 500, "500 has no unit; write 500ms or 500s"),
    ("spec.runtime.maxQueueDelay", "5 minutes", "'5 minutes' is not a duration; write one like 500us"),
    ("spec.runtime.maxQueueDelay", "9" * 40 + "d", "too long"),
    ("spec.runtime.resources.requests.cpu", 0.5, '0.5 is no whole number; write 500m or "0.5" in quotes'),
    ("spec.runtime.resources.requests.cpu", "2 cores", "'2 cores' is not a CPU amount; write cores such as 2"),
    ("spec.runtime.resources.requests.cpu", 0, "0 is out of range; write 1 to 1024 cores, or less than one as 500m"),
    ("spec.runtime.resources.requests.cpu", True, "True is not a CPU amount"),
    ("spec.runtime.resources.requests.memory", 4, "4 has no unit; write 4Mi or 4Gi"),
    ("spec.runtime.resources.requests.memory", "4 GB", "'4 GB' is not a byte quantity; write one like 512Mi"),
    ("spec.scaling", [], "[] is not a mapping of fields; write its fields below it, indented"),
    ("spec.slo.latency", {"within": "1s"}, "is not a list; write a list, each item on a line that starts with '- '"),
    ("spec.slo.availability", 100, "100 is out of range; write a number, more than 0 and less than 100"),
    ("spec.slo.availability", float("nan"), "NaN is out of range"),
    ("spec.slo.quality.reconstructionErrorWithin", 0.02, 'write "0.02" in quotes'),
    ("spec.rollout.gates.golden", "true", "'true' is not true or false; write true without quotes"),
    ("spec.placement.gpuPool", "A_10", "has the wrong form; use lower-case letters, digits and '-'"),
    ("spec.pod.images.tap", "", "empty; fill it in, for example registry/tap:1.0"),
    ("spec.pod.labels.team", 1, '1 is not text; write "1" in quotes'),
    ("spec.pod.imagePullSecrets", ["x"] * 17, "17 items; keep it to 16 items"),
    ("spec.runtime.instance", 2, "unknown field; did you mean instances?"),
    ("spec.minReplicas", 2, "unknown field; did you mean spec.scaling.minReplicas?"),
    ("spec.within", "1s", "unknown field; remove it; known here: family, bundle"),
]


@pytest.mark.parametrize(("path", "value", "expected"), FIELDS)
def test_one_wrong_field(model: dict[str, Any], path: str, value: Any, expected: str) -> None:
    (found,) = problems(put(model, path, value))
    assert found.startswith(f"{path}: ")
    assert expected in found


ACROSS = [
    ({"bundle.digest": None}, "bundle.digest", "required for s3://models/digits", True),
    ({"bundle": {"uri": "file://~/x"}}, "bundle.uri", "~ is not expanded", False),
    ({"bundle": {"uri": "file://localhost/srv/x"}}, "bundle.uri", "write file:///srv/x", False),
    ({"placement.gpus": 2}, "placement.gpus", "2 without a gpuPool", True),
    ({"runtime.maxQueueDelay": "11s"}, "runtime.maxQueueDelay", "11s is out of range; write 0s to 10s", False),
    (
        {"runtime.resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}},
        "runtime.resources.requests.cpu",
        "2 is more than the limit of 1",
        False,
    ),
    (
        {"runtime.resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}},
        "runtime.resources.requests.memory",
        "2Gi is more than the limit of 1Gi",
        False,
    ),
    (
        {"runtime.resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": 1}}},
        "runtime.resources.requests.cpu",
        "1500m is more than the limit of 1",
        False,
    ),
    ({"runtime.resources.limits.cpu": "0.0"}, "runtime.resources.limits.cpu", "0 cores; write 1m to 1024", False),
    ({"runtime.resources.limits.memory": "0"}, "runtime.resources.limits.memory", "0 bytes", False),
    ({"scaling": {"minReplicas": 4, "maxReplicas": 2}}, "scaling.maxReplicas", "less than minReplicas, 4", True),
    ({"scaling": {"metric": "None", "maxReplicas": 2}}, "scaling.maxReplicas", "metric None keeps 1", True),
    ({"scaling": {"metric": "None", "target": 2}}, "scaling.target", "metric is None", True),
    (
        {"scaling": {"metric": "CPU", "target": 101}, "runtime.resources.requests.cpu": 1},
        "scaling.target",
        "101 percent",
        True,
    ),
    ({"scaling.metric": "CPU"}, "scaling.metric", "add spec.runtime.resources.requests.cpu", True),
    ({"slo.period": "59m"}, "slo.period", "59m is out of range; write 1h to 90d", False),
    ({"slo.latency": [{"within": "0s", "objective": 9}]}, "slo.latency[0].within", "write 1us to 1h", False),
    (
        {"slo.latency": [{"within": "50ms", "objective": 9}, {"within": "0.05s", "objective": 9}]},
        "slo.latency[1].within",
        "50ms twice",
        False,
    ),
    (
        {"slo.latency": [{"within": "1s", "objective": 99}, {"within": "50ms", "objective": 99}]},
        "slo.latency[0].objective",
        "99 % within 1s follows from 99 % within 50ms",
        False,
    ),
    ({"family": "Encoder", "slo.quality": {}}, "slo.quality", "an Encoder reconstructs nothing", True),
    (
        {"slo.quality": {"reconstructionErrorWithin": "p95", "objective": 99}},
        "slo.quality.objective",
        "99 % within p95, which holds 95 % of the validation data; write less than 95",
        False,
    ),
    ({"slo.quality.reconstructionErrorWithin": "p0"}, "slo.quality.reconstructionErrorWithin", "p0", False),
    ({"slo.quality.reconstructionErrorWithin": "0.0"}, "slo.quality.reconstructionErrorWithin", "within 0", False),
    ({"monitoring.drift.expectedRunTime": "1m"}, "monitoring.drift.expectedRunTime", "1m is out of range", False),
    ({"monitoring.golden.every": "5ms"}, "monitoring.golden.every", "5ms is out of range", False),
    ({"rollout.steps": [{"weight": 5, "for": "5m"}]}, "rollout.steps", "not used by BlueGreen", True),
    (
        {"rollout": {"strategy": "Canary", "steps": [{"weight": 5, "for": "5m"}, {"weight": 5, "for": "5m"}]}},
        "rollout.steps[1].weight",
        "5 is not more than 5, the step before",
        True,
    ),
    (
        {"rollout": {"strategy": "Canary", "steps": [{"weight": 50, "for": "5m"}, {"weight": 5, "for": "5m"}]}},
        "rollout.steps[1].weight",
        "5 is not more than 50",
        True,
    ),
    (
        {"rollout": {"strategy": "Canary", "steps": [{"weight": 5, "for": "0s"}]}},
        "rollout.steps[0].for",
        "0s is out of range",
        False,
    ),
    ({"rollout.deadline": "0s"}, "rollout.deadline", "0s is out of range", False),
    ({"rollout.keepFor": "91d"}, "rollout.keepFor", "91d is out of range", False),
    ({"pod.labels": {"a b": "x"}}, "pod.labels.a b", "'a b' is no label key", False),
    ({"pod.labels": {"team": "a b"}}, "pod.labels.team", "'a b' is no label value", False),
    ({"pod.annotations": {"latentry.dev/x": "y"}}, "pod.annotations.latentry.dev/x", "belongs to the operator", False),
]


@pytest.mark.parametrize(("changes", "path", "expected", "cel"), ACROSS)
def test_fields_that_contradict_each_other(
    model: dict[str, Any], servers: Any, changes: dict[str, Any], path: str, expected: str, cel: bool
) -> None:
    for place, value in changes.items():
        put(model, f"spec.{place}", value)
    (found,) = problems(model)
    assert found.startswith(f"spec.{path}: ")
    assert expected in found
    assert bool(servers["LatentModel"].admit(model)) is cel


KEPT = [
    {"bundle": {"uri": "file://.latentry/digits"}},
    {"placement": {"gpuPool": "a10", "gpus": 2}},
    {"scaling": {"minReplicas": 2, "maxReplicas": 2, "metric": "None"}},
    {"scaling": {"metric": "CPU", "target": 100}, "runtime.resources.requests.cpu": "500m"},
    {"slo.latency": [{"within": "50ms", "objective": 95}, {"within": "1s", "objective": 99}]},
    {"family": "Autoencoder", "slo.quality": {"reconstructionErrorWithin": "0.02", "objective": 99.9}},
    {"rollout": {"strategy": "Canary", "steps": [{"weight": 5, "for": "5m"}, {"weight": 100, "for": "1s"}]}},
    {"rollout": {"strategy": "Canary"}},
    {"rollout.keepFor": "0s", "runtime.maxQueueDelay": "0s"},
    {"pod.labels": {"example.com/team": "vision", "tier": ""}, "pod.annotations": {"note": "any text, even this"}},
]


@pytest.mark.parametrize("changes", KEPT)
def test_what_is_allowed(model: dict[str, Any], servers: Any, changes: dict[str, Any]) -> None:
    for place, value in changes.items():
        put(model, f"spec.{place}", value)
    assert problems(model) == []
    assert servers["LatentModel"].admit(model) == []


POOLS = [
    ({"memoryPerDevice": None}, "spec.memoryPerDevice: missing; add it, for example memoryPerDevice: 24Gi", True),
    ({"memoryPerDevice": "0"}, "spec.memoryPerDevice: 0 bytes", False),
    ({"resourceName": "gpu"}, "spec.resourceName: 'gpu' has the wrong form", True),
    ({"nodeSelector": {"/x": "y"}}, "spec.nodeSelector./x: '/x' is no label key", False),
    ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "spec.tolerations[0].value: operator Exists", True),
    ({"tolerations": [{"value": "x"}]}, "spec.tolerations[0].key: operator Equal needs a key", True),
    (
        {"tolerations": [{"operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 3}]},
        "spec.tolerations[0].tolerationSeconds: only for effect NoExecute",
        False,
    ),
    ({"price": {"perDeviceHour": -1, "currency": "USD"}}, "spec.price.perDeviceHour: -1 ", True),
    ({"price": {"perDeviceHour": 1}}, "spec.price.currency: missing; add it, for example currency: USD", True),
    ({"price": {"perDeviceHour": 1, "currency": "euro"}}, "spec.price.currency: ", True),
]


@pytest.mark.parametrize(("changes", "expected", "server"), POOLS)
def test_pools(pool: dict[str, Any], servers: Any, changes: dict[str, Any], expected: str, server: bool) -> None:
    assert problems(pool) == []
    for place, value in changes.items():
        put(pool, f"spec.{place}", value)
    (found,) = problems(pool)
    assert found.startswith(expected)
    assert bool(servers["GPUPool"].admit(pool)) is server


def test_wrong_fields_do_not_hide_contradictions_elsewhere(model: dict[str, Any]) -> None:
    put(model, "spec.slo.period", 30)
    put(model, "spec.slo.latency", [{"within": 50, "objective": 99}])
    put(model, "spec.slo.quality", {"reconstructionErrorWithin": "p95", "objective": 99})
    put(model, "spec.placement.gpus", 1)
    put(model, "spec.bundle.digest", None)
    paths = [problem.path for problem in check_resource(model)[1]]
    assert paths == [
        "spec.slo.period",
        "spec.slo.latency[0].within",
        "spec.bundle.digest",
        "spec.placement.gpus",
        "spec.slo.quality.objective",
    ]


def test_a_stand_in_for_a_wrong_field_is_never_blamed(model: dict[str, Any]) -> None:
    """50ms is the example that stands in for 50; the real 50ms beside it is no duplicate."""
    put(model, "spec.slo.latency", [{"within": 50, "objective": 99}, {"within": "50ms", "objective": 99}])
    put(model, "spec.scaling", {"minReplicas": "8", "maxReplicas": 4, "metric": "None"})
    assert [problem.path for problem in check_resource(model)[1]] == [
        "spec.scaling.minReplicas",
        "spec.slo.latency[0].within",
    ]


def test_an_empty_object_names_what_is_missing() -> None:
    assert problems({}) == [
        "apiVersion: missing; write apiVersion: latentry.dev/v1alpha1",
        "kind: missing; write kind: LatentModel or GPUPool",
    ]


def test_an_object_with_nothing_but_its_kind(model: dict[str, Any]) -> None:
    found = problems({"apiVersion": model["apiVersion"], "kind": "LatentModel"})
    assert [line.partition(":")[0] for line in found] == ["metadata", "spec"]


def test_null_is_the_same_as_absent(model: dict[str, Any]) -> None:
    with_nulls = put(model, "spec.slo", {"availability": 99, "latency": []}) | {"status": None}
    with_nulls["spec"]["placement"] = {"gpuPool": None, "gpus": None}
    with_nulls["spec"]["slo"]["quality"] = None
    resource = parse_resource(with_nulls, subject="x")
    assert resource.to_dict()["spec"]["placement"] == {}


def test_what_a_server_adds_to_metadata_is_read_or_ignored(model: dict[str, Any]) -> None:
    model["metadata"] |= {"uid": "u", "generation": 3, "managedFields": [{"manager": "kubectl"}]}
    assert parse_resource(model, subject="x").metadata.generation == 3


def test_parse_resource_raises_with_the_subject(model: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^LatentModel prod/digits: 1 problem\n  - spec.family: ") as caught:
        parse_resource(put(model, "spec.family", "vae"), subject="LatentModel prod/digits")
    assert caught.value.exit_code == 2


def test_family_and_resource_name_cannot_change(model: dict[str, Any], pool: dict[str, Any], servers: Any) -> None:
    changed = put({**model, "spec": dict(model["spec"])}, "spec.family", "Encoder")
    assert servers["LatentModel"].admit(model, old=model) == []
    assert "family cannot change" in servers["LatentModel"].admit(changed, old=model)[0]
    slice_ = {**pool, "spec": pool["spec"] | {"resourceName": "nvidia.com/mig-1g.10gb"}}
    assert "resourceName cannot change" in servers["GPUPool"].admit(slice_, old=pool)[0]


@pytest.mark.parametrize(
    ("uri", "path"), [("file:///srv/x", "/srv/x"), ("file://.latentry/x", ".latentry/x"), ("s3://b/x", None)]
)
def test_local_paths(uri: str, path: str | None) -> None:
    found = local_path(uri)
    assert (None if found is None else str(found)) == path
