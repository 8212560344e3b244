"""ModelConfig <-> config.pbtxt: every config survives the round trip; what cannot survive is refused by name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import Datatype
from latentry_serving.triton.model_config import (
    Accelerator,
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    Optimisation,
    TensorConfig,
    Warmup,
    WarmupData,
    WarmupInput,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
counts = st.integers(1, 2**31 - 1)
dims = st.lists(st.integers(-1, 2**63 - 1), max_size=4).map(tuple)
tensors = st.builds(TensorConfig, name=names, datatype=st.sampled_from(Datatype), shape=dims)
accelerators = st.lists(
    st.builds(Accelerator, name=names, parameters=st.dictionaries(texts, texts, max_size=3)), max_size=2
).map(tuple)
warmup_inputs = st.builds(
    WarmupInput,
    datatype=st.sampled_from(Datatype),
    shape=st.lists(st.integers(0, 999), max_size=3).map(tuple),
    data=st.sampled_from(WarmupData),
)
warmups = st.builds(
    Warmup,
    name=names,
    batch_size=counts,
    count=counts,
    inputs=st.dictionaries(names, warmup_inputs, min_size=1, max_size=3),
)
configs = st.builds(
    ModelConfig,
    name=names,
    backend=st.just("onnxruntime"),
    platform=st.just(""),
    max_batch_size=st.integers(0, 2**31 - 1),
    inputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    instances=st.builds(InstanceGroup, count=counts, kind=st.sampled_from(InstanceKind)),
    dynamic_batching=st.none()
    | st.builds(
        DynamicBatching,
        max_queue_delay_us=st.integers(0, 2**63 - 1),
        preferred_batch_sizes=st.lists(counts, max_size=3).map(tuple),
    ),
    optimisation=st.none()
    | st.builds(
        Optimisation,
        graph_level=st.none() | st.integers(-1, 2),
        gpu_accelerators=accelerators,
        cpu_accelerators=accelerators,
    ),
    warmup=st.lists(warmups, max_size=2).map(tuple),
    parameters=st.dictionaries(texts, texts, max_size=3),
)


@given(configs)
@settings(max_examples=200, deadline=None)
def test_every_config_survives_the_round_trip(config: ModelConfig) -> None:
    text = config.to_pbtxt()
    assert ModelConfig.from_pbtxt(text) == config
    assert ModelConfig.from_pbtxt(text).to_pbtxt() == text


def _minimal(**changes: object) -> ModelConfig:
    tensor = TensorConfig(name="x", datatype=Datatype.FP32, shape=(1, 8, 8))
    given: dict[str, object] = {"name": "m_encode", "backend": "onnxruntime", "inputs": (tensor,), "outputs": (tensor,)}
    return ModelConfig.model_validate(given | changes)


def test_the_text_is_what_triton_documents() -> None:
    config = _minimal(
        max_batch_size=32,
        instances=InstanceGroup(count=2, kind=InstanceKind.CPU),
        dynamic_batching=DynamicBatching(max_queue_delay_us=500, preferred_batch_sizes=(8, 16)),
        warmup=(Warmup(name="w", inputs={"x": WarmupInput(datatype=Datatype.FP32, shape=(1, 8, 8))}),),
        parameters={"intra_op_thread_count": "1"},
    )
    assert config.to_pbtxt() == (
        'name: "m_encode"\nmax_batch_size: 32\n'
        'input {\n  name: "x"\n  data_type: TYPE_FP32\n  dims: 1\n  dims: 8\n  dims: 8\n}\n'
        'output {\n  name: "x"\n  data_type: TYPE_FP32\n  dims: 1\n  dims: 8\n  dims: 8\n}\n'
        "instance_group {\n  count: 2\n  kind: KIND_CPU\n}\n"
        "dynamic_batching {\n  preferred_batch_size: 8\n  preferred_batch_size: 16\n"
        "  max_queue_delay_microseconds: 500\n}\n"
        'parameters {\n  key: "intra_op_thread_count"\n  value {\n    string_value: "1"\n  }\n}\n'
        'model_warmup {\n  name: "w"\n  batch_size: 1\n  inputs {\n    key: "x"\n    value {\n'
        "      data_type: TYPE_FP32\n      dims: 1\n      dims: 8\n      dims: 8\n      zero_data: true\n    }\n  }\n"
        '  count: 1\n}\nbackend: "onnxruntime"\n'
    )


def test_parameter_order_does_not_change_the_text() -> None:
    forward = _minimal(parameters={"a": "1", "b": "2", "c": "3"})
    backward = _minimal(parameters={"c": "3", "b": "2", "a": "1"})
    assert forward.to_pbtxt() == backward.to_pbtxt()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: ", "Expected"),
        ("shape_of_things: 3", "shape_of_things"),
        (_minimal().to_pbtxt() + "sequence_batching { max_sequence_idle_microseconds: 5 }", "sequence_batching"),
        (_minimal().to_pbtxt() + "version_policy { latest { num_versions: 2 } }", "version_policy"),
        (_minimal().to_pbtxt() + "instance_group { count: 1 }", "2 instance groups"),
        (_minimal().to_pbtxt().replace('backend: "onnxruntime"', ""), "backend"),
        (_minimal().to_pbtxt().replace("count: 1", "count: 1 kind: KIND_MODEL"), "MODEL"),
        (_minimal().to_pbtxt().replace("TYPE_FP32", "TYPE_INVALID"), "INVALID"),
        (_minimal().to_pbtxt().replace("dims: 8", "dims: -4"), "-4"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        ModelConfig.from_pbtxt(text, subject="model m")
    assert "model m" in str(caught.value)
    assert all("\n" not in problem.problem for problem in caught.value.problems)


def test_a_config_without_instance_group_reads_as_one_automatic_instance() -> None:
    text = (
        'name: "m" backend: "python" input { name: "x" data_type: TYPE_BOOL } output { name: "y" data_type: TYPE_BOOL }'
    )
    config = ModelConfig.from_pbtxt(text)
    assert config.instances == InstanceGroup(count=1, kind=InstanceKind.AUTO)
