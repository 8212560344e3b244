"""Conditions of LatentModels and GPUPools, one question at a time; and which of their changes are news."""

from dataclasses import replace

import pytest

from latentry_operator.api.status import (
    Condition,
    ConditionStatus,
    GPUPoolStatus,
    LatentModelStatus,
    ModelAddress,
    StableStatus,
    Workload,
)
from latentry_operator.status import conditions as questions
from latentry_operator.status.facts import ModelFacts, Refusal, RevisionFacts
from latentry_operator.status.model import model_status, transitions
from latentry_operator.status.pool import pool_status
from latentry_serving.contract.errors import Problem

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
DONE = RevisionFacts("m-1", wanted=2, current=True, replicas=2, updated=2, available=2)
STARTING = RevisionFacts("m-2", wanted=2, current=True, replicas=2, updated=2, available=0, problem="no image")
FINE = ModelFacts(generation=3, workload=Workload.KSERVE, notes=("workload KServe",), serving=DONE, target=DONE)
REFUSED = ModelFacts(generation=3, refusal=Refusal("GPUPoolUsedUp", "none left; scale down"))


@pytest.mark.parametrize(
    ("facts", "status", "reason", "part"),
    [
        (FINE, "True", "Valid", "workload KServe"),
        (REFUSED, "False", "GPUPoolUsedUp", "scale down"),
    ],
)
def test_accepted(facts: ModelFacts, status: str, reason: str, part: str) -> None:
    found = questions.accepted(facts)
    assert (found.status, found.reason) == (status, reason)
    assert part in found.message


@pytest.mark.parametrize(
    ("serving", "status", "reason"),
    [
        (None, "False", "NotDeployed"),
        (replace(DONE, available=0), "False", "NoReplicaReady"),
        (replace(DONE, available=1), "True", "PartlyReady"),
        (DONE, "True", "Ready"),
        (replace(DONE, available=3, replicas=3), "True", "Ready"),
    ],
)
def test_available(serving: RevisionFacts | None, status: str, reason: str) -> None:
    found = questions.available(ModelFacts(generation=1, serving=serving))
    assert (found.status, found.reason) == (status, reason)


def test_a_refused_change_leaves_available_as_it_is() -> None:
    assert questions.available(replace(REFUSED, serving=DONE)).status == "True"


@pytest.mark.parametrize(
    ("facts", "status", "reason"),
    [
        (FINE, "False", "Complete"),
        (REFUSED, "False", "NotAccepted"),
        (replace(FINE, serving=None, target=STARTING), "True", "Deploying"),
        (replace(FINE, serving=STARTING, target=STARTING), "True", "Deploying"),
        (replace(FINE, target=STARTING), "True", "Replacing"),
        (replace(FINE, target=replace(STARTING, stalled="deadline exceeded")), "False", "Stalled"),
        # The same pods, one more wanted.
        (replace(FINE, serving=replace(DONE, wanted=3), target=replace(DONE, wanted=3)), "True", "Scaling"),
        # The same revision rolled in place: old pods answer, but they are not what the spec asks for.
        (replace(FINE, serving=replace(DONE, updated=1), target=replace(DONE, updated=1)), "True", "Replacing"),
        # The Deployment's controller has not looked yet: its counts are about the old spec.
        (replace(FINE, serving=replace(DONE, current=False), target=replace(DONE, current=False)), "True", "Replacing"),
        (replace(FINE, cleanup="Service m is being deleted"), "True", "WaitingForCleanup"),
        (replace(FINE, failure="403 Forbidden"), "False", "ApplyFailed"),
    ],
)
def test_progressing(facts: ModelFacts, status: str, reason: str) -> None:
    found = questions.progressing(facts)
    assert (found.status, found.reason) == (status, reason)


def test_a_pods_problem_is_told_until_it_is_over() -> None:
    assert "no image" in questions.progressing(replace(FINE, target=STARTING)).message
    assert "no image" not in questions.available(replace(FINE, serving=replace(DONE, problem="no image"))).message


def test_times_move_with_the_status_only() -> None:
    before = questions.conditions(replace(FINE, target=STARTING, serving=None), (), THEN)
    after = {entry.type: entry for entry in questions.conditions(FINE, before, NOW)}
    assert after["Available"].last_transition_time == NOW
    assert after["Accepted"].last_transition_time == THEN
    assert {entry.observed_generation for entry in after.values()} == {3}
    assert questions.conditions(FINE, tuple(after.values()), "2026-01-03T00:00:00Z") == tuple(after.values())


def status(facts: ModelFacts, before: LatentModelStatus) -> LatentModelStatus:
    address = ModelAddress(http="http://m", grpc="m:9000")
    return model_status(facts, before, NOW, digest="sha256:" + "a" * 64, selector="x=y", address=address)


def test_status_keeps_what_only_the_pod_told() -> None:
    told = StableStatus(revision="m-1", version="7", digest="sha256:" + "a" * 64)
    after = status(FINE, LatentModelStatus(stable=told))
    assert after.stable is not None
    assert (after.stable.version, after.stable.ready_replicas, after.replicas) == ("7", 2, 2)
    assert after.address is not None


def test_status_forgets_the_version_of_another_revision() -> None:
    told = StableStatus(revision="m-0", version="6", digest="sha256:" + "b" * 64)
    after = status(FINE, LatentModelStatus(stable=told))
    assert after.stable is not None
    assert after.stable.version is None
    assert after.stable.digest == "sha256:" + "a" * 64


def test_status_of_a_refused_model_that_never_ran_has_no_address() -> None:
    after = status(REFUSED, LatentModelStatus())
    assert (after.stable, after.address, after.replicas) == (None, None, 0)


def told(before: ModelFacts | None, after: ModelFacts) -> list[tuple[str, str]]:
    first = questions.conditions(before, (), THEN) if before is not None else ()
    return [(entry.type, entry.reason) for entry in transitions(first, questions.conditions(after, first, NOW))]


def test_each_step_is_one_event() -> None:
    new = replace(FINE, serving=None, target=STARTING)
    assert told(None, new) == [("Normal", "Deploying")]
    assert told(new, FINE) == [("Normal", "Complete")]
    assert told(FINE, FINE) == []
    assert told(FINE, replace(REFUSED, serving=DONE)) == [("Warning", "GPUPoolUsedUp")]
    assert told(REFUSED, new) == [("Normal", "Valid"), ("Normal", "Deploying")]
    assert told(FINE, replace(FINE, target=replace(STARTING, stalled="late"))) == [("Warning", "Stalled")]


def test_an_outage_without_a_change_is_a_warning() -> None:
    down = replace(FINE, serving=replace(DONE, available=0))
    assert told(FINE, down) == [("Warning", "NoReplicaReady")]


def test_pool_status_counts_the_largest_user_first(pool) -> None:
    found = pool_status(4, pool(max_devices=3), (), {"a/x": 1, "b/y": 2}, GPUPoolStatus(), NOW)
    assert [(user.namespace, user.name, user.devices) for user in found.users] == [("b", "y", 2), ("a", "x", 1)]
    assert found.devices_in_use == 3
    left = found.conditions[1]
    assert (left.type, left.status, left.reason) == ("DevicesLeft", ConditionStatus.FALSE, "UsedUp")
    assert "3 of 3" in left.message


def test_pool_status_of_an_invalid_pool_names_the_problems() -> None:
    found = pool_status(1, None, [Problem("spec.maxDevices", "0 is out of range", "write 1")], {}, GPUPoolStatus(), NOW)
    (accepted,) = found.conditions
    assert isinstance(accepted, Condition)
    assert (accepted.status, accepted.reason) == (ConditionStatus.FALSE, "InvalidSpec")
    assert "spec.maxDevices" in accepted.message
