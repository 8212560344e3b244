"""The planner: what a plan holds, what a bundle must have, and that planning is a pure function."""

import ast
from pathlib import Path
from typing import Any

import pytest

import latentry_operator.plan
from latentry_operator.api import defaults
from latentry_operator.api.quantity import Cpu
from latentry_operator.api.rollout import Rollout, Step
from latentry_operator.api.serving import Placement, Scaling
from latentry_operator.plan.planner import latency_buckets, plan
from latentry_operator.plan.types import PlanSettings
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.metrics import DEFAULT_LATENCY_BUCKETS_SECONDS
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_config import Address, Sampling, TapConfig
from latentry_serving.contract.units import Duration

SETTINGS = PlanSettings()


def test_a_plan_holds_what_must_run(latent_model: Any, bundle: Any) -> None:
    manifest = bundle()
    model = latent_model(
        runtime={"instances": 2, "maxBatchSize": 8, "maxQueueDelay": "2ms", "resources": {"limits": {"cpu": 2}}},
        placement={"gpuPool": "a10"},
    )
    found = plan(model, manifest, SETTINGS)
    assert (found.model, found.namespace, found.version, found.digest) == ("digits-vae", "demo", "3", manifest.digest)
    assert (found.bundle_uri, found.bundle_bytes) == ("file://digits", 200)
    assert [operation.model for operation in found.operations] == [
        "digits_encode", "digits_decode", "digits_reconstruct", "digits_score", "digits_sample",
    ]  # fmt: skip
    for operation in found.operations:
        assert (operation.instances, operation.max_batch_size) == (2, 8)
        assert operation.max_queue_delay == Duration.parse("2ms")
    assert (found.placement.gpu_pool, found.placement.gpus) == ("a10", 1)
    assert found.placement.resources.limits.cpu == Cpu(2000)


def test_without_a_pool_it_runs_on_cpu(latent_model: Any, bundle: Any) -> None:
    placement = plan(latent_model(), bundle(), SETTINGS).placement
    assert (placement.gpu_pool, placement.gpus) == (None, 0)


def test_the_tap_is_configured_from_the_bundle_on_top_of_the_settings(latent_model: Any, bundle: Any) -> None:
    base = TapConfig(http=Address(port=0), drain_seconds=3, latency_buckets_seconds=(0.01, 0.1))
    manifest = bundle()
    base = base.model_copy(update={"sampling": Sampling(max_bytes=1_000)})
    model = latent_model(
        slo={"latency": [{"within": "30ms", "objective": 99}]}, monitoring={"sampling": {"maxPerSecond": 7}}
    )
    tap = plan(model, manifest, PlanSettings(tap=base)).tap
    assert (tap.model, tap.version, tap.digest) == ("digits-vae", "3", manifest.digest)
    assert tap.operations["digits_score"] is Operation.SCORE
    assert len(tap.operations) == 5
    assert tap.latency_buckets_seconds == (0.01, 0.03, 0.1)
    assert (tap.http.port, tap.drain_seconds) == (0, 3)
    assert tap.sampling == Sampling(max_per_second=7, max_bytes=1_000)
    assert tap.embedding_space == manifest.contract.embedding_space
    assert TapConfig.model_validate_json(tap.model_dump_json(by_alias=True)) == tap


def test_every_objective_is_a_bucket_boundary_exactly_once(latent_model: Any) -> None:
    latency = [
        {"within": "7ms", "objective": 50},
        {"within": "50ms", "objective": 90},
        {"within": "1m", "objective": 99},
    ]
    buckets = latency_buckets(DEFAULT_LATENCY_BUCKETS_SECONDS, latent_model(slo={"latency": latency}).spec.slo)
    assert {0.007, 0.05, 60.0} <= set(buckets)
    assert list(buckets) == sorted(set(buckets))
    assert len(buckets) == len(DEFAULT_LATENCY_BUCKETS_SECONDS) + 2


def test_every_mismatch_is_named_at_once(latent_model: Any, bundle: Any) -> None:
    model = latent_model(bundle={"uri": "s3://x/y", "digest": "sha256:" + "b" * 64}, slo={"quality": {"objective": 90}})
    manifest = bundle(Family.ENCODER)
    with pytest.raises(InvalidInput, match=r"^LatentModel digits-vae: 3 problems") as caught:
        plan(model, manifest, SETTINGS)
    assert [str(problem) for problem in caught.value.problems] == [
        "spec.family: VAE, but bundle digits 3 holds an Encoder; write Encoder or name another bundle",
        f"spec.bundle.digest: sha256:{'b' * 64}, but bundle digits 3 has {manifest.digest}; "
        "write the bundle's digest, or fetch the bundle that was meant",
        "spec.slo.quality: needs the operation score, bundle digits 3 has encode; "
        "remove quality, or build the bundle with its decoder",
    ]


def test_a_bundle_without_operations(latent_model: Any, bundle: Any) -> None:
    with pytest.raises(InvalidInput, match=r"spec.bundle.uri: bundle digits 3 has no operation"):
        plan(latent_model(), bundle(operations=()), SETTINGS)


def test_a_matching_digest_is_accepted(latent_model: Any, bundle: Any) -> None:
    manifest = bundle()
    model = latent_model(bundle={"uri": "s3://x/y", "digest": manifest.digest})
    assert plan(model, manifest, SETTINGS).digest == manifest.digest


def test_equal_arguments_give_equal_plans(latent_model: Any, bundle: Any) -> None:
    assert plan(latent_model(), bundle(), SETTINGS) == plan(latent_model(), bundle(), SETTINGS)


def test_plan_imports_nothing_that_does_io() -> None:
    allowed = {
        "collections",
        "dataclasses",
        "enum",
        "hashlib",
        "json",
        "latentry_operator",
        "latentry_serving",
        "math",
        "types",
        "typing",
    }
    for source in Path(latentry_operator.plan.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert {name.partition(".")[0] for name in names} <= allowed
            assert "latentry_operator.api.load" not in names


def test_defaults_that_depend_on_other_fields() -> None:
    assert defaults.gpus(Placement(gpu_pool="a10", gpus=3)) == 3
    assert defaults.max_replicas(Scaling(min_replicas=3)) == 3
    assert defaults.max_replicas(Scaling(min_replicas=3, max_replicas=5)) == 5
    assert [defaults.target(Scaling(metric=metric)) for metric in ("Concurrency", "CPU", "None")] == [16, 80, None]
    assert defaults.target(Scaling(target=7)) == 7
    step = Step(weight=1, hold_for="1m")
    assert defaults.steps(Rollout(strategy="BlueGreen")) == ()
    assert defaults.steps(Rollout(strategy="Canary", steps=[step])) == (step,)
    assert [(step.weight, str(step.hold_for)) for step in defaults.steps(Rollout(strategy="Canary"))] == [
        (5, "5m"), (25, "10m"), (50, "10m"),
    ]  # fmt: skip
