"""Metrics of models and pools: their names and labels, only while leading, gone with the object."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from latentry_operator.kube.kinds import DEPLOYMENT, Key, Kind
from latentry_operator.kube.records import Child, Stored
from latentry_operator.runtime.model_metrics import ModelCollector

MODEL: dict[str, Any] = {
    "metadata": {"name": "m", "namespace": "ns", "resourceVersion": "1", "uid": "u"},
    "status": {
        "workload": "KServe",
        "stable": {"revision": "m-1", "version": "7", "readyReplicas": 1, "digest": "sha256:" + "ab" * 32},
        "conditions": [
            {
                "type": "Progressing",
                "status": "True",
                "reason": "Replacing",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            },
            {"type": "Theirs", "status": "True", "reason": "X", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ],
    },
}
POOL: dict[str, Any] = {
    "metadata": {"name": "a10", "resourceVersion": "1", "uid": "p"},
    "spec": {"memoryPerDevice": "24Gi", "maxDevices": 8, "price": {"perDeviceHour": 1.5, "currency": "EUR"}},
    "status": {"devicesInUse": 3, "users": [{"namespace": "ns", "name": "m", "devices": 3}]},
}


class Objects:
    """What of the cache is read."""

    def __init__(self) -> None:
        self.models = [Stored(MODEL)]
        self.pools = [Stored(POOL)]

    def children(self, model: Key) -> list[tuple[Kind, Child]]:
        def deployment(revision: str, replicas: int) -> tuple[Kind, Child]:
            made = Child(
                "apps/v1", "Deployment", model, 1, "d", "m", revision, None, False, {}, {}, b"", 1, replicas, "",
                {"availableReplicas": 1},
            )  # fmt: skip
            return DEPLOYMENT, made

        return [deployment("m-2", 9), deployment("m-1", 2)]


@pytest.fixture
def objects() -> Objects:
    return Objects()


def samples(objects: Objects, leads: bool = True) -> dict[tuple[str, ...], float]:
    """(name without its common part, label values in the order of their names) -> value."""
    registry = CollectorRegistry()
    registry.register(ModelCollector(objects, lambda: leads))  # type: ignore[arg-type]
    return {
        (
            sample.name.removeprefix("latentry_operator_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_every_metric(objects: Objects) -> None:
    assert samples(objects) == {
        ("model_info", "m", "ns", "m-1", "7", "KServe"): 1,
        ("model_condition", "m", "ns", "True", "Progressing"): 1,
        ("model_condition", "m", "ns", "False", "Progressing"): 0,
        ("model_condition", "m", "ns", "Unknown", "Progressing"): 0,
        ("model_rollout_state", "m", "ns", "Replacing"): 1,
        ("model_rollout_since_timestamp_seconds", "m", "ns"): 1_767_225_600,
        ("model_replicas", "m", "ns", "desired"): 2,
        ("model_replicas", "m", "ns", "ready"): 1,
        ("model_devices", "a10", "m", "ns"): 3,
        ("gpu_pool_devices", "a10", "in_use"): 3,
        ("gpu_pool_devices", "a10", "limit"): 8,
        ("gpu_pool_price_per_device_hour", "EUR", "a10"): 1.5,
    }


def test_before_a_pod_told_it_the_version_is_the_digests(objects: Objects) -> None:
    told = {
        **MODEL["status"],
        "stable": {name: v for name, v in MODEL["status"]["stable"].items() if name != "version"},
    }
    objects.models = [Stored({**MODEL, "status": told})]
    assert ("model_info", "m", "ns", "m-1", "ab" * 6, "KServe") in samples(objects)


def test_a_standby_says_nothing(objects: Objects) -> None:
    assert samples(objects, leads=False) == {}


def test_what_is_gone_has_no_metrics(objects: Objects) -> None:
    objects.models, objects.pools = [], []
    assert samples(objects) == {}


def test_fresh_objects_without_a_status(objects: Objects) -> None:
    objects.models = [Stored({"metadata": MODEL["metadata"]})]
    objects.pools = [Stored({"metadata": POOL["metadata"], "spec": {"memoryPerDevice": "24Gi"}})]
    assert samples(objects) == {("gpu_pool_devices", "a10", "in_use"): 0}
