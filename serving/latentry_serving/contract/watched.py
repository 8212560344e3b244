"""Which tensors of a contract are watched for drift, and in which calls they pass. Pure: read by the profile's fit and
by the tap, so that both speak of the same vectors."""

import math
from typing import Literal, NamedTuple

from latentry_serving.contract import operations as names
from latentry_serving.contract.manifest import Contract, Datatype, TensorSpec
from latentry_serving.contract.operations import Operation

INPUT = "input"
EMBEDDING = "embedding"
"""An encoder's embedding, an autoencoder's latent."""
POSTERIOR_MEAN = names.POSTERIOR_MEAN
POSTERIOR_LOG_VARIANCE = names.POSTERIOR_LOG_VARIANCE
RECONSTRUCTION_ERROR = names.RECONSTRUCTION_ERROR

Side = Literal["request", "response"]

_OUTPUTS = {
    names.EMBEDDING: EMBEDDING,
    names.LATENT: EMBEDDING,
    names.POSTERIOR_MEAN: POSTERIOR_MEAN,
    names.POSTERIOR_LOG_VARIANCE: POSTERIOR_LOG_VARIANCE,
}
_TAKE_INPUTS = (Operation.ENCODE, Operation.RECONSTRUCT, Operation.SCORE)
_NO_NUMBERS = (Datatype.BYTES, Datatype.BF16)


class Source(NamedTuple):
    """Where a watched tensor passes: one tensor of one direction of an operation's calls."""

    operation: Operation
    side: Side
    tensor: str


class Watched(NamedTuple):
    """One watched tensor. A call's rows are flattened to [n, dimensions] float32, the batch dimension first."""

    name: str
    dimensions: int
    sources: tuple[Source, ...]


def watched_tensors(contract: Contract) -> tuple[Watched, ...]:
    """What can be watched of a model: its inputs, what encode answers, and score's reconstruction error.

    An input is named ``input``, or ``input/<tensor>`` where the model has several. Tensors whose shape varies or whose
    elements are no numbers are left out.
    """
    found: dict[str, tuple[int, list[Source]]] = {}

    def add(name: str, spec: TensorSpec, source: Source) -> None:
        if spec.datatype not in _NO_NUMBERS and all(size > 0 for size in spec.shape):
            found.setdefault(name, (math.prod(spec.shape), []))[1].append(source)

    for operation, call in contract.operations.items():
        if operation in _TAKE_INPUTS:
            for spec in call.inputs:
                name = INPUT if len(call.inputs) == 1 else f"{INPUT}/{spec.name}"
                add(name, spec, Source(operation, "request", spec.name))
        for spec in call.outputs:
            if operation is Operation.ENCODE and spec.name in _OUTPUTS:
                add(_OUTPUTS[spec.name], spec, Source(operation, "response", spec.name))
            if operation is Operation.SCORE and spec.name == names.RECONSTRUCTION_ERROR:
                add(RECONSTRUCTION_ERROR, spec, Source(operation, "response", spec.name))
    return tuple(Watched(name, size, tuple(sources)) for name, (size, sources) in found.items())
