"""managedFields: what we own, what others claimed, and whether a live object says what we want."""

import copy
from typing import Any

import pytest

from latentry_operator.kube import fields

OURS = {
    "f:metadata": {"f:labels": {"f:a": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:args": {},
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}},
            'k:{"port":90,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}},
        },
        "f:finalizers": {'v:"x"': {}},
    },
}
LIVE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Thing",
    "metadata": {"name": "t", "uid": "u", "labels": {"a": "1", "theirs": "2"}, "managedFields": []},
    "spec": {
        "replicas": 2,
        "defaulted": True,
        "args": ["-b", "-a"],
        "finalizers": ["theirs", "x"],
        "ports": [
            {"port": 90, "protocol": "TCP", "nodePort": 3},
            {"port": 80, "protocol": "TCP", "name": "http", "targetPort": 8},
            {"port": 70, "protocol": "TCP"},
        ],
    },
    "status": {"ready": True},
}
DESIRED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Thing",
    "metadata": {"name": "t", "labels": {"a": "1"}, "ownerReferences": [{"uid": "o"}]},
    "spec": {
        "replicas": 2,
        "args": ["-b", "-a"],
        "finalizers": ["x"],
        "ports": [{"port": 80, "name": "http", "protocol": "TCP"}, {"port": 90, "protocol": "TCP"}],
    },
}


def same(live: dict[str, Any], desired: dict[str, Any], owned: fields.Fields = OURS) -> bool:
    return fields.fingerprint(live, owned, only_owned=True) == fields.fingerprint(desired, owned, only_owned=False)


def changed(obj: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    copied = copy.deepcopy(obj)
    place = copied
    for part in path[:-1]:
        place = place[part]  # type: ignore[index]
    place[path[-1]] = to  # type: ignore[index]
    return copied


def test_a_live_object_with_defaults_and_others_fields_says_what_we_want() -> None:
    assert same(LIVE, DESIRED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replicas"), 3),
        (("spec", "args"), ["-a", "-b"]),
        (("metadata", "labels", "a"), "2"),
        (("spec", "ports", 1, "name"), "other"),
        (("spec", "ports"), LIVE["spec"]["ports"][1:]),
        (("spec", "finalizers"), ["theirs"]),
    ],
)
def test_a_change_of_what_we_own_is_seen(path: tuple[str | int, ...], value: Any) -> None:
    assert not same(changed(LIVE, *path, to=value), DESIRED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "defaulted"), False),
        (("metadata", "labels", "theirs"), "3"),
        (("spec", "ports", 0, "nodePort"), 4),
        (("spec", "ports", 2, "port"), 71),
        (("status",), {}),
    ],
)
def test_a_change_of_what_others_own_is_not(path: tuple[str | int, ...], value: Any) -> None:
    assert same(changed(LIVE, *path, to=value), DESIRED)


def test_a_new_wish_is_seen_and_the_order_of_a_plain_list_counts() -> None:
    assert not same(LIVE, changed(DESIRED, "spec", "new", to=1))
    assert not same(LIVE, changed(DESIRED, "spec", "args", to=["-a", "-b"]))


def test_a_field_whose_ownership_was_lost_is_seen() -> None:
    lost = copy.deepcopy(OURS)
    del lost["f:spec"]["f:replicas"]  # type: ignore[attr-defined]
    assert not same(LIVE, DESIRED, lost)


def managed(manager: str, operation: str, owned: fields.Fields, subresource: str = "") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": owned, "subresource": subresource}


def test_an_empty_struct_whose_ownership_the_server_does_not_record_is_no_difference() -> None:
    """Kubernetes 1.20 records ``emptyDir: {}`` of a volume as its name alone; each restart would write it again."""
    volumes = [{"name": "tmp", "emptyDir": {}}]
    owned = {"f:spec": {"f:volumes": {'k:{"name":"tmp"}': {".": {}, "f:name": {}}}}}
    assert same({"spec": {"volumes": volumes}}, {"spec": {"volumes": volumes}}, owned)
    newer = {"f:spec": {"f:volumes": {'k:{"name":"tmp"}': {".": {}, "f:name": {}, "f:emptyDir": {}}}}}
    assert same({"spec": {"volumes": volumes}}, {"spec": {"volumes": volumes}}, newer)
    gone = [{"name": "tmp", "configMap": {"name": "x"}}]
    assert not same({"spec": {"volumes": gone}}, {"spec": {"volumes": volumes}}, newer)


def test_owners_are_told_apart() -> None:
    entries = [
        managed("latentry", "Apply", {"f:spec": {"f:a": {}}}),
        managed("latentry", "Apply", {"f:status": {}}, "status"),
        managed("kubectl-edit", "Update", {"f:spec": {"f:b": {}}}),
        managed("argocd", "Apply", {"f:spec": {"f:c": {}}}),
        managed("team", "Apply", {"f:spec": {"f:d": {}}, "f:metadata": {}}),
    ]
    obj = {"metadata": {"managedFields": entries}}
    assert fields.applied_by(obj, "latentry") == {"f:spec": {"f:a": {}}}
    assert fields.applied_by_others(obj, "latentry") == {"f:spec": {"f:c": {}, "f:d": {}}, "f:metadata": {}}


@pytest.mark.parametrize(
    ("claimed", "path", "left"),
    [
        ({"f:spec": {"f:replicas": {}}}, ("spec",), {k: v for k, v in DESIRED["spec"].items() if k != "replicas"}),
        (
            {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}},
            ("metadata",),
            {"name": "t", "ownerReferences": [{"uid": "o"}]},
        ),
        ({"f:spec": {"f:finalizers": {'v:"x"': {}}}}, ("spec", "args"), ["-b", "-a"]),
        (
            {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}}}},
            ("spec", "ports"),
            [{"port": 90, "protocol": "TCP"}],
        ),
        ({}, ("spec",), DESIRED["spec"]),
    ],
)
def test_what_others_claim_is_taken_out(claimed: fields.Fields, path: tuple[str, ...], left: Any) -> None:
    found: Any = fields.without(DESIRED, claimed)
    assert (found["kind"], found["metadata"]["name"]) == ("Thing", "t")
    for part in path:
        found = found[part]
    assert found == left
