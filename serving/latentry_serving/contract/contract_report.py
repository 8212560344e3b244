"""The document behind the tap's `/contract`: what clients may rely on, as it is served."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from latentry_serving.contract.manifest import Contract, Sha256
from latentry_serving.contract.operations import Operation


class LatentBaseline(BaseModel):
    """What a bundle's own profile says about its latent dimensions."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    dimensions: int
    active: int
    """That answer to the input, over the profile's reference. VAE: the posterior mean's variance over inputs is above
    0.01 (active units: Burda, Grosse, Salakhutdinov, 1509.00519, 5.2). Otherwise: not dead, see ``health/encoder.py``.
    """


class ContractReport(BaseModel):
    """A bundle's contract, and what Triton makes of it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    version: str
    digest: Sha256
    contract: Contract
    max_batch_sizes: dict[Operation, int] | None
    """Most rows of one request, as Triton runs the model; 0 where a request is no batch. None until Triton told."""
    baseline: LatentBaseline | None = None
    """None for a bundle whose profile says nothing about its latent dimensions."""
