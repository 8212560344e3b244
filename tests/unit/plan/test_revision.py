"""Revision names: what makes a new revision, what does not, and that they are good Service names."""

import re
from typing import Any

import pytest

from latentry_operator.api.base import DNS_1035_LABEL, MODEL_NAME_LENGTH
from latentry_operator.plan.revision import revision_name

DIGEST = "sha256:" + "a" * 64

NEW_PODS = [
    {"runtime": {"instances": 2}},
    {"runtime": {"maxQueueDelay": "1ms"}},
    {"runtime": {"resources": {"limits": {"memory": "1Gi"}}}},
    {"placement": {"gpuPool": "a10"}},
    {"placement": {"gpuPool": "a10", "gpus": 2}},
    {"slo": {"latency": [{"within": "1s", "objective": 99}]}},
    {"monitoring": {"sampling": {"maxPerSecond": 1}}},
    {"monitoring": {"drift": {"window": 100}}},
    {"slo": {"quality": {"reconstructionErrorWithin": "p90", "objective": 80}}},
    {"workload": "Deployment"},
    {"pod": {"labels": {"a": "b"}}},
    {"pod": {"images": {"tap": "x"}}},
]
SAME_PODS = [
    {"bundle": {"uri": "file://moved"}},
    {"scaling": {"minReplicas": 3}},
    {"rollout": {"strategy": "Canary"}},
    {"slo": {"period": "7d", "availability": 99}},
    {"slo": {"quality": {"objective": 90, "anomalyRate": 2}}},
    # the default written out
    {"runtime": {"instances": 1, "maxBatchSize": 32, "maxQueueDelay": "0ms", "resources": {"limits": {}}}},
    {"monitoring": {"golden": {"every": "1m"}}},
]


def name(model: Any, digest: str = DIGEST) -> str:
    return revision_name(model.metadata.name, model.spec, digest)


def test_every_change_of_the_pods_is_another_revision(latent_model: Any) -> None:
    names = [name(latent_model(**changes)) for changes in ({}, *NEW_PODS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("changes", SAME_PODS)
def test_what_leaves_the_pods_alone_keeps_the_revision(latent_model: Any, changes: dict[str, Any]) -> None:
    assert name(latent_model(**changes)) == name(latent_model())


def test_another_bundle_is_another_revision(latent_model: Any) -> None:
    assert name(latent_model(), "sha256:" + "b" * 64) != name(latent_model())


def test_the_objective_of_a_threshold_is_no_matter_for_the_pods(latent_model: Any) -> None:
    first, second = ([{"within": "1s", "objective": share}] for share in (90, 99))
    assert name(latent_model(slo={"latency": first})) == name(latent_model(slo={"latency": second}))


def test_one_gpu_is_the_default(latent_model: Any) -> None:
    written = latent_model(placement={"gpuPool": "a10", "gpus": 1})
    assert name(written) == name(latent_model(placement={"gpuPool": "a10"}))


def test_names_are_stable_between_releases(latent_model: Any) -> None:
    """A changed value here restarts every pod of every user on upgrade: do that on purpose only."""
    assert name(latent_model()) == "digits-vae-1273fdd3"


def test_the_longest_name_fits_kserves_service(latent_model: Any) -> None:
    longest = name(latent_model(name="a" * MODEL_NAME_LENGTH))
    assert len(f"{longest}-predictor") == 63
    assert re.fullmatch(DNS_1035_LABEL, longest)
