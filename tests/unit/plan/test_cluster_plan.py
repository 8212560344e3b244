"""The cluster's planner: workload, pools and sizing, scaling; plans that hold, reasons to wait with their remedy."""

from collections.abc import Callable
from typing import Any

import pytest

from latentry_operator.api.parse import parse_resource
from latentry_operator.api.status import LatentModelStatus, StableStatus, Workload
from latentry_operator.plan.cluster import (
    Autoscaler,
    Capabilities,
    ClusterPlan,
    ClusterSettings,
    PoolFacts,
    Waiting,
    WaitingReason,
    plan_cluster,
)
from latentry_operator.plan.pools import needed_memory
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.units import ByteSize

DIGEST = "sha256:" + "ab" * 32
SETTINGS = ClusterSettings(prometheus_url="http://prometheus:9090")
GPU = {"gpuPool": "a10"}

Made = Callable[..., ClusterPlan | Waiting]


def pool(name: str = "a10", **spec: Any) -> Any:
    data = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {"memoryPerDevice": "24Gi"} | spec,
    }
    return parse_resource(data, subject=name)


@pytest.fixture
def planned(latent_model: Any) -> Made:
    """Plans a LatentModel from spec fields; the cluster has everything, and a pool a10 of 8 devices."""

    def make(
        *,
        pools: tuple[Any, ...] = (pool(maxDevices=8),),
        in_use: dict[str, int] | None = None,
        capabilities: Capabilities | None = None,
        settings: ClusterSettings = SETTINGS,
        status: LatentModelStatus | None = None,
        **spec: Any,
    ) -> ClusterPlan | Waiting:
        bundle = {"uri": "s3://models/digits", "digest": DIGEST} | spec.pop("bundle", {})
        model = latent_model(bundle=bundle, **spec)
        if status is not None:
            model = model.model_copy(update={"status": status})
        facts = PoolFacts({one.metadata.name: one for one in pools}, {"a10": in_use or {}})
        return plan_cluster(model, capabilities or Capabilities(), facts, settings)

    return make


def plan_of(outcome: ClusterPlan | Waiting) -> ClusterPlan:
    assert isinstance(outcome, ClusterPlan), outcome
    return outcome


def waiting(outcome: ClusterPlan | Waiting, reason: WaitingReason) -> str:
    assert isinstance(outcome, Waiting), outcome
    assert outcome.reason == reason
    assert "; " in outcome.message, "a remedy follows the problem"
    return outcome.message


class TestWorkload:
    @pytest.mark.parametrize(
        ("asked", "kserve", "chosen"),
        [
            ("Auto", True, Workload.KSERVE),
            ("Auto", False, Workload.DEPLOYMENT),
            ("KServe", True, Workload.KSERVE),
            ("Deployment", True, Workload.DEPLOYMENT),
            ("Deployment", False, Workload.DEPLOYMENT),
        ],
    )
    def test_chosen_by_what_the_cluster_has(self, planned: Made, asked: str, kserve: bool, chosen: Workload) -> None:
        found = plan_of(planned(workload=asked, capabilities=Capabilities(kserve=kserve)))
        assert found.workload is chosen
        assert asked in found.workload_reason

    def test_the_deployment_to_watch(self, planned: Made) -> None:
        assert plan_of(planned(workload="KServe")).deployment.endswith("-predictor")
        made = plan_of(planned(workload="Deployment"))
        assert made.deployment == made.revision

    def test_kserve_asked_for_where_it_is_not(self, planned: Made) -> None:
        message = waiting(
            planned(workload="KServe", capabilities=Capabilities(kserve=False)), WaitingReason.KSERVE_NOT_INSTALLED
        )
        assert message.endswith("install KServe or write workload: Deployment")


class TestBundle:
    def test_the_tap_checks_the_promised_bundle(self, planned: Made) -> None:
        found = plan_of(planned())
        assert found.digest == found.tap.digest == DIGEST
        assert found.tap.bundle_dir == "/mnt/models"

    def test_one_machine_only(self, planned: Made) -> None:
        with pytest.raises(InvalidInput, match=r"spec\.bundle\.uri: file:///x is on one machine.*upload"):
            planned(bundle={"uri": "file:///x"})

    def test_where_it_lies_and_how_large_it_is_make_no_revision(self, planned: Made) -> None:
        moved = planned(bundle={"uri": "gs://other/place", "size": "1Gi", "credentialsSecret": "s"})
        assert plan_of(moved).revision == plan_of(planned()).revision


class TestPools:
    def test_cpu_needs_none(self, planned: Made) -> None:
        found = plan_of(planned(pools=()))
        assert (found.placement.devices, found.devices) == ({}, 0)

    def test_devices(self, planned: Made) -> None:
        mig = pool(resourceName="nvidia.com/mig-1g.10gb", nodeSelector={"a": "b"}, runtimeClassName="nvidia")
        found = plan_of(planned(pools=(mig,), placement=GPU, scaling={"minReplicas": 3}))
        assert found.placement.devices == {"nvidia.com/mig-1g.10gb": 1}
        assert (found.placement.node_selector, found.placement.runtime_class_name) == ({"a": "b"}, "nvidia")
        assert found.devices == 3

    def test_missing(self, planned: Made) -> None:
        outcome = planned(pools=(pool("l4"), pool("h100")), placement=GPU)
        message = waiting(outcome, WaitingReason.GPU_POOL_NOT_FOUND)
        assert "there is no GPUPool a10, the cluster has h100, l4; create it" in message

    @pytest.mark.parametrize(
        "part",
        [
            {"resourceName": "nvidia.com/mig-1g.10gb"},
            {"resourceName": "nvidia.com/gpu.shared", "sharing": "TimeSliced"},
            {"sharing": "TimeSliced"},
        ],
    )
    def test_parts_of_a_gpu_do_not_add_up(self, planned: Made, part: dict[str, str]) -> None:
        assert plan_of(planned(pools=(pool(**part),), placement=GPU))
        message = waiting(planned(pools=(pool(**part),), placement=GPU | {"gpus": 2}), WaitingReason.GPU_POOL_TOO_SMALL)
        assert "placement.gpus: 2" in message

    def test_too_few_devices_even_if_unused(self, planned: Made) -> None:
        outcome = planned(placement=GPU | {"gpus": 3}, scaling={"minReplicas": 3})
        message = waiting(outcome, WaitingReason.GPU_POOL_TOO_SMALL)
        assert "3 replicas of 3 devices need 9, pool a10 may use 8; lower minReplicas" in message

    def test_used_up_names_the_largest_users(self, planned: Made) -> None:
        in_use = {"demo/other": 2, "shop/big": 5}
        message = waiting(
            planned(placement=GPU, scaling={"minReplicas": 2}, in_use=in_use), WaitingReason.GPU_POOL_USED_UP
        )
        assert (
            "need 2, of pool a10's 8 devices 1 are left (in use by others: shop/big 5, demo/other 2); scale" in message
        )

    def test_what_runs_keeps_its_devices(self, planned: Made) -> None:
        in_use = {"demo/digits-vae": 2, "shop/greedy": 8}
        assert plan_of(planned(placement=GPU, scaling={"minReplicas": 2}, in_use=in_use)).devices == 2
        more = planned(placement=GPU, scaling={"minReplicas": 3}, in_use=in_use)
        assert " 0 are left" in waiting(more, WaitingReason.GPU_POOL_USED_UP)

    def test_scaling_stops_where_the_pool_ends_but_below_nothing_that_runs(self, planned: Made) -> None:
        scaling = {"minReplicas": 1, "maxReplicas": 6}
        found = plan_of(planned(placement=GPU | {"gpus": 2}, scaling=scaling, in_use={"shop/x": 3}))
        assert found.scaling.max_replicas == 2
        assert any("maxReplicas 6 is held at 2" in note for note in found.notes)
        running = plan_of(planned(placement=GPU, scaling=scaling, in_use={"shop/x": 7, "demo/digits-vae": 4}))
        assert running.scaling.max_replicas == 4
        assert plan_of(planned(pools=(pool(),), placement=GPU, scaling=scaling)).scaling.max_replicas == 6


class TestSizing:
    def test_the_formula(self, latent_model: Any) -> None:
        model = latent_model(
            bundle={"uri": "s3://m/x", "digest": DIGEST, "size": "3Gi"},
            placement=GPU | {"memoryPerSample": "16Mi"},
            runtime={"instances": 2, "maxBatchSize": 64},
        )
        # 1 for CUDA and Triton; twice the bundle, and twice a batch of 64 samples of 16Mi
        assert needed_memory(model, ClusterSettings()) == ByteSize((1 + 2 * (3 + 1)) * 2**30)

    def test_unknown_sizes_are_not_guessed(self, planned: Made, latent_model: Any) -> None:
        assert needed_memory(latent_model(placement=GPU), ClusterSettings()) is None
        assert plan_of(planned(placement=GPU | {"memoryPerSample": "99Gi"}))

    def test_too_large_is_told_with_numbers(self, planned: Made) -> None:
        fits = planned(placement=GPU, bundle={"size": "23Gi"})
        assert plan_of(fits)
        message = waiting(
            planned(placement=GPU, bundle={"size": "12Gi"}, runtime={"instances": 2}), WaitingReason.GPU_POOL_TOO_SMALL
        )
        assert "2 instances with batches of 32 need 25Gi, of which 1Gi for CUDA and Triton" in message
        assert "a device of pool a10 has 24Gi; lower runtime.instances" in message

    def test_memory_is_needed_on_each_device_alike(self, planned: Made) -> None:
        assert plan_of(planned(placement=GPU | {"gpus": 4}, bundle={"size": "23Gi"}))
        too_small = planned(placement=GPU | {"gpus": 4}, bundle={"size": "24Gi"})
        waiting(too_small, WaitingReason.GPU_POOL_TOO_SMALL)

    @pytest.mark.parametrize(("digest", "counts"), [(DIGEST, True), ("sha256:" + "0" * 64, False)])
    def test_a_learnt_size_counts_for_its_own_bundle(self, planned: Made, digest: str, counts: bool) -> None:
        stable = StableStatus(revision="digits-vae-00000000", digest=digest, bundle_bytes=ByteSize(30 * 2**30))
        outcome = planned(placement=GPU, status=LatentModelStatus(stable=stable))
        assert isinstance(outcome, Waiting) is counts

    @pytest.mark.parametrize(("ready", "waits"), [(0, True), (1, False)])
    def test_what_serves_fits(self, planned: Made, ready: int, waits: bool) -> None:
        revision = plan_of(planned(placement=GPU)).revision
        stable = StableStatus(revision=revision, digest=DIGEST, ready_replicas=ready, bundle_bytes=ByteSize(2**40))
        outcome = planned(placement=GPU, status=LatentModelStatus(stable=stable))
        assert isinstance(outcome, Waiting) is waits


class TestScaling:
    CPU = {"resources": {"requests": {"cpu": 1}}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("scaling", "expected"),
        [
            ({}, (Autoscaler.NONE, 1, 1, None)),
            ({"minReplicas": 3}, (Autoscaler.NONE, 3, 3, None)),
            ({"minReplicas": 3, "metric": "None"}, (Autoscaler.NONE, 3, 3, None)),
            ({"maxReplicas": 4}, (Autoscaler.KEDA, 1, 4, 16)),
            ({"maxReplicas": 4, "metric": "CPU"}, (Autoscaler.HPA, 1, 4, 80)),
            ({"minReplicas": 2, "maxReplicas": 4, "metric": "CPU", "target": 50}, (Autoscaler.HPA, 2, 4, 50)),
        ],
    )
    def test_who_scales(self, planned: Made, scaling: Any, expected: Any) -> None:
        found = plan_of(planned(scaling=scaling, runtime=self.CPU))
        one = found.scaling
        assert (one.autoscaler, one.min_replicas, one.max_replicas, one.target) == expected
        assert found.notes == ()

    @pytest.mark.parametrize(
        ("scaling", "capabilities", "settings", "remedy"),
        [
            ({"maxReplicas": 4}, Capabilities(keda=False), SETTINGS, "KEDA is not installed; install it"),
            ({"maxReplicas": 4}, Capabilities(), ClusterSettings(), "no Prometheus for KEDA to read; set"),
            ({"maxReplicas": 4, "metric": "CPU"}, Capabilities(hpa=None), SETTINGS, "no HorizontalPodAutoscaler API"),
        ],
    )
    def test_what_is_missing_is_noted_and_the_fewest_run(
        self, planned: Made, scaling: Any, capabilities: Capabilities, settings: ClusterSettings, remedy: str
    ) -> None:
        found = plan_of(
            planned(
                scaling={"minReplicas": 2} | scaling, capabilities=capabilities, settings=settings, runtime=self.CPU
            )
        )
        assert (found.scaling.autoscaler, found.scaling.max_replicas) == (Autoscaler.NONE, 2)
        (note,) = found.notes
        assert remedy in note

    def test_scaling_makes_no_revision(self, planned: Made) -> None:
        assert plan_of(planned(scaling={"maxReplicas": 9})).revision == plan_of(planned()).revision


def test_equal_arguments_give_equal_plans(planned: Made) -> None:
    assert planned(placement=GPU) == planned(placement=GPU)
