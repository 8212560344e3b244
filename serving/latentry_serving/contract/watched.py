"""Which tensors of a bundle are watched for drift, and which calls carry them.

=============  =======================================================================
family         tensors
=============  =======================================================================
Encoder        input, embedding
Autoencoder    input, embedding (its latent), reconstruction_error
VAE            input, posterior_mean, posterior_log_variance, reconstruction_error
=============  =======================================================================

``reconstruction_error`` needs a decoder. A model with several inputs has one ``input/<name>`` each. A tensor whose
shape varies from call to call has no dimensions to watch. A profile may hold fewer: what never varies is left out.
"""

from math import prod
from typing import Literal

from pydantic import BaseModel, ConfigDict

from latentry_serving.contract.manifest import Contract, TensorSpec
from latentry_serving.contract.operations import (
    EMBEDDING,
    LATENT,
    POSTERIOR_LOG_VARIANCE,
    POSTERIOR_MEAN,
    RECONSTRUCTION_ERROR,
    Operation,
)

INPUT = "input"
MOST_DIMENSIONS = 16_384
"""Larger inputs (a photograph) are not watched themselves: their profile would be hundreds of megabytes."""
_ENCODE_NAMES = {
    EMBEDDING: EMBEDDING,
    LATENT: EMBEDDING,
    POSTERIOR_MEAN: POSTERIOR_MEAN,
    POSTERIOR_LOG_VARIANCE: POSTERIOR_LOG_VARIANCE,
}


class Watched(BaseModel):
    """One watched tensor.

    Attributes:
        name: in the profile, in metrics and in alarms.
        operation: whose calls carry it; inputs come with every call that takes the model's inputs.
        side: whether the call brings it or the answer does.
        tensor: its name in that call.
        dimensions: values per sample, the shape flattened.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    operation: Operation
    side: Literal["input", "output"]
    tensor: str
    dimensions: int


def watched_tensors(contract: Contract) -> tuple[Watched, ...]:
    """What can be watched of a bundle, inputs first."""
    encode = contract.operations[Operation.ENCODE]
    several = len(encode.inputs) > 1
    found = [
        _watched(f"{INPUT}/{tensor.name}" if several else INPUT, Operation.ENCODE, "input", tensor)
        for tensor in encode.inputs
        if _dimensions(tensor) <= MOST_DIMENSIONS and min(tensor.shape, default=1) > 0
    ]
    found += [
        _watched(_ENCODE_NAMES[tensor.name], Operation.ENCODE, "output", tensor)
        for tensor in encode.outputs
        if tensor.name in _ENCODE_NAMES
    ]
    score = contract.operations.get(Operation.SCORE)
    found += [
        _watched(RECONSTRUCTION_ERROR, Operation.SCORE, "output", tensor)
        for tensor in (score.outputs if score else ())
        if tensor.name == RECONSTRUCTION_ERROR
    ]
    return tuple(found)


def _watched(name: str, operation: Operation, side: Literal["input", "output"], tensor: TensorSpec) -> Watched:
    return Watched(name=name, operation=operation, side=side, tensor=tensor.name, dimensions=_dimensions(tensor))


def _dimensions(tensor: TensorSpec) -> int:
    return prod(tensor.shape)
