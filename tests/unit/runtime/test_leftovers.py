"""What a deleted LatentModel left behind for its successor, against a scripted server."""

from typing import Any

import pytest

from latentry_operator.kube.apply import Applier
from latentry_operator.kube.client import Client
from latentry_operator.kube.kinds import CONFIG_MAP, SERVICE, Kind
from latentry_operator.kube.records import Child, ChildReader, Owner, Stored
from latentry_operator.runtime.decide import leftovers
from latentry_operator.runtime.observe import Seen

KEY = ("n", "tiny")
NEW = Owner("LatentModel", "tiny", "new")


def child(
    kind: Kind, name: str, owner: str | None, *, manager: str = "latentry", **metadata: Any
) -> tuple[Kind, Child]:
    """An object with the model's labels, applied by ``manager`` and controlled by a model of that uid."""
    owners = [{"kind": "LatentModel", "name": "tiny", "uid": owner, "controller": True}] if owner else []
    entry = {"manager": manager, "operation": "Apply", "fieldsV1": {"f:data": {"f:a": {}}}}
    about = {
        "namespace": "n",
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "labels": {"latentry.dev/model": "tiny"},
        "ownerReferences": owners,
        "managedFields": [entry],
    }
    return kind, ChildReader()({"apiVersion": kind.api_version, "kind": kind.name, "metadata": about | metadata})


OLD = [child(CONFIG_MAP, "tiny-1", "old"), child(SERVICE, "tiny", "old")]
OTHERS = [
    child(CONFIG_MAP, "tiny-2", "new"),
    child(CONFIG_MAP, "orphan", None),
    child(CONFIG_MAP, "foreign", "old", manager="kubectl"),
    child(CONFIG_MAP, "going", "old", deletionTimestamp="2026-01-01T00:00:00Z"),
]


def test_they_are_ours_and_of_a_model_of_another_uid() -> None:
    record = Stored({"metadata": {"namespace": "n", "name": "tiny", "uid": "new", "resourceVersion": "9"}})
    assert leftovers(Seen(record, NEW, (*OLD, *OTHERS), (), "")) == OLD


async def test_each_is_deleted_by_its_uid(script: Any, client: Client) -> None:
    script.then(200, {"items": [{"metadata": {"uid": "new"}}]}).then(200)
    assert await Applier(client, ChildReader()).clear(KEY, NEW, OLD) == OLD
    asked, *deleted = script.requests
    assert asked.query["fieldSelector"] == "metadata.name=tiny"
    assert [(one.method, one.path) for one in deleted] == [
        ("DELETE", "/api/v1/namespaces/n/configmaps/tiny-1"),
        ("DELETE", "/api/v1/namespaces/n/services/tiny"),
    ]
    bodies = [await one.json() for one in deleted]
    assert [body["preconditions"] for body in bodies] == [{"uid": "uid-tiny-1"}, {"uid": "uid-tiny"}]


@pytest.mark.parametrize("live", [[], [{"metadata": {"uid": "newer"}}]])
async def test_nothing_is_deleted_by_one_whose_view_is_old(script: Any, client: Client, live: list[Any]) -> None:
    script.then(200, {"items": live})
    assert not await Applier(client, ChildReader()).clear(KEY, NEW, OLD)
    assert [one.method for one in script.requests] == ["GET"]


async def test_without_leftovers_nothing_is_asked(script: Any, client: Client) -> None:
    assert not await Applier(client, ChildReader()).clear(KEY, NEW, [])
    assert script.requests == []
