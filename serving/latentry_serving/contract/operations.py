"""Families of latent models, the operations each offers, and the tensor names those operations use."""

from enum import StrEnum


class Family(StrEnum):
    """What kind of model it is; it decides which operations exist."""

    ENCODER = "Encoder"
    AUTOENCODER = "Autoencoder"
    VAE = "VAE"


class Operation(StrEnum):
    """What a client can ask of a model. Each one is one Triton model, named ``<bundle>_<operation>``."""

    ENCODE = "encode"
    DECODE = "decode"
    RECONSTRUCT = "reconstruct"
    SCORE = "score"
    SAMPLE = "sample"


OPERATIONS: dict[Family, tuple[Operation, ...]] = {
    Family.ENCODER: (Operation.ENCODE,),
    Family.AUTOENCODER: (Operation.ENCODE, Operation.DECODE, Operation.RECONSTRUCT, Operation.SCORE),
    Family.VAE: (Operation.ENCODE, Operation.DECODE, Operation.RECONSTRUCT, Operation.SCORE, Operation.SAMPLE),
}
"""The operations a family has when all its graphs are given."""

# Tensor names of the composed graphs. The model's own input keeps the name the user gave it.
EMBEDDING = "embedding"
"""Encoder's encode output, [batch, d]."""
LATENT = "latent"
"""Autoencoder's encode output and every decode input, [batch, d]."""
POSTERIOR_MEAN = "posterior_mean"
"""VAE's encode output, [batch, d]."""
POSTERIOR_LOG_VARIANCE = "posterior_log_variance"
"""VAE's encode output, natural log of the posterior variance, [batch, d]."""
RECONSTRUCTION = "reconstruction"
"""Output of decode and reconstruct, shaped as the model's input."""
RECONSTRUCTION_ERROR = "reconstruction_error"
"""Output of score, one number per sample, [batch, 1]."""
KL_PER_DIMENSION = "kl_per_dimension"
"""Output of a VAE's score: KL(q(z_d|x) || p(z_d)) in nats, [batch, d]."""
NOISE = "noise"
"""Input of sample: standard normal draws, [batch, d]; explicit so that a call is reproducible."""
SAMPLE = "sample"
"""Output of sample: decode(prior mean + prior standard deviation * noise), shaped as the model's input."""


def model_name(bundle_name: str, operation: Operation) -> str:
    """The Triton model name under which clients call an operation."""
    return f"{bundle_name}_{operation}"
