"""Whether a running model has the deployment's settings: told from Triton's own description of it."""

import json

import pytest

from latentry_serving.contract.manifest import Datatype
from latentry_serving.tap.model_loading import runs_as
from latentry_serving.triton.model_config import DynamicBatching, InstanceGroup, ModelConfig, TensorConfig

X = TensorConfig(name="x", datatype=Datatype.FP32, shape=(4,))
WANTED = ModelConfig(
    name="m",
    backend="onnxruntime",
    max_batch_size=8,
    inputs=(X,),
    outputs=(X,),
    instances=InstanceGroup(count=2),
    dynamic_batching=DynamicBatching(max_queue_delay_us=700),
)


def running(**changes: object) -> dict[str, object]:
    """As Triton 2.51 answers, what does not matter left out."""
    return {
        "name": "m",
        "max_batch_size": 8,
        "instance_group": [{"name": "m_0", "kind": "KIND_CPU", "count": 2, "gpus": []}],
        "dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 700},
    } | changes


def test_as_asked():
    assert runs_as(running(), WANTED)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_batch_size": 4},
        {"instance_group": [{"count": 1}]},
        {"instance_group": []},
        {"dynamic_batching": {"max_queue_delay_microseconds": 0}},
        {"dynamic_batching": None},
    ],
)
def test_otherwise(changes):
    assert not runs_as(running(**changes), WANTED)


def test_without_batching():
    plain = WANTED.model_copy(update={"dynamic_batching": None, "max_batch_size": 0})
    assert runs_as({"instance_group": [{"count": 2}]}, plain)


def test_the_configuration_as_triton_takes_it():
    config = json.loads(WANTED.to_json())
    assert config["max_batch_size"] == 8
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_AUTO"}] or config["instance_group"] == [{"count": 2}]
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": "700"}
