"""How Triton runs each operation: the bundle's ``config.pbtxt`` files. Pure."""

from collections.abc import Mapping

from latentry_serving.bundle.spec import RuntimeSpec
from latentry_serving.contract.manifest import OperationContract
from latentry_serving.triton.model_config import (
    ONNXRUNTIME_BACKEND,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    TensorConfig,
    Warmup,
    WarmupInput,
)


def model_config(
    contract: OperationContract, runtime: RuntimeSpec, example_shapes: Mapping[str, tuple[int, ...]]
) -> ModelConfig:
    """The configuration of one operation.

    Args:
        contract: the operation.
        runtime: batching and instances.
        example_shapes: a real shape per input without the batch dimension, for warm-up where the contract's varies.
    """
    # Zeros are valid for every input: a random token id could lie outside a vocabulary and fail the start.
    warm_inputs = {
        tensor.name: WarmupInput(datatype=tensor.datatype, shape=example_shapes[tensor.name])
        for tensor in contract.inputs
    }
    sizes = sorted({1, runtime.max_batch_size})
    return ModelConfig(
        name=contract.model,
        backend=ONNXRUNTIME_BACKEND,
        max_batch_size=runtime.max_batch_size,
        inputs=tuple(TensorConfig.of(tensor) for tensor in contract.inputs),
        outputs=tuple(TensorConfig.of(tensor) for tensor in contract.outputs),
        instances=InstanceGroup(count=runtime.instances),
        dynamic_batching=DynamicBatching(max_queue_delay_us=runtime.max_queue_delay.microseconds)
        if runtime.max_batch_size > 1
        else None,
        warmup=tuple(Warmup(name=f"batch_of_{size}", batch_size=size, inputs=warm_inputs) for size in sizes),
    )
