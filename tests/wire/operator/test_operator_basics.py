"""A LatentModel's life on a real API server, with exactly the shipped role.

Covered: creation for both workloads, change beside what runs, scaling, deletion, slow and failing pods, bad specs of
both kinds, restart without a write, a second apply that changes nothing.
"""

from collections.abc import Callable
from typing import Any

import pytest
from kube import HANG, NO_IMAGE, READY, ApiError, ControlPlane, Kind, Obj, StandIn, kinds

from latentry_operator.runtime.operator import Operator

Make = Callable[..., Obj]
CONFIG_MAP, SERVICE, DEPLOYMENT = kinds.config_map, kinds.service, kinds.deployment
ISVC, RUNTIME = kinds.inference_service, kinds.serving_runtime
EVERY_KIND = (
    kinds.service_account,
    CONFIG_MAP,
    SERVICE,
    DEPLOYMENT,
    ISVC,
    RUNTIME,
    kinds.budget,
    kinds.network_policy,
    kinds.pod_monitor,
)
WRITES = ("apply", "create", "update", "patch", "delete")


def writes(operator: Operator) -> dict[tuple[str, str], float]:
    """(verb, kind) -> writing calls so far, the Lease's left out."""
    found: dict[tuple[str, str], float] = {}
    for metric in operator.metrics.registry.collect():
        for sample in metric.samples:
            labels = sample.labels
            if sample.name != "latentry_operator_api_calls_total" or labels["kind"] == "Lease":
                continue
            if labels["verb"] in WRITES:
                place = (labels["verb"], labels["kind"])
                found[place] = found.get(place, 0) + sample.value
    return found


async def test_kserve_model_becomes_available(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny"))
    found = await world.complete("tiny")
    status = found["status"]
    revision = status["stable"]["revision"]
    assert status["workload"] == "KServe"
    assert status["observedGeneration"] == 1
    assert status["replicas"] == 1
    assert status["stable"]["readyReplicas"] == 1
    assert status["address"]["http"] == f"http://tiny.{world.namespace}.svc.cluster.local"
    conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]}
    assert conditions == {
        "Accepted": ("True", "Valid"),
        "Available": ("True", "Ready"),
        "Progressing": ("False", "Complete"),
        "Drifting": ("Unknown", "NotEvaluated"),
        "Healthy": ("Unknown", "NotEvaluated"),
        "SLOMet": ("Unknown", "NoObjectives"),
    }
    assert await world.names(ISVC) == await world.names(RUNTIME) == await world.names(CONFIG_MAP) == [revision]
    for kind in (SERVICE, kinds.service_account, kinds.budget, kinds.network_policy, kinds.pod_monitor):
        assert await world.names(kind) == ["tiny"], kind.name
    service = await world.api.get(SERVICE, world.namespace, "tiny")
    assert service["spec"]["selector"]["latentry.dev/revision"] == revision
    (owner,) = service["metadata"]["ownerReferences"]
    assert owner["uid"] == found["metadata"]["uid"]
    assert owner["controller"] is True
    assert not found["metadata"].get("annotations")
    assert not found["metadata"].get("finalizers")


async def test_deployment_model_becomes_available(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny", workload="Deployment", scaling={"metric": "None", "minReplicas": 2}))
    found = await world.complete("tiny")
    assert found["status"]["workload"] == "Deployment"
    assert found["status"]["stable"]["readyReplicas"] == found["status"]["replicas"] == 2
    assert await world.names(DEPLOYMENT) == [found["status"]["stable"]["revision"]]
    assert await world.names(ISVC) == []


@pytest.mark.parametrize("workload", ["KServe", "Deployment"])
async def test_change_comes_up_beside_and_takes_over_when_ready(
    workload: str, operator: Operator, world: Any, make_model: Make, stand_in: StandIn, condition_of: Any
) -> None:
    await world.apply(make_model("tiny", workload=workload))
    old = (await world.complete("tiny"))["status"]["stable"]["revision"]
    # The new pods alone: a rule is for running pods too, and the old ones must not stop answering.
    stand_in.script(world.namespace, "tiny-*", HANG, when=lambda pod: old not in pod["metadata"]["name"])
    await world.apply(make_model("tiny", workload=workload, runtime={"instances": 2}))
    during = await world.until("tiny", "Progressing", "True", "Preparing")
    assert during["status"]["stable"]["revision"] == old
    assert condition_of(during, "Available")["status"] == "True"
    service = await world.api.get(SERVICE, world.namespace, "tiny")
    assert service["spec"]["selector"]["latentry.dev/revision"] == old
    revisions = await world.names(CONFIG_MAP)
    assert len(revisions) == 2
    assert old in revisions
    stand_in.script(world.namespace, "tiny-*", READY)
    after = await world.complete("tiny")
    new = after["status"]["stable"]["revision"]
    assert new != old
    service = await world.api.get(SERVICE, world.namespace, "tiny")
    assert service["spec"]["selector"]["latentry.dev/revision"] == new
    for kind in (CONFIG_MAP, DEPLOYMENT if workload == "Deployment" else ISVC):

        async def gone(kind: Kind = kind) -> bool:
            return await world.names(kind) == [new]

        await world.eventually(gone)


async def test_change_that_never_gets_ready_leaves_the_old_one_serving_and_says_why(
    operator: Operator, world: Any, make_model: Make, stand_in: StandIn
) -> None:
    await world.apply(make_model("tiny"))
    old = (await world.complete("tiny"))["status"]["stable"]["revision"]
    stand_in.script(world.namespace, "tiny-*", NO_IMAGE, when=lambda pod: old not in pod["metadata"]["name"])
    await world.apply(make_model("tiny", runtime={"instances": 2}))

    def explained(obj: Obj | None) -> bool:
        entries = {entry["type"]: entry for entry in (obj or {}).get("status", {}).get("conditions", [])}
        return "ImagePullBackOff" in entries["Progressing"]["message"] and entries["Available"]["status"] == "True"

    await world.api.until(kinds.latent_model, world.namespace, "tiny", explained)
    service = await world.api.get(SERVICE, world.namespace, "tiny")
    assert service["spec"]["selector"]["latentry.dev/revision"] == old
    # Going back needs no new pod, and takes away what did not work.
    await world.apply(make_model("tiny"))
    found = await world.complete("tiny")
    assert found["status"]["stable"]["revision"] == old

    async def only_old() -> bool:
        return await world.names(ISVC) == [old]

    await world.eventually(only_old)


@pytest.mark.parametrize("workload", ["KServe", "Deployment"])
async def test_scaling_keeps_the_revision(workload: str, operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny", workload=workload))
    before = await world.complete("tiny")
    for replicas in (3, 1):
        await world.apply(make_model("tiny", workload=workload, scaling={"metric": "None", "minReplicas": replicas}))
        after = await world.complete("tiny")
        assert after["status"]["replicas"] == after["status"]["stable"]["readyReplicas"] == replicas
        assert after["status"]["stable"]["revision"] == before["status"]["stable"]["revision"]


@pytest.mark.parametrize("workload", ["KServe", "Deployment"])
async def test_deletion_takes_everything_along(workload: str, operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny", workload=workload))
    await world.complete("tiny")
    await world.api.delete(kinds.latent_model, world.namespace, "tiny")

    async def empty() -> bool:
        return not any([await world.names(kind) for kind in EVERY_KIND])

    await world.eventually(empty, seconds=60)


async def test_schema_violation_is_refused_by_the_server(world: Any, make_model: Make) -> None:
    with pytest.raises(ApiError) as refused:
        await world.apply(make_model("tiny", scaling={"minReplicas": 0}))
    assert refused.value.status == 422


async def test_own_validation_names_every_problem_and_leaves_what_runs(
    operator: Operator, world: Any, make_model: Make
) -> None:
    await world.apply(make_model("tiny"))
    before = await world.complete("tiny")
    known = await world.api.get(ISVC, world.namespace, before["status"]["stable"]["revision"])
    # Servers without CEL let these pass.
    await world.apply(
        make_model(
            "tiny",
            bundle={"uri": "s3://models/tiny/2"},
            scaling={"metric": "CPU", "minReplicas": 3, "maxReplicas": 2},
        )
    )
    after = await world.until("tiny", "Accepted", "False", "InvalidSpec")
    message = next(entry for entry in after["status"]["conditions"] if entry["type"] == "Accepted")["message"]
    assert "spec.bundle" in message
    assert "maxReplicas" in message
    assert after["status"]["stable"] == before["status"]["stable"]
    assert await world.api.get(ISVC, world.namespace, before["status"]["stable"]["revision"]) == known
    await world.apply(make_model("tiny"))
    await world.complete("tiny")


async def test_restart_writes_nothing(
    permitted: ControlPlane, run_operator_on: Any, world: Any, make_model: Make
) -> None:
    async with run_operator_on(permitted):
        await world.apply(make_model("one"))
        await world.apply(make_model("two", workload="Deployment", scaling={"minReplicas": 1, "maxReplicas": 3}))
        await world.complete("one")
        await world.complete("two")
    async with run_operator_on(permitted) as again:
        # A model that comes after them is worked on after them.
        await world.apply(make_model("three"))
        await world.complete("three")
        written = {name for kind in EVERY_KIND for name in await changed_since_restart(world, kind)}
        assert {name.rsplit("-", 1)[0] for name in written} <= {"three"}
        # Not even calls that change nothing: of these kinds ``three`` has none.
        assert (
            not {("delete", "ConfigMap"), ("apply", "Deployment"), ("apply", "HorizontalPodAutoscaler")}
            & writes(again).keys()
        )


async def changed_since_restart(world: Any, kind: Kind) -> list[str]:
    """Objects whose last write by the operator came after that of the model ``three``."""
    third = (await world.api.get(kinds.latent_model, world.namespace, "three"))["metadata"]["creationTimestamp"]
    names = []
    for item in await world.owned(kind):
        times = [entry["time"] for entry in item["metadata"]["managedFields"] if entry["manager"] == "latentry"]
        if max(times) >= third and item["metadata"]["creationTimestamp"] < third:
            names.append(item["metadata"]["name"])
    return names


async def test_a_second_apply_changes_nothing(operator: Operator, world: Any, make_model: Make) -> None:
    model = make_model("tiny")
    await world.apply(model)
    before = await world.complete("tiny")
    dry = await world.api.apply(kinds.latent_model, world.namespace, model, manager="user", dry_run=True)
    assert dry["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    count = writes(operator)
    again = await world.apply(model)
    assert again["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await world.apply(make_model("other"))
    await world.complete("other")
    assert (await world.api.get(kinds.latent_model, world.namespace, "tiny")) == before
    assert writes(operator).keys() >= count.keys()


async def test_events_tell_the_story_once(operator: Operator, world: Any, make_model: Make) -> None:
    await world.apply(make_model("tiny"))
    found = await world.complete("tiny")

    async def told() -> bool:
        events = (await world.api.list(kinds.event, world.namespace))["items"]
        mine = [event for event in events if event["involvedObject"].get("uid") == found["metadata"]["uid"]]
        reasons = [event["reason"] for event in mine]
        assert len(reasons) == len({(event["reason"], event["message"]) for event in mine})
        return {"Deploying", "Complete"} <= set(reasons) and all(event["type"] == "Normal" for event in mine)

    await world.eventually(told)
