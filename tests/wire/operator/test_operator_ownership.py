"""Who owns what, on a real API server.

Covered: names that are taken, children edited and deleted by hand, fields that another manager applied, orphans taken
back, leftovers pruned, objects of a deleted model of the same name, also while nothing is garbage collected.
"""

from collections.abc import Callable
from typing import Any

import pytest
from kube import ControlPlane, Obj, kinds

from latentry_operator.runtime import reconcile
from latentry_operator.runtime.operator import Operator

Make = Callable[..., Obj]


async def test_a_taken_name_is_refused_and_used_once_free(
    operator: Operator, world: Any, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "NAME_TAKEN_SECONDS", 0.3)
    foreign = {"metadata": {"name": "tiny"}, "spec": {"selector": {"app": "mine"}, "ports": [{"port": 7}]}}
    await world.api.create(kinds.service, world.namespace, foreign)
    kept = await world.api.get(kinds.service, world.namespace, "tiny")
    await world.apply(make_model("tiny"))
    found = await world.until("tiny", "Accepted", "False", "NameTaken")
    message = next(entry for entry in found["status"]["conditions"] if entry["type"] == "Accepted")["message"]
    assert "Service tiny exists" in message
    assert "delete or rename it" in message
    assert await world.api.get(kinds.service, world.namespace, "tiny") == kept
    await world.api.delete(kinds.service, world.namespace, "tiny")
    await world.complete("tiny")


async def test_edited_children_are_restored(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny"))
    revision = (await world.complete("tiny"))["status"]["stable"]["revision"]
    edits = [
        (kinds.service, "tiny", {"spec": {"selector": {"latentry.dev/revision": "other"}}}),
        (kinds.config_map, revision, {"data": {"tap.yaml": "model: other\n"}}),
        (kinds.inference_service, revision, {"spec": {"predictor": {"model": {"storageUri": "s3://other/1"}}}}),
        (kinds.service, "tiny", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
        (kinds.service, "tiny", {"metadata": {"ownerReferences": None}}),
    ]
    for kind, name, change in edits:
        before = await world.api.get(kind, world.namespace, name)
        edited = await world.api.merge(kind, world.namespace, name, change, manager="kubectl-edit")
        assert content(edited) != content(before), change
        await world.api.until(kind, world.namespace, name, lambda obj, wanted=before: content(obj) == content(wanted))


def content(obj: Obj | None) -> Obj:
    """What an object says, without the server's bookkeeping."""
    assert obj is not None
    metadata = {key: obj["metadata"].get(key) for key in ("labels", "ownerReferences")}
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")} | {"metadata": metadata}


async def test_what_others_add_is_left_alone(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny"))
    await world.complete("tiny")
    added = {"metadata": {"annotations": {"team": "vision"}}, "spec": {"sessionAffinity": "ClientIP"}}
    edited = await world.api.merge(kinds.service, world.namespace, "tiny", added, manager="kubectl-edit")
    # Something that makes the operator look at all of the model's objects again.
    await world.api.delete(kinds.network_policy, world.namespace, "tiny")
    await world.api.until(kinds.network_policy, world.namespace, "tiny", lambda found: found is not None)
    after = await world.api.get(kinds.service, world.namespace, "tiny")
    assert after["metadata"]["resourceVersion"] == edited["metadata"]["resourceVersion"]


async def test_deleted_children_come_back_with_an_event(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny"))
    revision = (await world.complete("tiny"))["status"]["stable"]["revision"]
    for kind, name in (
        (kinds.config_map, revision),
        (kinds.service, "tiny"),
        (kinds.serving_runtime, revision),
        (kinds.inference_service, revision),
    ):
        uid = (await world.api.get(kind, world.namespace, name))["metadata"]["uid"]
        await world.api.delete(kind, world.namespace, name)

        def is_new(found: Obj | None, uid: str = uid) -> bool:
            return found is not None and found["metadata"]["uid"] != uid

        await world.api.until(kind, world.namespace, name, is_new)
    await world.complete("tiny")

    async def told() -> bool:
        events = (await world.api.list(kinds.event, world.namespace))["items"]
        return any(event["reason"] == "ObjectRestored" and "InferenceService" in event["message"] for event in events)

    await world.eventually(told)


async def test_a_field_that_another_manager_applied_is_its_own_until_it_lets_go(
    operator: Operator, world: Any, make_model: Make
) -> None:
    await world.apply(make_model("tiny"))
    await world.complete("tiny")
    ours = await world.api.get(kinds.network_policy, world.namespace, "tiny")
    theirs = {"metadata": {"name": "tiny"}, "spec": {"policyTypes": ["Ingress", "Egress"], "podSelector": {}}}
    taken = await world.api.apply(kinds.network_policy, world.namespace, theirs, manager="security-team", force=True)
    # The operator has looked at the policy once it restores something else of the model.
    await world.api.delete(kinds.service, world.namespace, "tiny")
    await world.api.until(kinds.service, world.namespace, "tiny", lambda found: found is not None)
    left = await world.api.get(kinds.network_policy, world.namespace, "tiny")
    assert left["spec"]["policyTypes"] == taken["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert left["spec"]["ingress"] == ours["spec"]["ingress"]
    # A change of the model still reaches the fields that are ours.
    await world.api.apply(
        kinds.network_policy, world.namespace, {"metadata": {"name": "tiny"}}, manager="security-team"
    )
    await world.api.until(
        kinds.network_policy, world.namespace, "tiny", lambda found: (found or {}).get("spec") == ours["spec"]
    )


async def test_orphans_are_taken_back(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny"))
    revision = (await world.complete("tiny"))["status"]["stable"]["revision"]
    service = await world.api.get(kinds.service, world.namespace, "tiny")
    path = kinds.latent_model.path(world.namespace, "tiny")
    await world.api.request("DELETE", path, params={"propagationPolicy": "Orphan"})
    await world.api.until(kinds.latent_model, world.namespace, "tiny", lambda found: found is None)
    orphan = await world.api.get(kinds.service, world.namespace, "tiny")
    assert not orphan["metadata"].get("ownerReferences")
    made = await world.apply(make_model("tiny"))
    await world.complete("tiny")
    again = await world.api.get(kinds.service, world.namespace, "tiny")
    assert again["metadata"]["uid"] == service["metadata"]["uid"]
    assert again["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert await world.names(kinds.inference_service) == [revision]


async def test_a_model_made_again_at_once_waits_for_the_old_objects_to_go(
    operator: Operator, world: Any, make_model: Make
) -> None:
    await world.apply(make_model("tiny"))
    await world.complete("tiny")
    await world.api.delete(kinds.latent_model, world.namespace, "tiny")
    made = await world.apply(make_model("tiny"))
    await world.complete("tiny", seconds=60)
    for kind in (kinds.service, kinds.inference_service, kinds.config_map):
        for item in await world.owned(kind):
            assert item["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


async def test_what_the_garbage_collector_misses_of_a_deleted_model_is_removed(
    permitted: ControlPlane, operator: Operator, world: Any, make_model: Make
) -> None:
    """It does after an API server's restart: of a model deleted and made again meanwhile it sees only a change."""
    await world.apply(make_model("tiny"))
    revision = (await world.complete("tiny"))["status"]["stable"]["revision"]
    with permitted.controllers_paused():
        await world.api.delete(kinds.latent_model, world.namespace, "tiny")
        made = await world.apply(make_model("tiny", runtime={"instances": 2}))

        async def renewed() -> bool:
            owners = {
                owner["uid"]
                for kind in (kinds.service, kinds.inference_service, kinds.config_map)
                for item in await world.owned(kind)
                for owner in item["metadata"]["ownerReferences"]
            }
            return owners == {made["metadata"]["uid"]}

        await world.eventually(renewed)
        assert revision not in await world.names(kinds.inference_service)
    await world.complete("tiny", seconds=60)
